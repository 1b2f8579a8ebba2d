"""Expressions over an order's variables, and templates that hold them: CEL's syntax, total and bounded. Floor 2.

* The same text and the same variables give the same value or the same error, on every machine.
* Nothing but the given names can be reached: no attribute, no call into Python, no clock, no file.
* Both classes are immutable, equal and hashed by `source`, and travel as that string.
* docs/expressions.md is the language for users, docs/adr/0004-expressions.md why it is our own.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NoReturn, Self

from engine.model.expression_program import Program, compile_program
from engine.model.expression_syntax import closing_brace, refuse_surrogates
from engine.model.expression_values import (
    STEPS_MAX,
    STRING_CHARACTERS_MAX,
    EvaluationError,
    ExpressionError,
    Halt,
    Value,
    weigh,
    word,
)

__all__ = ["STEPS_MAX", "EvaluationError", "Expression", "ExpressionError", "Template", "Value"]

TEMPLATE_CHARACTERS_MAX = 100_000
PROGRAMS_KEPT_MAX = 2_048  # compiled expressions, the least recently used goes first
PROGRAM_KEPT_CHARACTERS_MAX = 256  # of a source that is kept; a character of it costs about 110 bytes
_REPR_CHARACTERS_MAX = 60


class _Text:
    """What Expression and Template share: they are their source."""

    __slots__ = ("names", "source")

    source: str
    names: frozenset[str]

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.source == self.source

    def __hash__(self) -> int:
        return hash(self.source)

    def __repr__(self) -> str:
        shown = self.source
        if len(shown) > _REPR_CHARACTERS_MAX:
            shown = shown[:_REPR_CHARACTERS_MAX] + "…"
        return f"{type(self).__name__}({shown!r})"

    def __str__(self) -> str:
        return self.source

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.source,)


class Expression(_Text):
    """One expression. `names` are the variables it reads, loop variables left out."""

    __slots__ = ("_program",)

    _program: Program

    def __init__(self, source: str) -> None:
        """Parse the text at once; raises ExpressionError. The same short text is parsed only once per process."""
        program = _program(source)
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "names", program.names)
        object.__setattr__(self, "_program", program)

    def evaluate(self, names: Mapping[str, Value], *, steps_max: int = STEPS_MAX) -> Value:
        """Give the value for these variables; raises EvaluationError.

        The value may be, or share parts with, a variable's value: do not change it.
        """
        return self._program.evaluate(names, steps_max)[0]

    def evaluate_bool(self, names: Mapping[str, Value]) -> bool:
        """Give the value of a condition; raises EvaluationError also if it is not a bool."""
        value = self.evaluate(names)
        if type(value) is not bool:
            raise EvaluationError(f"a condition must be a bool, this is {word(value)}", 1, self.source)
        return value


class Template(_Text):
    """A text with expressions in it, as in `report of ${year}`; `$${` stands for a literal `${`.

    `names` are the variables that all its expressions read; `is_literal` says that it has no expression.
    """

    __slots__ = ("_is_single", "_parts", "is_literal")

    is_literal: bool
    _parts: tuple[str | tuple[int, Program], ...]
    _is_single: bool

    def __init__(self, source: str) -> None:
        """Parse the text at once; raises ExpressionError with a column in this text."""
        if len(source) > TEMPLATE_CHARACTERS_MAX:
            raise ExpressionError(f"the text is longer than {TEMPLATE_CHARACTERS_MAX} characters", 1, source)
        refuse_surrogates(source)
        parts = _template_parts(source)
        programs = [part[1] for part in parts if type(part) is tuple]
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "names", frozenset().union(*[program.names for program in programs]))
        object.__setattr__(self, "is_literal", not programs)
        object.__setattr__(self, "_parts", tuple(parts))
        object.__setattr__(self, "_is_single", len(parts) == 1 and bool(programs))

    def evaluate(self, names: Mapping[str, Value]) -> Value:
        """Give the value with its type if the whole text is one `${…}`, else the text; raises EvaluationError."""
        if not self._is_single:
            return self.evaluate_text(names)
        part = self._parts[0]
        assert type(part) is tuple
        return self._value(part, names, STEPS_MAX)[0]

    def evaluate_text(self, names: Mapping[str, Value]) -> str:
        """Give the text with every expression's value written into it; raises EvaluationError.

        Strings stand as they are, null is empty, all else is JSON without spaces. All expressions of the text share one
        allowance of steps.
        """
        written: list[str] = []
        characters = 0
        steps = STEPS_MAX
        for part in self._parts:
            if type(part) is tuple:
                value, steps = self._value(part, names, steps)
                text = self._written(value, part[0])
            else:
                assert type(part) is str
                text = part
            characters += len(text)
            if characters > STRING_CHARACTERS_MAX:
                column = part[0] if type(part) is tuple else 1
                raise self._error(f"the text is longer than {STRING_CHARACTERS_MAX} characters", column)
            written.append(text)
        return "".join(written)

    def _value(self, part: tuple[int, Program], names: Mapping[str, Value], steps: int) -> tuple[Value, int]:
        """Evaluate one part; its errors become this text's."""
        start, program = part
        try:
            return program.evaluate(names, steps)
        except EvaluationError as error:
            raise self._error(error.message, start + error.column - 1) from None

    def _written(self, value: Value, column: int) -> str:
        """Write a value as text."""
        if type(value) is str:
            return value
        if value is None:
            return ""
        try:
            if type(value) is list or type(value) is dict:
                weigh(value)
        except Halt as halt:
            raise self._error(halt.sentence, column) from None
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    def _error(self, message: str, column: int) -> EvaluationError:
        return EvaluationError(message, column, self.source)


def _template_parts(source: str) -> list[str | tuple[int, Program]]:
    """Cut a text into literal pieces and (column, program)."""
    parts: list[str | tuple[int, Program]] = []
    literal: list[str] = []
    place = 0
    while (dollar := source.find("${", place)) >= 0:
        if dollar and source[dollar - 1] == "$":
            literal += [source[place : dollar - 1], "${"]
            place = dollar + 2
            continue
        literal.append(source[place:dollar])
        if text := "".join(literal):
            parts.append(text)
        literal = []
        start = dollar + 2
        end = closing_brace(source, start)
        try:
            program = _program(source[start:end])
        except ExpressionError as error:
            raise ExpressionError(error.message, start + error.column, source) from None
        parts.append((start + 1, program))
        place = end + 1
    literal.append(source[place:])
    if text := "".join(literal):
        parts.append(text)
    return parts


def _program(source: str) -> Program:
    """Compile a text; a short one is kept for whoever needs it next."""
    return _kept_program(source) if len(source) <= PROGRAM_KEPT_CHARACTERS_MAX else compile_program(source)


@lru_cache(maxsize=PROGRAMS_KEPT_MAX)
def _kept_program(source: str) -> Program:
    return compile_program(source)
