"""Records of a journal as lines, also of versions nobody knows. Tests: engine/cli/records.py"""

from typing import Any

import pytest

from engine.cli.records import FIELDS, events_of, line_of
from engine.journal.inspect import DumpedRecord
from engine.model.event import AnyEvent


def record(*events: Any, fault: str | None = None, index: int = 7) -> DumpedRecord:
    return DumpedRecord(index, 2, tuple(events), {}, "00", fault)


def lines(*records: DumpedRecord) -> list[str]:
    return [line_of(one) for one in events_of(records)]


def test_every_event_has_the_names_of_its_fields() -> None:
    assert set(FIELDS) == {kind.__name__ for kind in AnyEvent.__args__}
    assert FIELDS["AttemptAssigned"] == ("order", "at_ms", "position", "attempt", "subagent")
    assert FIELDS["EpochBegan"] == ("at_ms", "epoch", "node")


def test_a_record_becomes_a_line_for_each_event() -> None:
    assert lines(
        record(("OrderStarted", "o", 1_000), ("AttemptAssigned", "o|x", 1_001, (0, "x", 0), 1, "s")),
        record(("EpochBegan", 2_000, 2, "controller"), index=8),
    ) == [
        "7.0  1970-01-01T00:00:01.000Z  OrderStarted      o",
        '7.1  1970-01-01T00:00:01.001Z  AttemptAssigned   o|x  position=[0,"x",0] attempt=1 subagent=s',
        "8.0  1970-01-01T00:00:02.000Z  EpochBegan        epoch=2 node=controller",
    ]


@pytest.mark.parametrize(
    ("stored", "line"),
    [
        (("OrderTeleported", "o", 5), "7.0  -                         OrderTeleported   field0=o field1=5"),
        (("OrderStarted", "o", 1_000, "new", 3), "OrderStarted      o  field2=new field3=3"),
        (("OrderStarted", 5, 1_000), "OrderStarted"),
        (("OrderStarted", "o", 10**18), "OrderStarted      o"),
        (("OrderStarted",), "OrderStarted"),
        (b"\xff\xfe", "?                 stored="),
        (None, "?                 stored=null"),
        ((), "stored=[]"),
        (("OrderStarted", "o\x1b[2J", 1_000), "o\\u001b[2J"),
        (("Note", {(1, 2): b"x"}), "Note              field0="),
    ],
)
def test_what_is_not_known_is_shown_as_it_is_stored(stored: Any, line: str) -> None:
    (found,) = lines(record(stored))
    assert line in found
    assert found.isprintable()


def test_a_long_value_is_cut() -> None:
    (line,) = lines(record(("OrderAdded", "o", 1_000, "w@1", {"a": "x" * 5_000})))
    assert len(line) < 400
    assert "…" in line


def test_a_damaged_record_is_named_and_its_rest_shown() -> None:
    found = lines(record(("OrderStarted", "o", 1_000), fault="does not follow from the record before"))
    assert found[0] == "7  DAMAGED: record 7 does not follow from the record before"
    assert "OrderStarted" in found[1]
    assert lines(DumpedRecord(7, 2, b"\x00", {}, "00", "cannot be decoded")) == [
        "7  DAMAGED: record 7 cannot be decoded"
    ]


def test_an_order_s_events_are_its_own_and_its_branches() -> None:
    events = [
        ("OrderStarted", "o", 1),
        ("OrderStarted", "o|x", 1),
        ("OrderStarted", "o2", 1),
        ("OrdersDeleted", 1, ("a", "o")),
        ("OrdersDeleted", 1, ("a",)),
        ("EpochBegan", 1, 1, "o"),
    ]
    about = [one.place for one in events_of([record(*events)]) if one.is_about("o")]
    assert about == [0, 1, 3]
