"""The tree a document becomes: plain values that remember where they stood, and the faults found in it.

Floor 5.

* A tree holds str, int, float, bool and None in lists and mappings with text keys, nothing else.
* Lines and columns count from 1; a column counts characters, not bytes.
* A YAML alias shares the node of its anchor, so a tree is read and never changed.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

import msgspec

EXCERPT_CHARS_MAX = 60

_WORD = re.compile(r"[^\W\d][\w-]*")


class Mark(NamedTuple):
    """A place in a document: line and column, both from 1."""

    line: int
    column: int


NOWHERE = Mark(0, 0)
"""The place of a fault that concerns the whole file (it is missing, too large, of an unknown kind)."""

ScalarValue: TypeAlias = str | int | float | bool | None


class Scalar(msgspec.Struct, frozen=True, gc=False):
    """A single value."""

    value: ScalarValue
    mark: Mark


class Sequence(msgspec.Struct, frozen=True):
    """A list of nodes, in the order they were written."""

    value: list["Node"]
    mark: Mark


class Mapping(msgspec.Struct, frozen=True):
    """Nodes by key, in the order they were written; ``keys`` says where each key stands."""

    value: dict[str, "Node"]
    mark: Mark
    keys: dict[str, Mark]


Node: TypeAlias = Scalar | Sequence | Mapping


class Fault(NamedTuple):
    """One thing that is wrong with a document, for the person who wrote it.

    ``path`` leads to the value (``steps[2].fork.a[0].timeout``) and is empty at the top of the document.
    """

    file: str
    mark: Mark
    path: str
    sentence: str

    def __str__(self) -> str:
        place = self.file if self.mark == NOWHERE else f"{self.file}:{self.mark.line}:{self.mark.column}"
        return f"{place}: {self.path}: {self.sentence}" if self.path else f"{place}: {self.sentence}"


class DocumentError(Exception):
    """The document cannot be used; ``faults`` holds all that was found, in the order of the text."""

    faults: tuple[Fault, ...]

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: (fault.file, fault.mark)))
        super().__init__(self.faults)

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)


def plain(node: Node) -> Any:
    """Return the values of a tree without their places: str, int, float, bool, None, list and dict.

    Lists and dicts are new ones, also where an alias shares a node.
    """
    match node:
        case Scalar(value=value):
            return value
        case Sequence(value=items):
            return [plain(item) for item in items]
        case Mapping(value=entries):
            return {key: plain(entry) for key, entry in entries.items()}


def join_path(parent: str, step: str | int) -> str:
    """Return the path one step below ``parent``: a key gives ``a.b``, an index ``a[0]``, an odd key ``a["b c"]``."""
    if isinstance(step, int):
        return f"{parent}[{step}]"
    if len(step) <= EXCERPT_CHARS_MAX and _WORD.fullmatch(step):
        return f"{parent}.{step}" if parent else step
    return f'{parent}["{printable(step, EXCERPT_CHARS_MAX)}"]'


def printable(text: str, chars_max: int | None = None) -> str:
    """Return ``text`` fit for one line of a terminal: what does not print is escaped, what is too long is cut.

    Why: file names and keys come from people and programs, and may hold line breaks, escapes or lone surrogates.
    """
    cut = text if chars_max is None or len(text) <= chars_max else text[:chars_max] + "…"
    if cut.isprintable():
        return cut
    return "".join(char if char.isprintable() else _escaped(char) for char in cut)


def quoted(text: str) -> str:
    """Return ``text`` in single quotes for a sentence, printable and cut to ``EXCERPT_CHARS_MAX`` characters."""
    return f"'{printable(text, EXCERPT_CHARS_MAX)}'"


def _escaped(char: str) -> str:
    """Write one character that does not print as the escape a person would type."""
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char)
    if short is not None:
        return short
    code = ord(char)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
