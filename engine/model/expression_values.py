"""What expressions calculate with: values, the two errors, the bounds, and one evaluation's allowance. Floor 2.

* Types are told by `type(x) is …`, never by `isinstance`: in Python a bool is an int, in an expression it is not.
* An int has 64 bits and a double is finite; whatever else comes in is refused when it is read.
* Values are shared, never copied and never changed: a result may be a part of a variable.
* A message never shows the content of a variable, which may be a secret; it shows names, types and sizes.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from math import isfinite
from typing import Self, TypeAlias

Value: TypeAlias = bool | int | float | str | list["Value"] | dict[str, "Value"] | None

STEPS_MAX = 10_000  # of one evaluation unless the caller says otherwise
STRING_CHARACTERS_MAX = 1_048_576  # of a string that an expression builds
LIST_ITEMS_MAX = 10_000  # of a list that an expression builds
RESULT_SIZE_MAX = 1_048_576  # of a built list or map with all it holds: characters, plus one for each value
RESULT_NESTING_MAX = 50
INT_MIN = -(2**63)
INT_MAX = 2**63 - 1

CHARACTERS_PER_STEP = 1_024  # what one step pays for in work on strings
ITEMS_PER_STEP = 8  # and in work on lists that is no loop of the expression's own

KNOWN_NAMES_MAX = 1_000  # names looked at for a "did you mean"
NAME_CHARACTERS_MAX = 100

NOTHING: tuple[str, ...] = ()
_WORDS: dict[type, str] = {
    type(None): "null",
    bool: "a bool",
    int: "an int",
    float: "a double",
    str: "a string",
    list: "a list",
    dict: "a map",
}


class _LocatedError(Exception):
    """A sentence about one place in a source text."""

    def __init__(self, message: str, column: int, source: str) -> None:
        """Say what is wrong at `column`, counted in characters from 1 over the whole source, line breaks included."""
        super().__init__(message, column, source)
        self.message = message
        self.column = column
        self.source = source

    def __str__(self) -> str:
        before = self.source[: self.column - 1]
        line = before.count("\n") + 1
        if "\n" not in self.source:
            return f"column {self.column}: {self.message}"
        return f"line {line}, column {len(before) - before.rfind(chr(10))}: {self.message}"


class ExpressionError(_LocatedError):
    """The text is no expression: found when it is read, before anything is evaluated."""


class EvaluationError(_LocatedError):
    """The expression has no value for these variables: unknown name, wrong type, overflow, a bound reached."""


class Halt(Exception):
    """Evaluation cannot go on here; becomes an EvaluationError once the source is known. Column 0 is not yet known."""

    def __init__(self, sentence: str, column: int = 0, wanted: str = "", known: Iterable[object] = NOTHING) -> None:
        """Keep the sentence, and for a wrong name what was wanted and what there is.

        The likeness between the two is sought at the end, because `||` and `&&` may yet drop this error.
        """
        super().__init__(sentence)
        self.sentence = sentence
        self.column = column
        self.wanted = wanted
        self.known = known

    def at(self, column: int) -> Self:
        """Take the column if there is none yet."""
        self.column = self.column or column
        return self


class Refusal(Halt):
    """This part has no value; `&&`, `||`, all() and exists() can still do without it."""


class Exhausted(Halt):
    """A bound is reached: the whole evaluation ends, nothing absorbs it."""


class Frame:
    """One evaluation: the variables, the loop variables by slot, and the steps that are left."""

    __slots__ = ("names", "slots", "steps")

    def __init__(self, names: Mapping[str, Value], slots: list[Value], steps: int) -> None:
        """Start with `steps` to spend."""
        self.names = names
        self.slots = slots
        self.steps = steps

    def spend(self, steps: int) -> None:
        """Pay for work about to be done; raises Exhausted when it cannot be paid."""
        self.steps -= steps
        if self.steps < 0:
            raise Exhausted("the evaluation takes too many steps")


Run: TypeAlias = Callable[[Frame], Value]  # a compiled part of an expression


def word(value: object) -> str:
    """Name the type of a value as a person reads it, with its article."""
    return _WORDS.get(type(value)) or f"a Python {type(value).__name__}"


def admit(value: Value) -> Value:
    """Give back a value that came from outside if its type is one of ours; looks at the top only, in constant time."""
    if type(value) is int:
        if INT_MIN <= value <= INT_MAX:
            return value
        raise Refusal("this is an integer beyond 64 bits")
    if type(value) is float:
        return finite(value)
    if type(value) in _WORDS:
        return value
    raise Refusal(f"this is {word(value)}, which is not a type of expressions")


def in_range(number: int) -> int:
    """Give back an integer of 64 bits; raises Refusal at an overflow."""
    if INT_MIN <= number <= INT_MAX:
        return number
    raise Refusal("the result is an integer beyond 64 bits")


def finite(number: float) -> float:
    """Give back a finite double; raises Refusal for the others, which JSON cannot say."""
    if isfinite(number):
        return number
    raise Refusal("the number is infinite or not a number")


def string_fits(characters: int) -> None:
    """Check the length of a string before it is built; raises Exhausted."""
    if characters > STRING_CHARACTERS_MAX:
        raise Exhausted(f"a string is longer than {STRING_CHARACTERS_MAX} characters")


def list_fits(items: int) -> None:
    """Check the length of a list before it is built; raises Exhausted."""
    if items > LIST_ITEMS_MAX:
        raise Exhausted(f"a list is longer than {LIST_ITEMS_MAX} items")


def weigh(value: Value) -> None:
    """Check a list or map with all it holds, level by level and without recursion.

    Sharing makes this necessary: a few lists that hold each other twice describe a tree of millions, which would unfold
    only when somebody encodes it. Raises Exhausted over RESULT_SIZE_MAX or RESULT_NESTING_MAX, Refusal for what is no
    value.
    """
    size = 0
    level = [value]
    for _ in range(RESULT_NESTING_MAX + 1):
        below: list[Value] = []
        for item in level:
            size += _own_size(item)
            if size > RESULT_SIZE_MAX:
                raise Exhausted(f"the result is larger than {RESULT_SIZE_MAX} characters and values")
            if type(item) is list:
                below.extend(item)
            elif type(item) is dict:
                below.extend(item.values())
        if not below:
            return
        level = below
    raise Exhausted(f"the result is nested more than {RESULT_NESTING_MAX} deep")


def _own_size(item: Value) -> int:
    """Count the characters of a string, the parts of a list, the parts and key characters of a map."""
    if type(item) is str or type(item) is list:
        return len(item)
    if type(item) is dict:
        for key in item:
            if type(key) is not str:
                raise Refusal(f"a map has {word(key)} as a key, which must be a string")
        return len(item) + sum(map(len, item))
    admit(item)
    return 0


def suggestion(wanted: str, known: Iterable[object]) -> str:
    """Give the end of a sentence about a wrong name: ", did you mean 'rows'?" or nothing when none is close."""
    from difflib import get_close_matches  # noqa: PLC0415  # only a mistake needs it

    if not wanted or len(wanted) > NAME_CHARACTERS_MAX:
        return ""
    names = [name for name in islice(known, KNOWN_NAMES_MAX) if type(name) is str and len(name) <= NAME_CHARACTERS_MAX]
    close = get_close_matches(wanted, names, n=1)
    return f", did you mean {close[0]!r}?" if close else ""
