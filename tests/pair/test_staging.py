"""The parts of a snapshot: whole or not at all, in bounded memory.

Tests: engine/pair/staging.py
"""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.base.pair import InstallSnapshot
from engine.pair.staging import SNAPSHOT_BYTES_MAX, Staging, snapshot_of
from engine.ports import Snapshot

STATE = bytes(range(100))


def parts(name: str = "1/9", state: bytes = STATE, size: int = 30) -> list[InstallSnapshot]:
    return [
        InstallSnapshot(1, name, 9, 1, b"h" * 16, offset, len(state), state[offset : offset + size])
        for offset in range(0, max(len(state), 1), size)
    ]


def test_parts_in_order_give_the_snapshot() -> None:
    staging = Staging()
    *before, last = parts()
    assert [staging.add(one) for one in before] == [None] * 3
    whole = staging.add(last)
    assert whole is not None
    assert snapshot_of(whole) == Snapshot(9, 1, b"h" * 16, STATE)
    assert staging.size_bytes == 0


def test_an_empty_one_is_whole_with_its_only_part() -> None:
    whole = Staging().add(parts(state=b"")[0])
    assert whole is not None
    assert whole.chunk == b""


def test_a_part_that_comes_again_or_too_early_changes_nothing() -> None:
    staging, (first, second, third, fourth) = Staging(), parts()
    assert [staging.add(one) for one in (first, second, second, fourth, third)] == [None] * 5
    assert staging.add(fourth) is not None


def test_the_first_part_begins_anew() -> None:
    staging, (first, *rest), others = Staging(), parts(), parts("1/12", bytes(100))
    staging.add(others[0])
    assert staging.add(first) is None
    assert staging.add(others[1]) is None, "a part of what was begun before"
    found = [staging.add(one) for one in rest]
    assert found[-1] is not None
    assert found[-1].chunk == STATE


@pytest.mark.parametrize("changes", [{"size_bytes": 20}, {"size_bytes": SNAPSHOT_BYTES_MAX + 1}])
def test_what_is_longer_than_it_says_or_may_be_is_dropped_whole(changes: dict[str, int]) -> None:
    staging = Staging()
    bad = msgspec.structs.replace(parts()[0], **changes)
    assert staging.add(bad) is None
    assert staging.size_bytes == 0
    found = [staging.add(one) for one in parts()]
    assert found[-1] is not None


def test_another_snapshot_of_the_same_name_is_another() -> None:
    staging = Staging()
    first, second, *_ = parts()
    staging.add(first)
    assert staging.add(msgspec.structs.replace(second, hash=b"x" * 16)) is None
    assert staging.size_bytes == 30


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=60))
def test_whatever_comes_a_whole_is_one_that_was_sent(order: list[tuple[bool, int]]) -> None:
    staging = Staging()
    sent = {True: parts("1/9"), False: parts("2/9", bytes(100))}
    states = {"1/9": STATE, "2/9": bytes(100)}
    for which, place in order:
        whole = staging.add(sent[which][place])
        assert staging.size_bytes <= 100
        if whole is not None:
            assert whole.chunk == states[whole.id]
