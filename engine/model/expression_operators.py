"""The operators of expressions on two values: arithmetic, order, equality, membership. Floor 2.

* Arithmetic never mixes types; comparing and equality do take an int with a double, by exact value.
* Equality has an answer for any two values; order has one for numbers, strings and bools.
* Work that grows with the values is paid for in steps before it is done.
"""

import operator
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from engine.model.expression_values import (
    CHARACTERS_PER_STEP,
    ITEMS_PER_STEP,
    RESULT_NESTING_MAX,
    Exhausted,
    Frame,
    Refusal,
    Value,
    admit,
    finite,
    in_range,
    list_fits,
    string_fits,
    word,
)

Operate: TypeAlias = Callable[[Frame, Value, Value], Value]

_SIMPLE: Final = frozenset({type(None), bool, int, float})
_ORDERED: Final = frozenset({bool, int, float, str})
_NUMBERS: Final = frozenset({int, float})


def add(frame: Frame, left: Value, right: Value) -> Value:
    """Add numbers, join strings or lists."""
    if type(left) is int and type(right) is int:
        return in_range(left + right)
    if type(left) is str and type(right) is str:
        characters = len(left) + len(right)
        string_fits(characters)
        frame.spend(characters // CHARACTERS_PER_STEP)
        return left + right
    if type(left) is float and type(right) is float:
        return finite(left + right)
    if type(left) is list and type(right) is list:
        items = len(left) + len(right)
        list_fits(items)
        frame.spend(items // ITEMS_PER_STEP)
        return left + right
    raise _mismatch("+", left, right)


def subtract(_frame: Frame, left: Value, right: Value) -> Value:
    """Subtract numbers of one type."""
    if type(left) is int and type(right) is int:
        return in_range(left - right)
    if type(left) is float and type(right) is float:
        return finite(left - right)
    raise _mismatch("-", left, right)


def multiply(_frame: Frame, left: Value, right: Value) -> Value:
    """Multiply numbers of one type."""
    if type(left) is int and type(right) is int:
        return in_range(left * right)
    if type(left) is float and type(right) is float:
        return finite(left * right)
    raise _mismatch("*", left, right)


def divide(_frame: Frame, left: Value, right: Value) -> Value:
    """Divide numbers of one type; ints are cut towards zero, as in CEL and unlike in Python."""
    if type(left) is int and type(right) is int:
        if right == 0:
            raise Refusal("this divides by zero")
        quotient = abs(left) // abs(right)
        return in_range(quotient if (left < 0) == (right < 0) else -quotient)
    if type(left) is float and type(right) is float:
        if right == 0.0:
            raise Refusal("this divides by zero")
        return finite(left / right)
    raise _mismatch("/", left, right)


def remain(frame: Frame, left: Value, right: Value) -> Value:
    """Give what an int division leaves; it has the sign of the left side. CEL lets it overflow where `/` does."""
    if type(left) is int and type(right) is int:
        quotient = divide(frame, left, right)
        return left - right * quotient  # type: ignore[operator]  # the quotient of two ints is an int
    raise _mismatch("%", left, right)


def negate(value: Value) -> Value:
    """Change the sign of a number."""
    if type(value) is int:
        return in_range(-value)
    if type(value) is float:
        return -value
    raise Refusal(f"'-' needs a number, not {word(value)}")


def equal(frame: Frame, left: Value, right: Value) -> bool:
    """Tell whether two values are equal; values of different types are not, except an int and a double."""
    kind = type(left)
    if kind is type(right) and kind in _SIMPLE:
        return left == right
    return _equal(frame, left, right, RESULT_NESTING_MAX)


def unequal(frame: Frame, left: Value, right: Value) -> bool:
    """Tell whether two values differ."""
    return not equal(frame, left, right)


def contain(frame: Frame, item: Value, whole: Value) -> bool:
    """Tell whether a list has an equal item, or a map the key."""
    if type(whole) is list:
        frame.spend(len(whole) // ITEMS_PER_STEP)
        return any(equal(frame, item, each) for each in whole)
    if type(whole) is dict:
        if type(item) not in _ORDERED:
            raise Refusal(f"the key of a map is a string, not {word(item)}")
        return type(item) is str and item in whole
    if type(whole) is str:
        raise Refusal("'in' looks into a list or a map; write text.contains(part) for a string")
    raise Refusal(f"'in' needs a list or a map, not {word(whole)}")


def _equal(frame: Frame, left: Value, right: Value, levels: int) -> bool:
    if levels < 0:
        raise Exhausted(f"the values compared are nested more than {RESULT_NESTING_MAX} deep")
    if type(left) is list and type(right) is list:
        if len(left) != len(right):
            return False
        frame.spend(1 + len(left) // ITEMS_PER_STEP)
        return all(_equal(frame, a, b, levels - 1) for a, b in zip(left, right, strict=True))
    if type(left) is dict and type(right) is dict:
        if len(left) != len(right):
            return False
        frame.spend(1 + len(left) // ITEMS_PER_STEP)
        return all(key in right and _equal(frame, each, right[key], levels - 1) for key, each in left.items())
    kind, other = type(left), type(right)
    if kind is str and other is str:
        _pay_for_strings(frame, left, right)
        return left == right
    if kind is other:
        return left == right if kind in _SIMPLE else admit(left) is right  # admit() refuses what is foreign
    return kind in _NUMBERS and other in _NUMBERS and left == right


def _ordering(symbol: str, test: Callable[[Any, Any], bool]) -> Operate:
    """Make one of the four order operators."""

    def compare(frame: Frame, left: Value, right: Value) -> bool:
        kind, other = type(left), type(right)
        if kind is str and other is str:
            _pay_for_strings(frame, left, right)
        if (kind is other and kind in _ORDERED) or (kind in _NUMBERS and other in _NUMBERS):
            return test(left, right)
        raise _mismatch(symbol, left, right)

    return compare


def _pay_for_strings(frame: Frame, left: Any, right: Any) -> None:
    shared = min(len(left), len(right))
    if shared >= CHARACTERS_PER_STEP:
        frame.spend(shared // CHARACTERS_PER_STEP)


def _mismatch(symbol: str, left: Value, right: Value) -> Refusal:
    advice = ""
    if {type(left), type(right)} == _NUMBERS:
        advice = "; convert one with int() or double()"
    elif symbol == "+" and str in (type(left), type(right)):
        advice = "; convert with string()"
    return Refusal(f"'{symbol}' does not take {word(left)} and {word(right)}{advice}")


ARITHMETIC: Final[dict[str, Operate]] = {"+": add, "-": subtract, "*": multiply, "/": divide, "%": remain}
RELATIONS: Final[dict[str, Operate]] = {
    "==": equal,
    "!=": unequal,
    "<": _ordering("<", operator.lt),
    "<=": _ordering("<=", operator.le),
    ">": _ordering(">", operator.gt),
    ">=": _ordering(">=", operator.ge),
    "in": contain,
}
