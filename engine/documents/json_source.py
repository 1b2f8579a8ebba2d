"""The strict reader of JSON documents, which knows where every value stands.

Floor 5.

* RFC 8259 to the letter: no comments, no trailing commas, no NaN, nothing after the value.
* Duplicate keys are refused; surrogate pairs become one character, halves of one are refused.
* It does not recurse: nesting costs memory of ours, bounded by the tree, and no stack.
"""

import re
from bisect import bisect_right
from enum import Enum, auto

from engine.documents.node import DocumentError, Mapping, Mark, Node, ScalarValue, Sequence, printable, quoted
from engine.documents.scalars import ScalarError, floating, integer
from engine.documents.tree import Tree, at

_BLANKS = re.compile(r"[ \t\n\r]*")
_RAW = re.compile(r'[^"\\\x00-\x1f]*')
_ESCAPE = re.compile(r'\\(?:(?P<short>["\\/bfnrt])|u(?P<code>[0-9a-fA-F]{4}))')
_LOW_HALF = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?P<float>(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)")
_NUMBER_LIKE = re.compile(r"[-+.0-9A-Za-z_]+")
_WORD = re.compile(r"[\w$-]+")

_NUMBER_STARTS = frozenset("-+.0123456789")
_WORDS: dict[str, ScalarValue] = {"true": True, "false": False, "null": None}
_NOT_FINITE = frozenset(("nan", "inf", "infinity"))
_SHORT = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class _Want(Enum):
    """What may stand next."""

    VALUE = auto()
    VALUE_OR_END = auto()
    KEY = auto()
    KEY_OR_END = auto()
    COMMA_OR_END = auto()
    NOTHING = auto()


def read_json(text: str, file: str) -> Node:
    """Read one JSON document; raise DocumentError with every fault that was found.

    The caller has bounded the size and refused characters that no document holds (see ``loader``).
    """
    return _JsonReader(text, file).read()


class _JsonReader:
    """One pass over one document; ``_at`` is the offset of the next character."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._at = 0
        self._tree = Tree(file)
        self._line_starts = [0, *(found.end() for found in re.finditer(r"\r\n|\r|\n", text))]

    def read(self) -> Node:
        want = _Want.VALUE
        while True:
            self._skip_blanks()
            char = self._text[self._at : self._at + 1]
            if want is _Want.NOTHING:
                if char:
                    raise self._likeliest("Text follows after the document: a JSON file holds one value.")
                return self._tree.finish()
            want = self._step(want, char)

    def _step(self, want: _Want, char: str) -> _Want:
        """Read what stands at ``char`` and return what may stand after it."""
        if want is _Want.COMMA_OR_END:
            return self._take_comma_or_end(char)
        if char in ("]", "}") and char:
            if want is _Want.VALUE_OR_END or want is _Want.KEY_OR_END:
                return self._take_end(char)
            raise self._missing_value(char)
        if want is _Want.KEY or want is _Want.KEY_OR_END:
            self._take_key(char)
            return _Want.VALUE
        return self._take_value(char)

    def _take_value(self, char: str) -> _Want:
        mark = self._mark(self._at)
        if char == '"':
            self._tree.scalar(self._string(), mark)
        elif char == "{":
            self._at += 1
            self._tree.open(Mapping({}, mark, {}))
            return _Want.KEY_OR_END
        elif char == "[":
            self._at += 1
            self._tree.open(Sequence([], mark))
            return _Want.VALUE_OR_END
        elif char in _NUMBER_STARTS:
            self._tree.scalar(self._number(mark), mark)
        else:
            self._tree.scalar(self._word(mark), mark)
        return self._after_value()

    def _take_key(self, char: str) -> None:
        if char != '"':
            found = _WORD.match(self._text, self._at)
            shown = f" {quoted(found[0])}" if found else ""
            raise self._likeliest(f"A key{shown} must stand in double quotes here.")
        mark = self._mark(self._at)
        key = self._string()
        self._tree.key(key, mark)
        self._skip_blanks()
        if self._text[self._at : self._at + 1] != ":":
            raise self._likeliest(f"A ':' must stand between the key {quoted(key)} and its value.")
        self._at += 1

    def _take_comma_or_end(self, char: str) -> _Want:
        if char == ",":
            self._at += 1
            return _Want.KEY if isinstance(self._tree.innermost, Mapping) else _Want.VALUE
        if char in ("]", "}") and char:
            return self._take_end(char)
        raise self._likeliest(f"A comma is missing before this, or the end of {self._innermost()}.")

    def _take_end(self, char: str) -> _Want:
        closing = "}" if isinstance(self._tree.innermost, Mapping) else "]"
        if char != closing:
            raise self._stopped(f"'{char}' stands here, and {self._innermost()} is closed by '{closing}'.")
        self._at += 1
        self._tree.close()
        return self._after_value()

    def _after_value(self) -> _Want:
        return _Want.NOTHING if self._tree.innermost is None else _Want.COMMA_OR_END

    def _number(self, mark: Mark) -> ScalarValue:
        found = _NUMBER_LIKE.match(self._text, self._at)
        assert found is not None, "called at a character that begins a number"
        text = found[0]
        number = _NUMBER.fullmatch(text)
        if number is None:
            if text.lstrip("+-").lower() in _NOT_FINITE:
                self._not_finite(text, mark)
                return None
            raise self._stopped(
                f"{quoted(text)} is no JSON number: no '+', no zero in front, digits on both sides of the point, "
                "and a text stands in double quotes."
            )
        self._at = found.end()
        try:
            return floating(text) if number["float"] else integer(text)
        except ScalarError as error:
            self._tree.fault(mark, str(error))
            return None

    def _word(self, mark: Mark) -> ScalarValue:
        found = _WORD.match(self._text, self._at)
        if found is None:
            raise self._likeliest("A value is expected here.")
        word = found[0]
        if word in _WORDS:
            self._at = found.end()
            return _WORDS[word]
        if word.lower() in _NOT_FINITE:
            self._not_finite(word, mark)
            return None
        if word.lower() in ("true", "false", "null", "none"):
            raise self._stopped(f"JSON writes true, false and null in small letters, not {quoted(word)}.")
        raise self._stopped(f"A text stands in double quotes in JSON: {quoted(word)} does not.")

    def _not_finite(self, text: str, mark: Mark) -> None:
        self._at += len(text)
        self._tree.fault(mark, f"The number {quoted(text)} is not finite: write it in double quotes if it is a text.")

    def _string(self) -> str:
        """Read the text that begins with the quotation mark at the present offset."""
        text, start = self._text, self._at
        found = _RAW.match(text, start + 1)
        assert found is not None, "the pattern matches nothing too"
        end = found.end()
        if text[end : end + 1] == '"':
            self._at = end + 1
            return found[0]
        parts = [found[0]]
        while (char := text[end : end + 1]) != '"':
            if char != "\\":
                raise self._unclosed(start, end, char)
            part, end = self._escape(end)
            found = _RAW.match(text, end)
            assert found is not None, "the pattern matches nothing too"
            parts += (part, found[0])
            end = found.end()
        self._at = end + 1
        return "".join(parts)

    def _escape(self, offset: int) -> tuple[str, int]:
        """Read one escape, or the two of a surrogate pair; return its character and the offset behind it."""
        found = _ESCAPE.match(self._text, offset)
        if found is None:
            self._at = offset
            escape = self._text[offset : offset + 2]
            if escape == "\\u":
                raise self._stopped("The escape \\u wants four hexadecimal digits.")
            raise self._stopped(f"{quoted(escape)} is no JSON escape: write \\\\ for a backslash.")
        if found["short"]:
            return _SHORT[found["short"]], found.end()
        code, end = int(found["code"], 16), found.end()
        if code == 0:
            self._tree.fault(self._mark(offset), "A text cannot hold the character NUL (U+0000): remove its escape.")
        elif 0xD800 <= code <= 0xDFFF:
            low = _LOW_HALF.match(self._text, end) if code < 0xDC00 else None
            if low is not None:
                return chr(0x10000 + ((code - 0xD800) << 10) + (int(low[1], 16) - 0xDC00)), low.end()
            self._tree.fault(
                self._mark(offset), f"The escape {quoted(found[0])} is half of a surrogate pair: add its other half."
            )
            return "\ufffd", end
        return chr(code), end

    def _skip_blanks(self) -> None:
        found = _BLANKS.match(self._text, self._at)
        assert found is not None, "the pattern matches nothing too"
        self._at = found.end()

    def _mark(self, offset: int) -> Mark:
        line = bisect_right(self._line_starts, offset)
        return Mark(line, offset - self._line_starts[line - 1] + 1)

    def _innermost(self) -> str:
        """Name the container that is open, by its kind and where it was opened."""
        node = self._tree.innermost
        assert node is not None, "asked only inside a container"
        return f"the {'mapping' if isinstance(node, Mapping) else 'list'} opened at {at(node.mark)}"

    def _stopped(self, sentence: str) -> DocumentError:
        return self._tree.stopped(self._mark(self._at), sentence)

    def _likeliest(self, sentence: str) -> DocumentError:
        """Return the error for the present offset: the text ends, a comment, single quotes, or else ``sentence``."""
        rest = self._text[self._at : self._at + 2]
        if not rest:
            if self._tree.innermost is None:
                return self._stopped("The document is empty.")
            return self._stopped(f"The text ends before {self._innermost()} is closed.")
        if rest.startswith(("//", "/*", "#")):
            return self._stopped("JSON has no comments: remove this one, or write the document as YAML.")
        if rest[0] in "'`":
            return self._stopped(f"JSON writes texts and keys in double quotes, not in {rest[0]}.")
        return self._stopped(sentence)

    def _missing_value(self, char: str) -> DocumentError:
        before = self._text[: self._at].rstrip(" \t\n\r")
        if before.endswith(","):
            return self._stopped(f"A comma stands before this '{char}': remove the comma.")
        return self._stopped(f"A value is missing before this '{char}'.")

    def _unclosed(self, start: int, end: int, char: str) -> DocumentError:
        """Return the error for a text that meets the end of the document or a raw line break, tab."""
        if char == "\t":
            self._at = end
            return self._stopped("A tab inside a text is written as \\t.")
        self._at = start
        line = printable(self._text[start : start + 20])
        return self._stopped(
            f"The text that begins here ({line}…) has no end on its line: close it, or write a line break as \\n."
        )
