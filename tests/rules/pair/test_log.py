"""The shape of a log against a plain list of epochs.

Tests: engine/rules/pair/log.py
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.rules.pair.log import Edit, LogShape, edit_of

EPOCHS = st.lists(st.integers(1, 4), max_size=12)


def listed(shape: LogShape) -> list[int | None]:
    return [shape.epoch_at(index) for index in range(shape.base + 1, shape.last + 1)]


@given(EPOCHS, EPOCHS)
def test_appended_is_a_list_that_grows(first: list[int], second: list[int]) -> None:
    shape = LogShape().appended(first).appended(second)
    assert listed(shape) == first + second
    assert shape.last == len(first) + len(second)
    assert shape.last_epoch == ([0, *first, *second])[-1]
    assert all(one[1] != two[1] for one, two in zip(shape.runs, shape.runs[1:], strict=False))
    assert shape == LogShape().appended(first + second)


@given(EPOCHS, st.integers(0, 14))
def test_cut_after_is_a_slice(epochs: list[int], index: int) -> None:
    assert LogShape().appended(epochs).cut_after(index) == LogShape().appended(epochs[:index])


@given(EPOCHS, st.integers(0, 14), st.integers(1, 4))
def test_a_snapshot_under_a_log_hides_what_it_covers(epochs: list[int], index: int, epoch: int) -> None:
    shape = LogShape().appended(epochs).based_on(index, epoch)
    assert listed(shape) == epochs[index:]
    assert (shape.base, shape.last) == (index, max(index, len(epochs)))
    assert shape.epoch_at(index) == epoch
    assert index == 0 or shape.epoch_at(index - 1) is None
    assert shape.appended([4]).last == shape.last + 1
    assert shape.appended([4]).last_epoch == 4


@given(EPOCHS, st.integers(-1, 14))
def test_nothing_is_known_outside(epochs: list[int], index: int) -> None:
    known = LogShape().appended(epochs).epoch_at(index)
    assert known == (epochs[index - 1] if 1 <= index <= len(epochs) else 0 if index == 0 else None)


def test_nothing_below_a_snapshot_is_dropped() -> None:
    with pytest.raises(ValueError, match="nothing below 3 can be dropped"):
        LogShape(base=3, base_epoch=1, last=3).cut_after(2)


def test_has() -> None:
    shape = LogShape().appended([1, 1, 2])
    assert shape.has(0, 0)
    assert shape.has(3, 2)
    assert not shape.has(3, 1)
    assert not shape.has(4, 2)


@given(EPOCHS, EPOCHS, st.integers(0, 12), st.integers(0, 12))
def test_an_edit_makes_the_log_hold_what_was_sent(mine: list[int], sent: list[int], prev: int, base: int) -> None:
    prev, base = min(prev, len(mine)), min(base, prev, len(mine))
    shape = LogShape().appended(mine).based_on(base, ([0, *mine])[base])
    edit = edit_of(shape, prev, sent)
    kept = mine if edit.drop_after is None else mine[: edit.drop_after]
    result = kept + sent[edit.skip :]
    assert result[prev : prev + len(sent)] == sent
    assert result[:prev] == mine[:prev]
    agreeing = 0
    for one, two in zip(mine[prev:], sent, strict=False):
        if one != two:
            break
        agreeing += 1
    # What agrees is never dropped, and nothing at all is if everything agrees.
    assert edit.drop_after is None or edit.drop_after == prev + agreeing
    assert (edit.drop_after is None) == (agreeing == min(len(sent), len(mine) - prev))
    if agreeing == len(sent):
        assert result == mine


@given(EPOCHS, st.integers(0, 12), st.integers(0, 12))
def test_entries_below_a_snapshot_are_covered(mine: list[int], base: int, prev: int) -> None:
    base = min(base, len(mine))
    prev = min(prev, base)
    shape = LogShape().appended(mine).based_on(base, ([0, *mine])[base])
    sent = [9] * (base - prev) + mine[base:] + [7]
    assert edit_of(shape, prev, sent) == Edit(None, len(mine) - prev)


def test_the_trace_of_five_entries_and_a_rep_of_two() -> None:
    """FAILOVER §6 (b): a new epoch, an in-sync standby with five entries, a first Rep of two: three must stay."""
    shape = LogShape().appended([1, 1, 1, 1, 1])
    assert edit_of(shape, 0, (1, 1)) == Edit(None, 2)
