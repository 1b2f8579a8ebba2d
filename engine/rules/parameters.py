"""Parameters: an order's variables against what its workflow declares. Floor 3.

* Deny first: a variable that is not declared is refused, with the name it may have been meant to be.
"""

import difflib
import re
from collections.abc import Mapping
from datetime import date

from engine.base.clock import parse_span
from engine.base.codec import Value, encode, value_fault
from engine.base.limits import VARIABLES_BYTES_MAX
from engine.base.problem import Problem, problem
from engine.model.workflow import Parameter, ParameterType, Workflow

UnknownParameter = problem(
    "UnknownParameter", "Workflow {workflow} has no parameter {name!r}{hint}; declare it or leave it out."
)
MissingParameter = problem(
    "MissingParameter", "Workflow {workflow} needs the parameter {name!r} ({type}), and it was not given."
)
WrongParameter = problem("WrongParameter", "Parameter {name!r} of workflow {workflow} must be {type}: {fault}.")
FinalParameter = problem("FinalParameter", "Parameter {name!r} of workflow {workflow} is final; leave it out.")
VariablesTooLarge = problem(
    "VariablesTooLarge",
    "The variables of an order take {size_bytes} bytes; {size_bytes_max} is the most. Pass a file's name instead.",
)

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\Z")
_TYPES: dict[ParameterType, tuple[type, ...]] = {
    ParameterType.STRING: (str,),
    ParameterType.INTEGER: (int,),
    ParameterType.NUMBER: (int, float),
    ParameterType.BOOLEAN: (bool,),
    ParameterType.LIST: (list,),
    ParameterType.OBJECT: (dict,),
    ParameterType.DATE: (str,),
    ParameterType.DURATION: (str,),
}


def order_variables(workflow: Workflow, given: Mapping[str, Value]) -> dict[str, Value] | Problem:
    """Return an order's variables, defaults filled in, in the order of the declaration; or why they are refused."""
    for name in given:
        if name not in workflow.parameters:
            return UnknownParameter(workflow=workflow.name, name=name, hint=_hint(name, list(workflow.parameters)))
    variables: dict[str, Value] = {}
    for name, parameter in workflow.parameters.items():
        value = _value(workflow, name, parameter, given)
        if isinstance(value, Problem):
            return value
        variables[name] = value
    size_bytes = len(encode(variables))
    if size_bytes > VARIABLES_BYTES_MAX:
        return VariablesTooLarge(size_bytes=size_bytes, size_bytes_max=VARIABLES_BYTES_MAX)
    return variables


def type_fault(parameter_type: ParameterType, value: Value) -> str | None:
    """Say why a value does not fit a type, None when it does."""
    if isinstance(value, bool) and parameter_type is not ParameterType.BOOLEAN:
        return f"it is the boolean {str(value).lower()}"
    if not isinstance(value, _TYPES[parameter_type]):
        return f"it is {_article(value)}"
    if parameter_type is ParameterType.DATE and not _is_date(str(value)):
        return f"{value!r} is not a date such as 2026-02-28"
    if parameter_type is ParameterType.DURATION:
        try:
            parse_span(str(value))
        except ValueError as error:
            return str(error)
    return value_fault(value)


def _value(workflow: Workflow, name: str, parameter: Parameter, given: Mapping[str, Value]) -> Value | Problem:
    if name not in given:
        if parameter.required:
            return MissingParameter(workflow=workflow.name, name=name, type=parameter.type)
        return parameter.default
    if parameter.final:
        return FinalParameter(workflow=workflow.name, name=name)
    fault = type_fault(parameter.type, given[name])
    if fault is not None:
        return WrongParameter(workflow=workflow.name, name=name, type=parameter.type, fault=fault)
    return given[name]


def _hint(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _is_date(text: str) -> bool:
    if not _DATE.match(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _article(value: Value) -> str:
    names = {type(None): "null", int: "an integer", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
