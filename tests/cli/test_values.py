"""`-p name=value` by the declared types. Tests: engine/cli/values.py"""

from typing import Any

import pytest

from engine.cli.exits import Ended, ExitCode
from engine.cli.values import complete_values, given_values
from engine.model.workflow import Parameter, ParameterType, Workflow

T = ParameterType
WORKFLOW = Workflow(
    "w",
    "1",
    (),
    {
        "text": Parameter(T.STRING, False, ""),
        "count": Parameter(T.INTEGER, False, 0),
        "ratio": Parameter(T.NUMBER, False, 0),
        "flag": Parameter(T.BOOLEAN, False, False),
        "items": Parameter(T.LIST, False, []),
        "map": Parameter(T.OBJECT, False, {}),
        "day": Parameter(T.DATE, False, "2026-01-01"),
        "pace": Parameter(T.DURATION, False, "1s"),
        "fixed": Parameter(T.STRING, False, "x", final=True),
    },
)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("text=a", "a"),
        ("text=", ""),
        ("text=a=b", "a=b"),
        ("text=12", "12"),
        ("text=true", "true"),
        ("count=12", 12),
        ("count=-3", -3),
        ("count=+3", 3),
        (f"count={2**63 - 1}", 2**63 - 1),
        ("ratio=2", 2),
        ("ratio=2.5", 2.5),
        ("ratio=-1e3", -1000.0),
        ("flag=true", True),
        ("flag=false", False),
        ('items=["a", 1]', ["a", 1]),
        ('map={"a": [null]}', {"a": [None]}),
        ("day=2026-02-28", "2026-02-28"),
        ("pace=1h 30m", "1h 30m"),
    ],
)
def test_a_word_becomes_a_value_of_its_type(word: str, value: Any) -> None:
    found = given_values(WORKFLOW, [word])[word.partition("=")[0]]
    assert (found, type(found)) == (value, type(value))
    complete_values(WORKFLOW, {word.partition("=")[0]: found})


@pytest.mark.parametrize(
    "word",
    [
        "count=twelve",
        "count=1.5",
        "count=",
        "count=1_000",
        "count=٣",
        f"count={2**63}",
        "count=" + "9" * 5000,
        "ratio=nan",
        "ratio=inf",
        "ratio=1_0.5",
        "ratio=much",
        "flag=yes",
        "flag=1",
        "items=a,b",
        'items={"a": 1}',
        "items=" + "[" * 100_000,
        'map=["a"]',
        'map={"a": ',
        "day=2026-02-30",
        "pace=soon",
        "text=\udcff",
        'items=["\\ud800"]',
    ],
)
def test_a_word_that_does_not_fit_is_refused_by_name(word: str) -> None:
    with pytest.raises(Ended) as refused:
        given_values(WORKFLOW, [word])
    name = word.partition("=")[0]
    assert refused.value.code is ExitCode.USAGE
    assert refused.value.sentence.startswith(f"The parameter '{name}' must be {WORKFLOW.parameters[name].type}")
    assert refused.value.sentence.isprintable()
    assert len(refused.value.sentence) < 400


@pytest.mark.parametrize("word", ["text", "=a", ""])
def test_a_word_without_a_name_or_a_value_is_refused(word: str) -> None:
    with pytest.raises(Ended, match="-p takes name=value"):
        given_values(WORKFLOW, [word])


def test_a_parameter_is_given_once() -> None:
    with pytest.raises(Ended, match="'count' was given twice"):
        given_values(WORKFLOW, ["count=1", "count=1"])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"cuont": 1}, r"no parameter 'cuont' \(did you mean 'count'\?\)"),
        ({"fixed": "y"}, "'fixed' .* is final"),
    ],
)
def test_values_with_which_no_order_can_begin_are_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Ended, match=sentence) as refused:
        complete_values(WORKFLOW, given)
    assert refused.value.code is ExitCode.USAGE


def test_a_missing_parameter_is_named() -> None:
    with pytest.raises(Ended, match="needs the parameter 'year'"):
        complete_values(Workflow("w", "1", (), {"year": Parameter(T.INTEGER)}), {})
