"""Bodies of records, and messages of the peer that no rule may believe.

Tests: engine/pair/content.py
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.base.pair import AnyPairMessage, Beat, InstallSnapshot, Rep, RepAck, RepNack
from engine.base.wire import Raw
from engine.pair.content import body_of, entries_of, fault_of, weight_of
from engine.ports import Entry

BODY = body_of(Entry(1, 1, b"events", b"marks"))


@given(st.lists(st.tuples(st.binary(), st.binary()), max_size=20), st.integers(0, 20))
def test_what_goes_in_comes_out(contents: list[tuple[bytes, bytes]], skip: int) -> None:
    entries = [Entry(8 + place, 2, events, marks) for place, (events, marks) in enumerate(contents)]
    rep = Rep(3, 7, 1, (2,) * len(entries), tuple(map(body_of, entries)))
    assert fault_of(rep) is None
    assert entries_of(rep, skip) == entries[skip:]
    assert weight_of(entries) == sum(len(events) + len(marks) for events, marks in contents)


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (Beat(-1, 1, 1), "epoch"),
        (Rep(1, -1, 0), "behind record -1"),
        (Rep(1, 0, 0, (1,), ()), "1 epochs and 0 records"),
        (Rep(1, 0, 0, (1, 1), (BODY,)), "2 epochs and 1 records"),
        (Rep(2, 0, 0, (2, 1), (BODY, BODY)), "fall"),
        (Rep(1, 0, 0, (2,), (BODY,)), "fall"),
        (Rep(1, 5, 2), "fall"),
        (Rep(1, 0, 0, (1,), (Raw(b"\x01"),)), "can not be read"),
        (Rep(1, 0, 0, (1,), (Raw(b"\x92\xc4\x01x\xa1x"),)), "can not be read"),
        (RepAck(1, -1, "b"), "record -1"),
        (RepNack(1, -5, "b"), "record -5"),
        (InstallSnapshot(1, "1/0", 0, 1, b"h" * 16, 0, 1, b"x"), "no part"),
        (InstallSnapshot(1, "1/1", 1, 1, b"h", 0, 1, b"x"), "no part"),
        (InstallSnapshot(1, "1/1", 1, 1, b"h" * 16, -1, 1, b"x"), "no part"),
        (InstallSnapshot(1, "1/1", 1, 1, b"h" * 16, 0, -1, b"x"), "no part"),
    ],
)
def test_what_could_not_be_written_is_refused(message: AnyPairMessage, fault: str) -> None:
    assert fault in (fault_of(message) or "")


@pytest.mark.parametrize(
    "message",
    [Beat(1, 1, 1), Rep(1, 0, 0), RepAck(1, 0, "b"), InstallSnapshot(1, "1/1", 1, 1, b"h" * 16, 0, 0, b"")],
)
def test_what_is_sound_is_not(message: AnyPairMessage) -> None:
    assert fault_of(message) is None
