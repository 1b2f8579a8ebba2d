"""Names, spans, sizes, values, problems: the small things everything rests on.

Tests: engine/base/ids.py, engine/base/clock.py, engine/base/codec.py, engine/base/problem.py, engine/model/fields.py
"""

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.base.clock import SPAN_MS_MAX, instant_text, parse_span, span_text
from engine.base.codec import encode, pack, unpack, value_fault
from engine.base.ids import (
    FOLDER_LENGTH_MAX,
    Cursor,
    EventId,
    OrderId,
    attempt_folder,
    attempt_key,
    child_id,
    is_name,
    is_order_id,
    is_variable,
    parse_attempt_key,
)
from engine.base.problem import Problem, Refused, declared_problems, problem
from engine.model.fields import parse_size

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(values)
def test_what_has_no_fault_can_be_encoded_and_msgpack_reads_the_same(value: object) -> None:
    assert value_fault(value) is None
    assert msgpack.unpackb(encode(value), strict_map_key=False) == value


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (2**63, "64 bits"),
        (-(2**63) - 1, "64 bits"),
        pytest.param(10**5000, "bits", id="huge"),
        (float("nan"), "finite"),
        (float("inf"), "finite"),
        ("a\udcffb", "character 2"),
        ({"a": ["\ud800"]}, "surrogate"),
        ({1: 2}, "not text"),
        ({"k\ud800": 1}, "surrogate"),
        (object(), "object"),
        (b"x", "bytes"),
    ],
)
def test_what_can_not_be_kept_is_named(value: object, part: str) -> None:
    fault = value_fault(value)
    assert fault is not None
    assert part in fault


def test_nesting_is_bounded() -> None:
    value: object = 1
    for _ in range(32):
        value = [value]
    assert value_fault(value) is None
    assert "deeper than 32" in str(value_fault([value]))


@given(st.integers(0, SPAN_MS_MAX))
def test_spans_are_read_as_they_are_written(span_ms: int) -> None:
    assert parse_span(span_text(span_ms)) == span_ms


@pytest.mark.parametrize("text", ["", "5", "s", "5 parsecs", "1h 30", "-5s", "1e9d", "200000d"])
def test_what_is_no_span_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration|hundred years"):
        parse_span(text)


@pytest.mark.parametrize(("text", "size"), [("10MB", 10**7), ("1GiB", 1 << 30), ("7", 7), ("1.5 kB", 1_500), ("0B", 0)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "ten", "10 mb", "-1MB", "99999999GiB", "9" * 400])
def test_what_is_no_size_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a size|is larger than"):
        parse_size(text)


def test_instants_are_written_in_utc() -> None:
    assert instant_text(0) == "1970-01-01T00:00:00.000Z"
    assert instant_text(1_700_000_000_123) == "2023-11-14T22:13:20.123Z"


@pytest.mark.parametrize(
    ("text", "name", "variable", "order"),
    [
        ("a", True, True, True),
        ("a-b.c", True, False, True),
        ("2015", False, False, True),
        ("o:2015-01-01T00:00#7", False, False, True),
        ("täglich", False, False, True),
        ("a|b", False, False, False),
        ("a/b", False, False, False),
        ("", False, False, False),
        ("a\n", False, False, False),
        ("x" * 251, False, False, False),
    ],
)
def test_names(text: str, name: bool, variable: bool, order: bool) -> None:
    assert (is_name(text), is_variable(text), is_order_id(text)) == (name, variable, order)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=250), st.integers(0), st.integers(0))
@example(".", 0, 0)
@example("..", 0, 0)
def test_attempt_keys_come_apart_and_folders_are_safe(order: str, added: int, attempt: int) -> None:
    key = attempt_key(OrderId(order), added, attempt)
    assert parse_attempt_key(key) == (order, added, attempt)
    parts = attempt_folder(key).split("/")
    assert len(parts) == 3
    assert all(0 < len(part) <= max(FOLDER_LENGTH_MAX, 60) and part not in (".", "..") for part in parts[1:])


def test_child_orders_are_named_after_their_branch() -> None:
    assert child_id(OrderId("o"), "x") == "o|x"


def test_cursors_and_event_ids_are_ordered_and_encode_as_arrays() -> None:
    assert Cursor(1, 2) < Cursor(2, 1)
    assert msgpack.unpackb(encode(EventId(5, 1))) == [5, 1]


@given(st.lists(values.map(encode)))
def test_packed_messages_come_apart_unchanged(parts: list[bytes]) -> None:
    assert [bytes(raw) for raw in unpack(pack(parts))] == parts


def test_a_problem_is_declared_once_and_carries_its_sentence() -> None:
    build = problem("TestTrouble", "{what} went wrong.")
    assert build(what="It") == Problem("TestTrouble", "It went wrong.", {"what": "It"})
    assert declared_problems()["TestTrouble"] == "{what} went wrong."
    assert str(Refused(build(what="It"))) == "It went wrong."
    with pytest.raises(ValueError, match="declared twice"):
        problem("TestTrouble", "again")
