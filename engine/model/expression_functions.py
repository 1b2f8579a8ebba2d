"""The functions and methods that expressions may call. Floor 2.

* A table: name, how it is written, how many arguments it takes, what it does; a method's target is its first argument.
* Every function ends soon and is total: an argument it cannot take is a Refusal. Work over long values costs steps.
* `matches` is left out: Python's regular expressions can take exponential time, and nothing can interrupt them.
"""

import re
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from engine.model.expression_values import (
    CHARACTERS_PER_STEP,
    INT_MAX,
    ITEMS_PER_STEP,
    LIST_ITEMS_MAX,
    Frame,
    Refusal,
    Value,
    finite,
    in_range,
    list_fits,
    string_fits,
    word,
)


class Function(NamedTuple):
    """One function: `style` tells whether it is written f(x), x.f(), or as one likes."""

    style: Literal["call", "method", "either"]
    arguments_min: int
    arguments_max: int
    apply: Callable[..., Value]


NUMBER_CHARACTERS_MAX = 400  # of a string read as a number; the longest exact double has fewer digits worth reading
_INT: Final = re.compile(r"[+-]?[0-9]+")
_DOUBLE: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_BOOLS: Final = {
    "true": True, "True": True, "TRUE": True, "t": True, "1": True,
    "false": False, "False": False, "FALSE": False, "f": False, "0": False,
}  # fmt: skip
# White space as Unicode defines it; str.strip() alone would also take the separators U+001C to U+001F.
_WHITE_SPACE: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_BYTES: Final = ("utf-8", "surrogatepass")


def size(_frame: Frame, value: Value) -> Value:
    """Count a string's characters, a list's items, a map's keys."""
    if type(value) is list or type(value) is str or type(value) is dict:
        return len(value)
    raise _needs("size() needs a string, a list or a map", value)


def to_int(_frame: Frame, value: Value) -> Value:
    """Read an int from a decimal string, or cut a double towards zero."""
    if type(value) is int:
        return value
    if type(value) is bool:
        return int(value)
    if type(value) is float:
        if -float(INT_MAX) < value < float(INT_MAX):
            return int(value)
        raise Refusal("int() cannot hold a number beyond 64 bits")
    if type(value) is str:
        if len(value) > NUMBER_CHARACTERS_MAX or not _INT.fullmatch(value):
            raise Refusal("int() needs a string of decimal digits")
        return in_range(int(value))
    raise _needs("int() needs a string, a number or a bool", value)


def to_double(_frame: Frame, value: Value) -> Value:
    """Read a double from a decimal string, or give the nearest one to an int."""
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    if type(value) is str:
        if len(value) > NUMBER_CHARACTERS_MAX or not _DOUBLE.fullmatch(value):
            raise Refusal("double() needs a string with a decimal number")
        return finite(float(value))
    raise _needs("double() needs a string or a number", value)


def to_string(_frame: Frame, value: Value) -> Value:
    """Write a string, a number or a bool as text, numbers as JSON does."""
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int or type(value) is float:
        return repr(value)
    raise _needs("string() needs a string, a number or a bool", value)


def to_bool(_frame: Frame, value: Value) -> Value:
    """Read a bool from one of the words for it."""
    if type(value) is bool:
        return value
    if type(value) is str:
        if value in _BOOLS:
            return _BOOLS[value]
        raise Refusal("bool() needs 'true' or 'false'")
    raise _needs("bool() needs a string or a bool", value)


def starts_with(_frame: Frame, text: Value, prefix: Value) -> Value:
    """Tell whether a string begins with another."""
    return _string("startsWith", text).startswith(_string("startsWith", prefix))


def ends_with(_frame: Frame, text: Value, suffix: Value) -> Value:
    """Tell whether a string ends with another."""
    return _string("endsWith", text).endswith(_string("endsWith", suffix))


def contains(frame: Frame, text: Value, part: Value) -> Value:
    """Tell whether a string has another in it."""
    return _string("contains", part) in _paid(frame, "contains", text)


def lower_ascii(frame: Frame, text: Value) -> Value:
    """Make A to Z small and leave every other character."""
    return _paid(frame, "lowerAscii", text).encode(*_BYTES).lower().decode(*_BYTES)  # of bytes only ASCII has a case


def upper_ascii(frame: Frame, text: Value) -> Value:
    """Make a to z capital and leave every other character."""
    return _paid(frame, "upperAscii", text).encode(*_BYTES).upper().decode(*_BYTES)


def trim(frame: Frame, text: Value) -> Value:
    """Cut white space off both ends."""
    return _paid(frame, "trim", text).strip(_WHITE_SPACE)


def split(frame: Frame, text: Value, separator: Value, limit: Value = -1) -> Value:
    """Cut a string at each separator, into characters at an empty one; `limit` is the most parts, -1 is any number."""
    whole, between, most = _paid(frame, "split", text), _string("split", separator), _integer("split", limit)
    if most == 0:
        return []
    parts_max = most if 0 < most <= LIST_ITEMS_MAX else LIST_ITEMS_MAX + 1  # one too many tells that it is too long
    if between:
        parts = whole.split(between, parts_max - 1)
    else:
        parts = list(whole[: parts_max - 1])
        if len(whole) >= parts_max or not parts:
            parts.append(whole[parts_max - 1 :])
    list_fits(len(parts))
    frame.spend(len(parts) // ITEMS_PER_STEP)
    return list(parts)


def replace(frame: Frame, text: Value, old: Value, new: Value, limit: Value = -1) -> Value:
    """Put one string for another wherever it stands; `limit` is the most times, -1 is any number."""
    whole, before = _paid(frame, "replace", text), _string("replace", old)
    after, times = _string("replace", new), _integer("replace", limit)
    found = whole.count(before)
    found = found if times < 0 else min(found, times)
    characters = len(whole) + found * (len(after) - len(before))
    string_fits(characters)
    frame.spend(characters // CHARACTERS_PER_STEP)
    return whole.replace(before, after, found)


def join(frame: Frame, strings: Value, separator: Value = "") -> Value:
    """Join a list of strings."""
    if type(strings) is not list:
        raise _needs("join() needs a list", strings)
    frame.spend(len(strings) // ITEMS_PER_STEP)
    between = _string("join", separator)
    parts = [_string("join", each) for each in strings]
    characters = sum(map(len, parts)) + len(between) * max(len(parts) - 1, 0)
    string_fits(characters)
    frame.spend(characters // CHARACTERS_PER_STEP)
    return between.join(parts)


def substring(frame: Frame, text: Value, start: Value, end: Value | None = None) -> Value:
    """Cut out the characters from `start` up to, but without, `end`; both must lie in the string."""
    whole, first = _paid(frame, "substring", text), _integer("substring", start)
    last = len(whole) if end is None else _integer("substring", end)
    if not 0 <= first <= last <= len(whole):
        raise Refusal(f"substring() from {first} to {last} is outside a string of {len(whole)} characters")
    return whole[first:last]


def _string(name: str, value: Value) -> str:
    if type(value) is str:
        return value
    raise _needs(f"{name}() needs a string", value)


def _integer(name: str, value: Value) -> int:
    if type(value) is int:
        return value
    raise _needs(f"{name}() needs an int", value)


def _paid(frame: Frame, name: str, value: Value) -> str:
    """Take a string that will be read to its end, and pay for that."""
    text = _string(name, value)
    frame.spend(len(text) // CHARACTERS_PER_STEP)
    return text


def _needs(sentence: str, value: Value) -> Refusal:
    return Refusal(f"{sentence}, not {word(value)}")


FUNCTIONS: Final[dict[str, Function]] = {
    "size": Function("either", 1, 1, size),
    "int": Function("call", 1, 1, to_int),
    "double": Function("call", 1, 1, to_double),
    "string": Function("call", 1, 1, to_string),
    "bool": Function("call", 1, 1, to_bool),
    "startsWith": Function("method", 2, 2, starts_with),
    "endsWith": Function("method", 2, 2, ends_with),
    "contains": Function("method", 2, 2, contains),
    "lowerAscii": Function("method", 1, 1, lower_ascii),
    "upperAscii": Function("method", 1, 1, upper_ascii),
    "trim": Function("method", 1, 1, trim),
    "split": Function("method", 2, 3, split),
    "replace": Function("method", 3, 4, replace),
    "join": Function("method", 1, 2, join),
    "substring": Function("method", 2, 3, substring),
}
