"""Single values: numbers within 64 bits, sound text, and the core schema of YAML 1.2.

Floor 5.

* ``on``, ``NO``, ``12:30``, ``1_000``, ``0b1`` and dates are text; ``0o17`` is 15; ``010`` is ten.
* An integer fits into 64 bits, signed or unsigned; a float is finite.
* A text holds neither NUL nor half of a surrogate pair.
"""

import math
import re

from engine.documents.node import ScalarValue, quoted

INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**64 - 1
NUMBER_CHARS_MAX = 1_000

CORE_TAGS = {f"tag:yaml.org,2002:{name}": name for name in ("str", "int", "float", "bool", "null", "seq", "map")}
"""The tags that are read, by their full names."""

_WORDS: dict[str, ScalarValue] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_WORD_STARTS = frozenset("~nNtTfF")
_NUMBER_STARTS = frozenset("-+.0123456789")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0(?:o(?P<octal>[0-7]+)|x(?P<hexadecimal>[0-9a-fA-F]+))")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_UNSOUND = re.compile("[\x00\ud800-\udfff]")


class ScalarError(Exception):
    """A value that is understood and refused; its text is the sentence for the person who wrote it."""


def integer(text: str, base: int = 10) -> int:
    """Read the digits of an integer; raise ScalarError beyond 64 bits (-2**63 to 2**64 - 1)."""
    if len(text) > NUMBER_CHARS_MAX:
        raise ScalarError(f"This number has {len(text)} characters; at most {NUMBER_CHARS_MAX} are read.")
    value = int(text, base)
    if not INTEGER_MIN <= value <= INTEGER_MAX:
        raise ScalarError(
            f"The integer {quoted(text)} does not fit into 64 bits ({INTEGER_MIN} to {INTEGER_MAX}): "
            "write it in quotes if it is a text."
        )
    return value


def floating(text: str) -> float:
    """Read a decimal number with point or exponent; raise ScalarError when it is too large for a 64-bit float."""
    if len(text) > NUMBER_CHARS_MAX:
        raise ScalarError(f"This number has {len(text)} characters; at most {NUMBER_CHARS_MAX} are read.")
    value = float(text)
    if math.isinf(value):
        raise ScalarError(f"The number {quoted(text)} is too large for a 64-bit float.")
    return value


def sound(text: str) -> str:
    """Return ``text`` when it can be stored and handed to a process; else raise ScalarError.

    Needed only for texts written with escapes: raw characters are judged before reading begins.
    """
    found = _UNSOUND.search(text)
    if found is None:
        return text
    if found[0] == "\x00":
        raise ScalarError("A text cannot hold the character NUL (U+0000): remove its escape.")
    raise ScalarError(
        f"The escape for U+{ord(found[0]):04X} is half of a surrogate pair and no character: "
        "write the character itself, or \\U and its eight hexadecimal digits."
    )


def core_value(text: str) -> ScalarValue:
    """Resolve an unquoted YAML scalar by the core schema of YAML 1.2.

    Raises ScalarError for NaN, infinity and numbers out of range.
    """
    start = text[:1]
    if start in _NUMBER_STARTS:
        return _number(text)
    if not start or start in _WORD_STARTS:
        return _WORDS.get(text, text)
    return text


def tagged_value(name: str, text: str) -> ScalarValue:
    """Resolve a YAML scalar that carries the core tag ``name``; raise ScalarError when the text does not fit it."""
    if name == "str":
        return text
    value = core_value(text)
    match name, value:
        case "null", None:
            return None
        case "bool", bool():
            return value
        case "int", int() if not isinstance(value, bool):
            return value
        case "float", int() | float() if not isinstance(value, bool):
            return float(value)
    raise ScalarError(f"The value {quoted(text)} is no !!{name}: remove the tag or mend the value.")


def _number(text: str) -> ScalarValue:
    """Resolve a text that begins like a number; most that are none (dates, times, versions) stay text."""
    if _INTEGER.fullmatch(text):
        return integer(text)
    if _FLOAT.fullmatch(text):
        return floating(text)
    other = _OTHER_BASE.fullmatch(text)
    if other is not None:
        return integer(text[2:], 8 if other["octal"] else 16)
    if _NOT_FINITE.fullmatch(text):
        raise ScalarError(f"The number {quoted(text)} is not finite: write it in quotes if it is a text.")
    return text
