"""The growing tree: what YAML and JSON have in common once their syntax is read, with every bound on it.

Floor 5.

* Nesting, nodes, text length and the number of faults are bounded while the tree grows, not afterwards.
* An alias counts as everything it stands for: a tree never expands beyond the bounds of a document without aliases.
* A tree with a single fault is never given out.
"""

from typing import NamedTuple

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
    quoted,
)

DOCUMENT_BYTES_MAX = 1_048_576
NESTING_LEVELS_MAX = 64
NODES_MAX = 100_000
TEXT_CHARS_MAX = 262_144
KEY_CHARS_MAX = 255
FAULTS_MAX = 100


class Size(NamedTuple):
    """What a subtree counts for: nodes, characters of its texts and keys, levels of nesting (0 for a scalar)."""

    nodes: int
    chars: int
    levels: int


class _Frame:
    """A container that is still open; ``key`` is the key that waits for its value, ``levels`` the deepest child."""

    __slots__ = ("as_key", "chars_before", "key", "levels", "node", "nodes_before")

    def __init__(self, node: Sequence | Mapping, nodes_before: int, chars_before: int, as_key: bool) -> None:
        self.node = node
        self.nodes_before = nodes_before
        self.chars_before = chars_before
        self.as_key = as_key
        self.key: str | None = None
        self.levels = 0


class Tree:
    """A tree that grows by the calls of a reader: ``open``, ``key``, ``scalar``, ``graft``, ``close``, ``finish``.

    The reader calls them in the order of the text. A fault that does not hinder reading is collected by ``fault``;
    ``stopped`` gives the error that ends reading at once, with all faults so far.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.faults: list[Fault] = []
        self.nodes = 0
        self.chars = 0
        self._frames: list[_Frame] = []
        self._root: Node | None = None

    @property
    def innermost(self) -> Sequence | Mapping | None:
        """The container that is open now, None at the top of the document."""
        return self._frames[-1].node if self._frames else None

    @property
    def wants_key(self) -> bool:
        """Whether the next node would be a key of a mapping."""
        if not self._frames:
            return False
        frame = self._frames[-1]
        return frame.key is None and type(frame.node) is Mapping

    def open(self, node: Sequence | Mapping) -> None:
        """Begin a container, which stands empty in ``node``; in a key's place it is read and forgotten."""
        self._count(node.mark, 1, 0)
        if len(self._frames) >= NESTING_LEVELS_MAX:
            raise self._too_deep(node.mark)
        self._frames.append(_Frame(node, self.nodes - 1, self.chars, self.wants_key))

    def close(self) -> Size:
        """End the innermost container and return what it counts for."""
        frame = self._frames.pop()
        size = Size(self.nodes - frame.nodes_before, self.chars - frame.chars_before, frame.levels + 1)
        if frame.as_key:
            self._frames[-1].key = "?"
        else:
            self._attach(frame.node, size.levels)
        return size

    def key(self, text: str, mark: Mark) -> None:
        """Take the key of the next value; one that stands twice in its mapping is a fault."""
        frame = self._frames[-1]
        frame.key = text
        self._count(mark, 0, len(text))
        assert type(frame.node) is Mapping
        keys = frame.node.keys
        if text in keys:
            first = keys[text]
            self.fault(
                mark,
                f"The key {quoted(text)} stands twice in this mapping, first at {at(first)}: remove or rename one.",
            )
            return
        keys[text] = mark
        if len(text) > KEY_CHARS_MAX:
            self.fault(mark, f"This key has {len(text)} characters; at most {KEY_CHARS_MAX} are allowed.")
        elif not text.isprintable() and any(is_control(char) for char in text):
            self.fault(mark, "A key cannot hold control characters: remove them.")

    def bad_key(self, shown: str, mark: Mark, sentence: str) -> None:
        """Report a key that is no usable text and read on with ``shown`` in its place."""
        self._frames[-1].key = shown
        self.fault(mark, sentence)

    def scalar(self, value: ScalarValue, mark: Mark) -> Scalar:
        """Take a single value."""
        chars = len(value) if type(value) is str else 0
        self._count(mark, 1, chars)
        if chars > TEXT_CHARS_MAX:
            self.fault(mark, f"This text has {chars} characters; at most {TEXT_CHARS_MAX} are allowed.")
        node = Scalar(value, mark)
        self._attach(node, 0)
        return node

    def graft(self, node: Node, size: Size, mark: Mark) -> None:
        """Let a finished subtree stand at another place too, counted as if it were written out there."""
        self._count(mark, size.nodes, size.chars)
        if len(self._frames) + size.levels > NESTING_LEVELS_MAX:
            raise self._too_deep(mark)
        self._attach(node, size.levels)

    def fault(self, mark: Mark, sentence: str) -> None:
        """Collect a fault at the present place of the tree; the last one that fits ends reading."""
        self.faults.append(Fault(self.file, mark, self.path(), sentence))
        if len(self.faults) >= FAULTS_MAX:
            self.faults.append(Fault(self.file, mark, "", f"Reading ended here, after {FAULTS_MAX} faults."))
            raise DocumentError(self.faults)

    def stopped(self, mark: Mark, sentence: str) -> DocumentError:
        """Return the error that ends reading: this fault and all collected before it."""
        self.faults.append(Fault(self.file, mark, self.path(), sentence))
        return DocumentError(self.faults)

    def finish(self) -> Node:
        """Return the whole tree, or raise DocumentError when any fault was collected."""
        if self.faults:
            raise DocumentError(self.faults)
        assert self._root is not None, "a reader finished without a root"
        return self._root

    def path(self) -> str:
        """Return the path of the place that is read now."""
        path = ""
        for frame in self._frames:
            if isinstance(frame.node, Sequence):
                path = join_path(path, len(frame.node.value))
            elif frame.key is not None:
                path = join_path(path, frame.key)
        return path

    def _attach(self, node: Node, levels: int) -> None:
        if not self._frames:
            self._root = node
            return
        frame = self._frames[-1]
        frame.levels = max(frame.levels, levels)
        if isinstance(frame.node, Sequence):
            frame.node.value.append(node)
        else:
            assert frame.key is not None, "a reader gave a value without its key"
            frame.node.value[frame.key] = node
            frame.key = None

    def _count(self, mark: Mark, nodes: int, chars: int) -> None:
        self.nodes += nodes
        self.chars += chars
        if self.nodes > NODES_MAX:
            raise self.stopped(mark, f"The document has more than {NODES_MAX} values, aliases written out: split it.")
        if self.chars > DOCUMENT_BYTES_MAX:
            raise self.stopped(
                mark, f"With its aliases written out the document has over {DOCUMENT_BYTES_MAX} characters."
            )

    def _too_deep(self, mark: Mark) -> DocumentError:
        return self.stopped(
            mark, f"Lists and mappings nest more than {NESTING_LEVELS_MAX} levels deep here: flatten them."
        )


def at(mark: Mark) -> str:
    """Return a place in words: ``line 3, column 5``."""
    return f"line {mark.line}, column {mark.column}"


def is_control(char: str) -> bool:
    """Tell whether a character is a control character (C0, DEL, C1)."""
    code = ord(char)
    return code < 0x20 or 0x7F <= code <= 0x9F
