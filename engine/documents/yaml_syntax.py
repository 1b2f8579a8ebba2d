"""What the YAML parser complains about, said for the person who wrote the document.

Floor 5.

* Both parsers (libyaml's and the pure one) word the same complaint differently; a rule catches both.
* A complaint without a rule is passed on in the parser's words, never swallowed.
"""

import re
from typing import NamedTuple

from yaml.error import Mark as ParserMark
from yaml.error import MarkedYAMLError

from engine.documents.node import Mark, printable, quoted
from engine.documents.tree import at

EXCERPT_CHARS_MAX = 200


class _Rule(NamedTuple):
    """One complaint: the pattern of its wording, the sentence, and whether the fault lies where the construct began."""

    pattern: re.Pattern[str]
    sentence: str
    at_start: bool = False


def _rule(pattern: str, sentence: str, *, at_start: bool = False) -> _Rule:
    return _Rule(re.compile(pattern), sentence, at_start)


_TAB = "A tab stands where YAML wants spaces: indent with spaces only."

# The first rule that matches "context; problem" wins. {start} is where the construct began, {char} the character met.
_RULES = (
    _rule(r"tab character", _TAB),
    _rule(r"quoted scalar; .*end of stream", "The quotation mark opened here is never closed.", at_start=True),
    _rule(
        r"quoted scalar; .*document (indicator|separator)",
        "A line that begins with '---' or '...' stands inside the quotes opened at {start}: close or indent them.",
    ),
    _rule(
        r"unknown escape character",
        "A backslash in double quotes begins an escape, and YAML knows none with {char}: "
        "write \\\\ for a backslash, or use single quotes.",
    ),
    _rule(
        r"hexd?e?cimal number|expected escape sequence",
        "The escapes \\x, \\u and \\U want 2, 4 and 8 hexadecimal digits.",
    ),
    _rule(
        r"invalid Unicode character escape",
        "This escape names no character: YAML writes one beyond U+FFFF as itself or with \\U and eight digits, "
        "not as a pair of \\u escapes.",
    ),
    _rule(r"scanning an alias", "'*' begins an alias, and no name follows: quote the value if the star belongs to it."),
    _rule(r"scanning an anchor", "'&' begins an anchor, and no name follows: quote the value if it belongs to it."),
    _rule(
        r"ing a (%YAML |%TAG |tag )?directive|incompatible YAML|duplicate (%?YAML|%TAG|tag handle)",
        "This line begins with '%' and is no directive that is read here: remove it.",
    ),
    _rule(
        r"(scanning|parsing) a tag|tag handle|non-specific tag",
        "'!' begins a tag, and this is none that is read here: quote the value if the '!' belongs to it.",
    ),
    _rule(
        r"mapping values are not allowed|found unexpected ':'",
        "A ':' is not allowed here: quote the value if the colon belongs to it, else check the indentation.",
    ),
    _rule(
        r"sequence entries are not allowed",
        "A list entry cannot begin here: put its '-' on a line of its own, indented like its neighbours.",
    ),
    _rule(r"mapping keys are not allowed", "A '?' is not allowed here: quote the value if it belongs to it."),
    _rule(
        r"could not find expected ':'",
        "This key lacks a ': ' on its line: add it, or quote the text if it is the rest of the value above.",
        at_start=True,
    ),
    _rule(r"parsing a flow sequence", "The list opened with '[' at {start} lacks a comma or its ']' before this."),
    _rule(r"parsing a flow mapping", "The mapping opened with '{{' at {start} lacks a comma or its '}}' before this."),
    _rule(
        r"scanning a block scalar", "After '|' or '>' only '+', '-', an indentation of 1 to 9 or a comment can stand."
    ),
    _rule(
        r"parsing a block (mapping|collection)|unclosed '\['",
        "This does not fit into the block begun at {start}: check the indentation, or quote the whole value.",
    ),
    _rule(r"document start", "The document had ended before this: a document is one value; check the indentation."),
    _rule(r"node content", "A value is missing here."),
)

_BEHIND_QUOTES = (
    "Text follows behind a closing quotation mark: quote the whole value, and double any ' inside single quotes."
)

_BLOCK_ENDS = re.compile(r"parsing a block mapping|parsing a block collection|document start")

_STARTS = {
    "\t": _TAB,
    "@": "A value cannot begin with '@': quote it.",
    "`": "A value cannot begin with '`': quote it.",
    "%": "A value cannot begin with '%': quote it.",
    "|": "'|' cannot begin a text inside brackets or braces: quote the text.",
    ">": "'>' cannot begin a text inside brackets or braces: quote the text.",
}


def explain(error: MarkedYAMLError, text: str, end: Mark) -> tuple[Mark, str]:
    """Return where a parser's complaint points to and one sentence for it; ``end`` is the last place of ``text``."""
    place = error.problem_mark or error.context_mark
    start = error.context_mark or place
    complaint = f"{error.context or ''}; {error.problem or ''}"
    char = text[place.index : place.index + 1] if place is not None else ""
    if "cannot start any token" in complaint and char in _STARTS:
        return _mark(place, end), _STARTS[char]
    if _BLOCK_ENDS.search(complaint) and place is not None and _follows_quotes(text, place.index):
        return _mark(place, end), _BEHIND_QUOTES
    if char == "\\" and place is not None:
        char = text[place.index + 1 : place.index + 2]  # libyaml points to the backslash, the pure parser behind it
    for rule in _RULES:
        if rule.pattern.search(complaint):
            met = quoted(char) if char.strip() else "a blank"
            sentence = rule.sentence.format(start=at(_mark(start, end)), char=met)
            return _mark(start if rule.at_start else place, end), sentence
    return _mark(place, end), f"This is not YAML: {printable(str(error.problem), EXCERPT_CHARS_MAX)}."


def _follows_quotes(text: str, index: int) -> bool:
    """Tell whether what stands at ``index`` follows a quotation mark on its line."""
    before = text[max(0, index - EXCERPT_CHARS_MAX) : index]
    return before.rstrip(" ").endswith(("'", '"'))


def _mark(mark: ParserMark | None, end: Mark) -> Mark:
    """Return the parser's mark counted from 1; at the end of the text libyaml points to a line that is not there."""
    if mark is None:
        return end
    return min(Mark(mark.line + 1, mark.column + 1), end)
