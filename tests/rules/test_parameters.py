"""An order's variables against what its workflow declares.

Tests: engine/rules/parameters.py
"""

from typing import Any

import pytest

from engine.base.limits import VARIABLES_BYTES_MAX
from engine.base.problem import Problem
from engine.model.workflow import Parameter, ParameterType, Workflow
from engine.rules.check import workflow_faults
from engine.rules.parameters import order_variables, type_fault


def variables(given: dict[str, Any], **parameters: Parameter) -> Any:
    found = order_variables(Workflow("w", "1", (), parameters), given)
    return (found.code, str(found)) if isinstance(found, Problem) else found


GOOD = [
    ("string", "x"),
    ("integer", 5),
    ("integer", -(2**63)),
    ("number", 5),
    ("number", 0.5),
    ("boolean", False),
    ("list", [1, ["a"], None]),
    ("object", {"a": {"b": []}}),
    ("date", "2024-02-29"),
    ("duration", "1h 30m"),
]
BAD = [
    ("string", 5, "it is an integer"),
    ("integer", "5", "it is text"),
    ("integer", 5.0, "it is a number"),
    ("integer", True, "it is the boolean true"),
    ("integer", 2**63, "does not fit into 64 bits"),
    ("number", False, "it is the boolean false"),
    ("number", float("nan"), "not a finite number"),
    ("boolean", 1, "it is an integer"),
    ("list", {}, "it is an object"),
    ("list", ["\ud800"], "lone surrogate"),
    ("object", [], "it is a list"),
    ("object", {"\udfff": 1}, "lone surrogate"),
    ("object", {"a": 2**64}, "does not fit into 64 bits"),
    ("date", "2023-02-29", "is not a date"),
    ("date", "2023-2-9", "is not a date"),
    ("date", 20230209, "it is an integer"),
    ("duration", "soon", "is not a duration"),
    ("string", None, "it is null"),
]


@pytest.mark.parametrize(("kind", "value"), GOOD)
def test_what_fits(kind: str, value: Any) -> None:
    assert type_fault(ParameterType(kind), value) is None
    assert variables({"a": value}, a=Parameter(ParameterType(kind))) == {"a": value}


@pytest.mark.parametrize(("kind", "value", "fault"), BAD)
def test_what_does_not(kind: str, value: Any, fault: str) -> None:
    code, sentence = variables({"a": value}, a=Parameter(ParameterType(kind)))
    assert code == "WrongParameter"
    assert fault in sentence
    assert "'a' of workflow w" in sentence


def test_defaults_final_ones_and_missing_ones() -> None:
    declared = {
        "year": Parameter(ParameterType.INTEGER),
        "folder": Parameter(ParameterType.STRING, required=False, default="/srv"),
        "nothing": Parameter(ParameterType.LIST, required=False),
        "fixed": Parameter(ParameterType.NUMBER, required=False, default=0.5, final=True),
    }
    assert variables({"year": 1}, **declared) == {"year": 1, "folder": "/srv", "nothing": None, "fixed": 0.5}
    assert list(variables({"folder": "x", "year": 1}, **declared)) == list(declared), "in the order of the declaration"
    assert variables({}, **declared)[0] == "MissingParameter"
    assert variables({"year": 1, "fixed": 0.5}, **declared)[0] == "FinalParameter"
    code, sentence = variables({"yaer": 1}, **declared)
    assert code == "UnknownParameter"
    assert "did you mean 'year'?" in sentence


def test_all_together_are_bounded() -> None:
    declared = {name: Parameter(ParameterType.STRING) for name in "ab"}
    half = "x" * (VARIABLES_BYTES_MAX // 2)
    assert variables({"a": half, "b": ""}, **declared)["a"] == half
    assert variables({"a": half, "b": half}, **declared)[0] == "VariablesTooLarge"


@pytest.mark.parametrize(
    ("name", "parameter", "fault"),
    [
        ("a b", Parameter(ParameterType.STRING), "can not be a parameter's name"),
        ("order", Parameter(ParameterType.STRING), "the engine's own"),
        ("a", Parameter(ParameterType.STRING, final=True), "has no default"),
        ("a", Parameter(ParameterType.INTEGER, required=False, default="x"), "must be integer: it is text"),
    ],
)
def test_a_faulty_declaration_is_not_deployed(name: str, parameter: Parameter, fault: str) -> None:
    (sentence,) = workflow_faults(Workflow("w", "1", (), {name: parameter}))
    assert fault in sentence
