"""Single values: what is taken, what is refused, and how the refusal reads.

Tests: engine/documents/convert_values.py
"""

from typing import Any

import pytest

from engine.documents.convert import workflow_from_node, workflow_from_text
from engine.documents.loader import load_text
from engine.documents.node import DocumentError
from engine.language import standard_language
from engine.model.expression import Expression, Template
from engine.rules.instructions.job import Execute
from tests.support.tables import agrees, cases

LANGUAGE = standard_language()


def job(settings: str, kind: str = "shell: x") -> Execute:
    text = f"name: w\nsteps:\n  - job: a\n    {kind}\n    {settings}\n"
    step = workflow_from_text(text, LANGUAGE).steps[0]
    assert isinstance(step, Execute)
    return step


def refusal(settings: str, kind: str = "shell: x") -> str:
    """The column and the sentence of the one fault in the fifth line."""
    with pytest.raises(DocumentError) as caught:
        job(settings, kind)
    (fault,) = caught.value.faults
    assert fault.mark.line == 5, fault
    return f"{fault.mark.column}: {fault.sentence}"


# --- numbers and texts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "source"),
    [
        ("text", "text"),
        ("'2015'", "2015"),
        ("2015", "${2015}"),
        ("-7", "${-7}"),
        ("0.5", "${0.5}"),
        ("true", "${true}"),
        ("false", "${false}"),
        ("no", "no"),
        ("12:30", "12:30"),
        ("2015-01-01", "2015-01-01"),
        ("1_000", "1_000"),
        ("''", ""),
        ("&y 2015", "${2015}"),
        ("!!int 2015", "${2015}"),
        ("!!str 010", "010"),
        ("9223372036854775807", "${9223372036854775807}"),
    ],
)
def test_a_number_in_a_texts_place_keeps_its_type(written: str, source: str) -> None:
    assert job(f"environment: {{A: {written}}}").environment["A"] == Template(source)


@pytest.mark.parametrize(
    ("written", "read"),
    [("010", "10"), ("1.10", "1.1"), ("0x1F", "31"), ("1e3", "1000.0"), ("+5", "5"), ("True", "true"), ("-0", "0")],
)
def test_a_number_that_is_not_written_as_it_is_read_is_refused(written: str, read: str) -> None:
    expected = f"22: This is written '{written}' and read as '{read}': write it so, or in quotes as a text."
    assert refusal(f"environment: {{A: {written}}}") == expected
    assert refusal(f"environment: {{A: &x {written}}}") == expected


def test_a_text_that_does_not_fit_the_tree_is_not_believed() -> None:
    node = load_text("name: w\nsteps: [{fail: 2015}]")
    workflow = workflow_from_node(node, LANGUAGE, file="w.yaml", text="name: w\nsteps: [{fail: 0007}]")
    assert workflow == workflow_from_text("name: w\nsteps: [{fail: 2015}]", LANGUAGE)


def test_without_the_text_a_number_is_taken_as_it_was_read() -> None:
    node = load_text("name: w\nsteps: [{fail: 010}]")
    workflow = workflow_from_node(node, LANGUAGE, file="w.yaml")
    assert workflow.steps == workflow_from_text("name: w\nsteps: [{fail: 10}]", LANGUAGE).steps


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("", "not empty: for an empty text write '', for null ${null}."),
        ("[1, 2]", "not a list: write it as an expression in quotes, such as '${[1, 2]}'."),
        ("{a: 1}", "not a mapping: write it as an expression in quotes, such as '${[1, 2]}'."),
    ],
)
def test_what_is_no_text_with_expressions(written: str, sentence: str) -> None:
    assert refusal(f"environment: {{A: {written}}}").endswith(
        f": This must be a text, a number, true or false, {sentence}"
    )


def test_a_number_beyond_expressions_is_refused() -> None:
    assert refusal("directory: 18446744073709551615").startswith("16: The expression can not be read: the number is ")


def test_a_plain_text_takes_numbers_as_they_are_written() -> None:
    assert job("interpreter: [sh, 7]").run == job("interpreter: [sh, '7']").run
    assert job("agent: x", "shell: true").run == job("agent: x", "shell: 'true'").run
    assert refusal("agent: 007") == "12: This is written '007' and read as '7': write it so, or in quotes as a text."
    assert refusal("agent: [a]") == "12: This must be a text, not a list."


# --- expressions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("written", "source"), [("true", "true"), ("7", "7"), ("a > 1", "a > 1"), ("' a '", " a ")])
def test_an_expression_is_a_text_a_number_or_a_truth(written: str, source: str) -> None:
    workflow = workflow_from_text(f"name: w\nsteps: [{{if: {written}, then: []}}]", LANGUAGE)
    assert workflow.steps[0].if_ == Expression(source)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("[1, 2]", "This must be an expression, not a list: write it in quotes, such as '[1, 2]'."),
        ("{}", "This must be an expression, not an empty mapping: write it in quotes, such as '[1, 2]'."),
        ("", "This must be an expression, not empty."),
    ],
)
def test_what_is_no_expression(written: str, sentence: str) -> None:
    with pytest.raises(DocumentError) as caught:
        workflow_from_text(f"name: w\nsteps:\n - if: {written}\n   then: []", LANGUAGE)
    assert caught.value.faults[0].sentence == sentence


# --- durations, sizes, numbers, truths, choices --------------------------------------------------------------------


@pytest.mark.parametrize(("written", "span_ms"), [("30s", 30_000), ("1h 30m", 5_400_000), ("500ms", 500), ("0s", 0)])
def test_a_duration(written: str, span_ms: int) -> None:
    assert job(f"kill_delay: {written}").kill_delay_ms == span_ms


@pytest.mark.parametrize(("written", "size"), [("500B", 500), ("1GiB", 1 << 30), ("1.5MB", 1_500_000)])
def test_a_size(written: str, size: int) -> None:
    assert job(f"output_limit: {written}").output_bytes_max == size


@pytest.mark.parametrize(
    ("settings", "expected"),
    cases("""
timeout: 30
  14: The number '30' needs its unit here: write it as in 30s.

timeout: '30'
  14: The number '30' needs its unit here: write it as in 30s.

timeout: 1.5
  14: The number '1.5' needs its unit here: write it as in 30s.

timeout: true
  14: This must be a duration such as 30s or 1h 30m, not true.

timeout: [30s]
  14: This must be a duration such as 30s or 1h 30m, not a list.

timeout: 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s
  14: This must be a duration such as 30s or 1h 30m, not the text '1s …

timeout: soon
  14: 'soon' is not a duration; write a number and a unit, such as …

output_limit: 5
  19: The number '5' needs its unit here: write it as in 10MB.

output_limit: 5 apples
  19: '5 apples' is not a size; write a number and a unit, such as …

output_limit: 99999999999999999999999999999999999999.5GB
  19: '99999999999999999999999999999999999999.5GB' is larger than …

limit: '3'
  12: This must be a whole number, not the text '3': remove the quotes.

limit: 3.0
  12: This must be a whole number, not the number 3.0.

limit: true
  12: This must be a whole number, not true.

limit: 9223372036854775808
  12: The number 9223372036854775808 does not fit into 64 bits with sign.

on_lost: hol
  14: This must be one of hold, rerun, fail, not 'hol': did you mean 'hold'?

on_lost: 5
  14: This must be one of hold, rerun, fail, not the number 5.

environment: [A]
  18: This must be a mapping, not a list.
"""),
)
def test_what_is_refused(settings: str, expected: str) -> None:
    assert agrees(refusal(settings), expected), refusal(settings)


@pytest.mark.parametrize(("written", "shown"), [("yes", "the text 'yes'"), ("1", "the number 1"), ("", "empty")])
def test_true_and_false_have_one_spelling(written: str, shown: str) -> None:
    with pytest.raises(DocumentError, match=f"This must be true or false, not {shown}"):
        workflow_from_text(f"name: w\nsteps:\n  - fork: {{}}\n    join_if_failed: {written}\n", LANGUAGE)


def test_what_may_be_missing_may_be_null() -> None:
    assert job("timeout:").timeout_ms is None
    assert refusal("kill_delay:") == "16: This must be a duration such as 30s or 1h 30m, not empty."


# --- parameters ---------------------------------------------------------------------------------------------------


def parameter(written: str) -> Any:
    return workflow_from_text(f"name: w\nsteps: []\nparameters:\n  x: {written}\n", LANGUAGE).parameters["x"]


@pytest.mark.parametrize(
    ("written", "required", "default"),
    [
        ("integer", True, None),
        ("{type: integer}", True, None),
        ("{type: integer, required: true}", True, None),
        ("{type: integer, required: false}", False, None),
        ("{type: integer, default: 5}", False, 5),
        ("{type: integer, default: 5, required: false}", False, 5),
        ("{type: integer, default: null}", False, None),
        ("{type: object, default: {a: [1, null, 0.5, x]}}", False, {"a": [1, None, 0.5, "x"]}),
        ("{type: string, default: on}", False, "on"),
        ("{type: duration, default: 1h 30m}", False, "1h 30m"),
    ],
)
def test_a_parameter_with_a_default_is_not_required(written: str, required: bool, default: object) -> None:
    read = parameter(written)
    assert (read.required, read.default) == (required, default)


@pytest.mark.parametrize(
    ("written", "expected"),
    cases("""
2015
  4:6: A parameter is the name of its type or a mapping, not the number 2015: write {type: integer, default:
  2015}.

true
  4:6: A parameter is the name of its type or a mapping, not true: write {type: boolean, default: true}.

(nothing)
  4:5: A parameter is the name of its type or a mapping, not empty: write string, integer or another type.

[integer]
  4:6: A parameter is the name of its type or a mapping, not a list: write string, integer or another type.

int
  4:6: This must be one of string, integer, number, boolean, list, object, date, duration, not 'int': did you mean
  'integer'?

{default: 5}
  4:6: The key 'type' is missing: a parameter needs it.

{type: integer, defualt: 5}
  4:22: There is no key 'defualt' in a parameter: did you mean 'default'?

{type: integer, default: 5, required: true}
  4:34: What has a default is not required: remove one.

{type: integer, default: 18446744073709551615}
  4:31: The integer 18446744073709551615 does not fit into 64 bits.

{type: integer, final: true}
  4:3: The final parameter 'x' has no default.
"""),
)
def test_a_parameter_that_is_refused(written: str, expected: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parameter(written)
    (fault,) = caught.value.faults
    assert f"{fault.mark.line}:{fault.mark.column}: {fault.sentence}" == expected
