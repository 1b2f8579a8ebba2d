"""Beats and ticks on an absolute schedule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pair.schedule import Schedule, tick_ms
from engine.rules.pair.times import Times


@given(st.integers(1, 1_000), st.integers(0, 10_000), st.lists(st.integers(0, 5_000), max_size=50))
def test_lateness_moves_no_later_instant(every_ms: int, begin_ms: int, steps: list[int]) -> None:
    schedule, now_ms, last_ms = Schedule(every_ms, begin_ms), begin_ms, None
    for step in [0, *steps]:
        now_ms += step
        due_ms = schedule.due_ms
        late_ms = schedule.take(now_ms)
        assert (late_ms is None) == (now_ms < due_ms)
        if late_ms is not None:
            assert late_ms == now_ms - due_ms
            last_ms = now_ms
        assert (schedule.due_ms - begin_ms) % every_ms == 0, "on the grid"
        assert now_ms < schedule.due_ms <= now_ms + every_ms or (last_ms is None)
    assert last_ms is not None, "the first is due at once"


def test_what_was_slept_through_is_done_once() -> None:
    schedule = Schedule(100, 0)
    assert [schedule.take(now_ms) for now_ms in (0, 1, 730, 731, 799, 800)] == [0, None, 630, None, None, 0]


@pytest.mark.parametrize("times", [Times(), Times(beat_ms=250, lateness_ms=100), Times(beat_ms=3, lateness_ms=1)])
def test_no_stop_longer_than_the_lateness_allowed_passes_unseen(times: Times) -> None:
    """A stop that begins right behind a tick shows less by the distance of the ticks."""
    assert tick_ms(times) >= 1
    if times.lateness_ms > 1:
        assert times.lateness_ms - tick_ms(times) >= times.lateness_ms // 2
