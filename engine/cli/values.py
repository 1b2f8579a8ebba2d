"""`-p name=value`: words from a shell become values of the types a workflow declares. Floor 11."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from engine.base.codec import Value, value_fault
from engine.base.problem import Problem
from engine.cli.exits import Ended, ExitCode
from engine.documents.node import printable, quoted
from engine.model.workflow import ParameterType, Workflow
from engine.rules.parameters import order_variables, type_fault

DIGITS_MAX = 4_000  # of a number; Python itself refuses longer ones, in other words


def given_values(workflow: Workflow, words: Sequence[str]) -> dict[str, Value]:
    """Return the values given on the command line, by name; raises Ended with a sentence that names the parameter."""
    given: dict[str, Value] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            _refuse(f"-p takes name=value, not {quoted(word)}.")
        if name in given:
            _refuse(f"The parameter {quoted(name)} was given twice; give it once.")
        declared = workflow.parameters.get(name)
        given[name] = text if declared is None else _converted(name, declared.type, text)
    return given


def complete_values(workflow: Workflow, given: Mapping[str, Value]) -> None:
    """Refuse values with which no order can begin: undeclared, missing, final, of a wrong type. Raises Ended."""
    refusal = order_variables(workflow, given)
    if isinstance(refusal, Problem):
        _refuse(printable(refusal.sentence))


def _converted(name: str, wanted: ParameterType, text: str) -> Value:
    try:
        value: Value = _CONVERT.get(wanted, str)(text)
    except ValueError as error:
        _refuse(f"The parameter {quoted(name)} must be {wanted}, and {quoted(text)} is not: {error}.")
    fault = value_fault(value) or type_fault(wanted, value)
    if fault is not None:
        _refuse(f"The parameter {quoted(name)} must be {wanted}, and {quoted(text)} is not: {printable(fault)}.")
    return value


def _integer(text: str) -> int:
    digits = text.strip().removeprefix("-").removeprefix("+")
    if not digits.isascii() or not digits.isdigit() or len(digits) > DIGITS_MAX:
        raise ValueError("write digits, with a sign if you like")
    return int(text)


def _number(text: str) -> int | float:
    try:
        return _integer(text)
    except ValueError:
        pass
    try:
        return float(text.replace("_", "-"))
    except ValueError:
        raise ValueError("write digits with a point or an exponent") from None


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("write true or false")
    return text == "true"


def _json(text: str, kind: type, example: str) -> Any:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise ValueError(f"it is read as JSON ({error}); write something like {example}") from None
    if not isinstance(value, kind):
        raise ValueError(f"write JSON such as {example}")
    return value


_CONVERT: dict[ParameterType, Callable[[str], Any]] = {
    ParameterType.INTEGER: _integer,
    ParameterType.NUMBER: _number,
    ParameterType.BOOLEAN: _boolean,
    ParameterType.LIST: lambda text: _json(text, list, '["a", 1]'),
    ParameterType.OBJECT: lambda text: _json(text, dict, '{"a": 1}'),
}


def _refuse(sentence: str) -> NoReturn:
    raise Ended(ExitCode.USAGE, sentence)
