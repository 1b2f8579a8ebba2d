"""Faults of a conversion: collected with place and path, and what the source text says about a place. Floor 5.

* At most `FAULTS_MAX` faults are told; then the conversion ends at once.
* A path is kept as a chain and written out only when a fault needs it.
* Without the source text every answer is still right, only less exact.
"""

import difflib
import re
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NoReturn, TypeAlias

from engine.documents.node import (
    DocumentError,
    Fault,
    Mapping,
    Mark,
    Node,
    Scalar,
    ScalarValue,
    Sequence,
    join_path,
    printable,
    quoted,
)
from engine.documents.scalars import ScalarError, core_value
from engine.documents.tree import FAULTS_MAX
from engine.model.expression import ExpressionError

SENTENCE_CHARS_MAX = 400  # of a sentence that came from elsewhere
WORDS_MAX = 1_000  # known words looked at for a "did you mean"

Path: TypeAlias = "tuple[Path, str | int] | None"

_LINE_END = re.compile(r"\r\n|\r|\n")
_PROPERTIES = re.compile(r"(?:[&!]\S+[ \t]+)*")  # an anchor or a tag before a YAML value
_WORD = re.compile(r"[-+.\w]+")


class Source:
    """The text of a document by lines. `read` is asked once, and only when a fault or a number needs the text."""

    def __init__(self, read: Callable[[], str | bytes | None]) -> None:
        self._read = read
        self._lines: list[str] | None = None

    def word_at(self, mark: Mark) -> str | None:
        """Return the number or word as it is written at a mark, None when the text is not at hand or is no word."""
        line, start = self._line(mark)
        found = _WORD.match(line, start)
        return found[0] if found else None

    def column_in(self, scalar: Scalar, column: int) -> Mark | None:
        """Return where a column (from 1) of a scalar's text stands in the document, None when that is not certain."""
        line, start = self._line(scalar.mark)
        value = str(scalar.value)
        quote = line[start : start + 1]
        if quote in ('"', "'") and line.startswith(value + quote, start + 1):
            return Mark(scalar.mark.line, start + 1 + column)
        if line.startswith(value, start):
            return Mark(scalar.mark.line, start + column)
        return None

    def _line(self, mark: Mark) -> tuple[str, int]:
        """Return the line of a mark and the offset in it at which the value itself begins."""
        if self._lines is None:
            self._lines = _LINE_END.split(_text(self._read()))
        line = self._lines[mark.line - 1] if 0 < mark.line <= len(self._lines) else ""
        found = _PROPERTIES.match(line, mark.column - 1)
        return line, found.end() if found else len(line)


class Faults:
    """The faults of one document, in the order in which they were found."""

    def __init__(self, file: str, source: Source) -> None:
        self.file = file
        self.source = source
        self._found: list[Fault] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, mark: Mark, path: Path, sentence: str) -> None:
        """Keep a fault; the last one that fits ends the conversion."""
        self._found.append(Fault(self.file, mark, path_text(path), sentence))
        if len(self._found) >= FAULTS_MAX:
            self._found.append(Fault(self.file, mark, "", f"Reading ended here, after {FAULTS_MAX} faults."))
            self.stop()

    def add_expression(self, scalar: Scalar, path: Path, error: ExpressionError) -> None:
        """Keep a fault inside an expression, at its own place in the document where that is certain."""
        is_text = error.source == scalar.value
        mark = self.source.column_in(scalar, error.column) if is_text else scalar.mark
        message = error.message if mark else str(error)
        self.add(mark or scalar.mark, path, f"The expression can not be read: {bounded(message)}.")

    def stop(self) -> NoReturn:
        """Raise all faults."""
        raise DocumentError(self._found)


def path_text(path: Path) -> str:
    """Write a path as people see it: `steps[2].fork.a[0].timeout`."""
    steps: list[str | int] = []
    while path is not None:
        path, step = path
        steps.append(step)
    text = ""
    for step in reversed(steps):
        text = join_path(text, step)
    return text


def what(node: Node) -> str:
    """Say what a node is, as the end of `not …`."""
    match node:
        case Sequence(value=[]):
            return "an empty list"
        case Sequence():
            return "a list"
        case Mapping(value=entries):
            return "a mapping" if entries else "an empty mapping"
        case Scalar(value=None):
            return "empty"
        case Scalar(value=bool() as flag):
            return str(flag).lower()
        case Scalar(value=str() as text):
            return f"the text {quoted(text)}" if text else "an empty text"
        case Scalar(value=number):
            return f"the number {number}"


def text_of(value: str | float | bool) -> str:
    """Write a single value as the document's own notation has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else repr(value)


def same_scalar(word: str, value: ScalarValue) -> bool:
    """Tell whether a word of the source is read as this very value."""
    try:
        return core_value(word) == value
    except ScalarError:
        return False


def sentence_of(text: str) -> str:
    """Make a sentence of an error's text: bounded, on one line, with a capital (names keep theirs) and a full stop."""
    text = bounded(text).rstrip(".")
    start = text[:1].upper() if text.partition(" ")[0].isalpha() else text[:1]
    return f"{start}{text[1:]}."


def bounded(text: str) -> str:
    """Return an error's text fit for one line."""
    return printable(text, SENTENCE_CHARS_MAX)


def suggestion(wanted: str, known: Iterable[str]) -> str | None:
    """Return the known word that a wrong one is most likely meant to be; case, `-` and blanks do not count."""
    folded: dict[str, str] = {}
    for word in islice(known, WORDS_MAX):
        folded.setdefault(_folded(word), word)
    close = difflib.get_close_matches(_folded(wanted), folded, n=1)
    return folded[close[0]] if close else None


def meant(wanted: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return the end of a sentence about a wrong word: `: did you mean 'x'?`, or what is said otherwise."""
    close = suggestion(wanted, known)
    return f": did you mean {quoted(close)}?" if close else f"{otherwise}."


def _folded(word: str) -> str:
    word = word.lower() if word.isupper() else word
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in word).replace("-", "_").replace(" ", "_")


def _text(read: str | bytes | None) -> str:
    if isinstance(read, bytes):
        read = read.decode("utf-8", "replace")
    return (read or "").removeprefix("\ufeff")
