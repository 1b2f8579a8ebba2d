"""The strict loader: text from people becomes a tree of plain values with positions, or a list of all its faults.

Floor 5.

* Whatever the bytes are, the answer is a Node or a DocumentError: no other exception, no crash, bounded memory.
* At most ``DOCUMENT_BYTES_MAX`` bytes are read, and never more of a file than that.
* Nothing about workflows is known here.
"""

import os
import re
import stat
from pathlib import Path
from typing import Literal, NoReturn

from engine.documents.json_source import read_json
from engine.documents.node import NOWHERE, DocumentError, Fault, Mark, Node, printable
from engine.documents.tree import DOCUMENT_BYTES_MAX
from engine.documents.yaml_source import end_of, read_yaml

Kind = Literal["yaml", "json"]

SUFFIXES: dict[str, Kind] = {".yaml": "yaml", ".yml": "yaml", ".json": "json"}

# Control characters and half surrogate pairs stand raw in no document. YAML 1.1 parsers take three of these for line
# breaks, so a text would change its value; the rest is not printable in YAML or cannot be seen.
_REFUSED: dict[Kind, re.Pattern[str]] = {
    "json": re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]"),
    "yaml": re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\ufeff\ufffe\uffff]"),
}
_BYTE_ORDER_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


def load_file(path: Path) -> Node:
    """Read a document from a file; its suffix (.yaml, .yml, .json) tells the kind.

    Raises DocumentError also when the file is missing, unreadable, no regular file, too large or of another kind.
    Reads and parses synchronously: a loop calls it in a thread.
    """
    file = printable(str(path))
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        _refuse(file, f"The kind of this file is not known: its name must end with {', '.join(SUFFIXES)}.")
    return load_text(_read(path, file), file=file, kind=kind)


def load_text(text: str | bytes, *, file: str = "<text>", kind: Kind | None = None) -> Node:
    """Read a document from text or UTF-8 bytes; ``file`` is its name in faults.

    Without ``kind`` the suffix of ``file`` tells it, and YAML is taken where that says nothing.
    Raises DocumentError with all faults that were found, in the order of the text.
    """
    known = kind or SUFFIXES.get(os.path.splitext(file)[1].lower(), "yaml")
    decoded = _decoded(text, file)
    _refuse_characters(decoded, file, known)
    return read_json(decoded, file) if known == "json" else read_yaml(decoded, file)


def _read(path: Path, file: str) -> bytes:
    """Return the bytes of a regular file, one more than allowed at most."""
    try:
        # Without O_NONBLOCK the opening of a named pipe waits for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                _refuse(file, "This is no regular file.")
            with open(descriptor, "rb", closefd=False) as opened:
                content = opened.read(DOCUMENT_BYTES_MAX + 1)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        # ValueError: a name with a NUL in it.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        _refuse(file, f"The file cannot be read: {reason}.")
    if len(content) > DOCUMENT_BYTES_MAX:
        _refuse_size(file, max(status.st_size, len(content)))
    return content


def _decoded(text: str | bytes, file: str) -> str:
    """Return the text without its byte order mark, within the bound on size."""
    if isinstance(text, str):
        # A character is 1 to 4 bytes; only a text that may be too large is encoded to count them.
        if len(text) > DOCUMENT_BYTES_MAX:
            _refuse(file, f"The document has {len(text)} characters; at most {DOCUMENT_BYTES_MAX} bytes are read.")
        if len(text) * 4 > DOCUMENT_BYTES_MAX:
            size = len(text.encode("utf-8", "surrogatepass"))
            if size > DOCUMENT_BYTES_MAX:
                _refuse_size(file, size)
        return text.removeprefix("\ufeff")
    if len(text) > DOCUMENT_BYTES_MAX:
        _refuse_size(file, len(text))
    for mark, name in _BYTE_ORDER_MARKS:
        if text.startswith(mark):
            _refuse(file, f"The document is written in {name}: save it as UTF-8.")
    try:
        return text.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = text[: error.start].decode("utf-8").removeprefix("\ufeff")
        sentence = f"The byte 0x{text[error.start]:02x} at offset {error.start} is not UTF-8: save the file as UTF-8."
        raise DocumentError([Fault(file, end_of(before), "", sentence)]) from None


def _refuse_characters(text: str, file: str, kind: Kind) -> None:
    """Refuse a document with characters that none holds, at the first of them."""
    pattern = _REFUSED[kind]
    found = pattern.search(text)
    if found is None:
        return
    code = ord(found[0])
    count = sum(1 for _ in pattern.finditer(text, found.end()))
    more = f" (and {count} more such characters behind it)" if count else ""
    if code == 0 or 0xD800 <= code <= 0xDFFF:
        remedy = "remove it"
    else:
        remedy = f"remove it, or write it as \\u{code:04x} in double quotes"
    sentence = f"The character U+{code:04X} cannot stand here{more}: {remedy}."
    raise DocumentError([Fault(file, end_of(text[: found.start()]), "", sentence)])


def _refuse(file: str, sentence: str) -> NoReturn:
    raise DocumentError([Fault(file, NOWHERE, "", sentence)]) from None


def _refuse_size(file: str, size: int) -> NoReturn:
    _refuse(file, f"The document has {size} bytes; at most {DOCUMENT_BYTES_MAX} are read.")


__all__ = ["DOCUMENT_BYTES_MAX", "SUFFIXES", "DocumentError", "Fault", "Kind", "Mark", "Node", "load_file", "load_text"]
