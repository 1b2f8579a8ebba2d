"""Where a fault stands, and which word was meant.

Tests: engine/documents/convert_faults.py
"""

import pytest

from engine.documents.convert import workflow_from_text
from engine.documents.convert_faults import Source, meant, path_text, sentence_of, suggestion
from engine.documents.node import DocumentError, Mark, Scalar
from engine.language import standard_language

LANGUAGE = standard_language()


def fault_of(text: str) -> tuple[Mark, str]:
    with pytest.raises(DocumentError) as caught:
        workflow_from_text(text, LANGUAGE)
    (fault,) = caught.value.faults
    return fault.mark, fault.sentence


def marked(text: str) -> tuple[str, Mark]:
    """Take the sign ▶ out of a text and say where it stood."""
    before, _, after = text.partition("▶")
    return before + after, Mark(before.count("\n") + 1, len(before) - before.rfind("\n"))


@pytest.mark.parametrize(
    "condition",
    [
        "rows > ▶> 5",
        "'rows > ▶> 5'",
        '"rows > ▶> 5"',
        "&name rows > ▶> 5",
        "!!str rows > ▶> 5",
        "&name !!str 'rows > ▶> 5'",
        "'ä€😀' == ▶> 5",
        "'rows >▶'",
    ],
)
def test_a_mistake_in_an_expression_on_one_line_has_its_own_column(condition: str) -> None:
    if condition.startswith("'ä"):
        condition = f'"{condition}"'
    text, mark = marked(f"name: w\nsteps:\n  - if: {condition}\n    then: []\n")
    assert fault_of(text)[0] == mark


@pytest.mark.parametrize(
    "condition",
    [
        "▶|\n      rows > > 5",
        "▶>-\n      rows\n      > > 5",
        '▶"rows\\x20> > 5"',
        "▶rows\n      > > 5",
        "▶'''a'' > > 5'",
    ],
)
def test_elsewhere_it_stands_where_the_text_begins_and_tells_its_column(condition: str) -> None:
    text, mark = marked(f"name: w\nsteps:\n  - if: {condition}\n    then: []\n")
    found, sentence = fault_of(text)
    assert found == mark
    assert "column " in sentence


def test_a_template_has_its_column_inside_the_whole_text() -> None:
    text, mark = marked("name: w\nsteps:\n  - fail: 'only ${rows} of ${n > ▶> 5}'\n")
    assert fault_of(text)[0] == mark


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_the_loader_ends_them(end: str) -> None:
    text, mark = marked("\ufeffname: w\nsteps:\n  - if: rows > ▶> 5\n    then: []\n")
    assert fault_of(text.replace("\n", end))[0] == mark


def test_json_has_exact_columns_too() -> None:
    text, mark = marked('{"name": "w", "description": "a\u2028b", "steps": [\n{"if": "rows > ▶> 5", "then": []}]}')
    with pytest.raises(DocumentError) as caught:
        workflow_from_text(text, LANGUAGE, kind="json")
    assert caught.value.faults[0].mark == mark


def test_an_alias_is_told_where_its_text_stands() -> None:
    text, mark = marked("name: w\ndescription: &bad rows > ▶> 5\nsteps:\n  - {if: *bad, then: []}\n")
    assert fault_of(text)[0] == mark


def test_a_source_that_is_not_at_hand_answers_nothing() -> None:
    source = Source(lambda: None)
    assert source.word_at(Mark(1, 1)) is None
    assert source.column_in(Scalar("abc", Mark(7, 3)), 2) is None


def test_a_source_of_another_document_answers_nothing_wrong() -> None:
    source = Source(lambda: "short\n")
    assert source.word_at(Mark(1, 99)) is None
    assert source.column_in(Scalar("longer", Mark(1, 1)), 2) is None


def test_a_path_is_written_as_people_see_it() -> None:
    assert path_text((((((None, "steps"), 2), "fork"), "a b"), 0)) == 'steps[2].fork["a b"][0]'
    assert path_text(None) == ""


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("timeuot", "timeout"),
        ("killDelay", "kill_delay"),
        ("KILL_DELAY", "kill_delay"),
        ("kill-delay", "kill_delay"),
        ("Timeout", "timeout"),
        ("zebra", None),
        ("", None),
    ],
)
def test_the_word_that_was_meant(wrong: str, right: str | None) -> None:
    known = ["job", "timeout", "kill_delay", "environment"]
    assert suggestion(wrong, known) == right
    assert meant(wrong, known, "; sorry") == (f": did you mean '{right}'?" if right else "; sorry.")


def test_a_sentence_from_elsewhere_is_bounded_and_on_one_line() -> None:
    sentence = sentence_of("it is\nwrong: " + "x" * 10_000)
    assert sentence.startswith("It is\\nwrong: xxx")
    assert sentence.endswith("….")
    assert len(sentence) < 500
