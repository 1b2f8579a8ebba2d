import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.journal.retention import SAMPLES_MAX, Bounds, Decision, Growth, Hold, Sample, decide_trim

DAY = 86_400_000
MIB = 1 << 20


def steady(records: int = 1_000, record_bytes: int = 1 << 14, record_ms: int = 60_000) -> tuple[Growth, Sample]:
    """A journal that grew evenly, and where it stands now."""
    growth = Growth()
    for index in range(0, records + 1, 10):
        growth.note(Sample(index, index * record_ms, index * record_bytes))
    return growth, Sample(records, records * record_ms, records * record_bytes)


def decide(*holds: Hold, snapshot: int = 900, acknowledged: int = 1_000, bounds: Bounds | None = None) -> Decision:
    growth, now = steady()
    return decide_trim(
        snapshot_index=snapshot,
        acknowledged_index=acknowledged,
        holds=holds,
        growth=growth,
        now=now,
        bounds=bounds or Bounds(),
    )


@pytest.mark.parametrize(
    "snapshot, acknowledged, upto", [(900, 1_000, 900), (900, 400, 400), (0, 1_000, 0), (900, 0, 0)]
)
def test_never_above_the_snapshot_nor_what_everybody_in_sync_has(snapshot: int, acknowledged: int, upto: int) -> None:
    assert decide(snapshot=snapshot, acknowledged=acknowledged) == Decision(upto, ())


def test_a_reader_keeps_the_record_at_its_cursor_and_what_is_behind() -> None:
    assert decide(Hold("a", 500), Hold("b", 300), Hold("c", 950)) == Decision(299, ())
    assert decide(Hold("a", 900)) == Decision(899, ())
    assert decide(Hold("a", 901)) == Decision(900, ())
    assert decide(Hold("new", 0)) == Decision(0, ())


def test_a_reader_beyond_the_bytes_loses_its_hold() -> None:
    bounds = Bounds(bytes_max=8 * MIB)  # 512 records of 16 KiB
    assert decide(Hold("slow", 300), Hold("good", 600), bounds=bounds) == Decision(599, ("slow",))


def test_a_reader_beyond_the_age_loses_its_hold() -> None:
    bounds = Bounds(age_ms_max=5 * 60 * 60_000)  # 300 records of a minute
    assert decide(Hold("old", 600), Hold("young", 750), bounds=bounds) == Decision(749, ("old",))


def test_a_reader_at_the_end_loses_nothing_however_old_the_journal_is() -> None:
    growth, now = steady()
    later = Sample(now.index, now.at_ms + 365 * DAY, now.written_bytes)
    decision = decide_trim(
        snapshot_index=1_000,
        acknowledged_index=1_000,
        holds=[Hold("at the end", 1_000)],
        growth=growth,
        now=Sample(later.index, growth.samples[-1].at_ms, later.written_bytes),
        bounds=Bounds(age_ms_max=DAY),
    )
    assert decision == Decision(999, ())


def test_samples_stay_bounded_and_even() -> None:
    growth, now = steady(records=1_000_000)
    assert len(growth.samples) <= SAMPLES_MAX
    size, age = growth.behind(500_000, now)
    assert 0.98 * (500_000 << 14) <= size <= 500_000 << 14
    assert 0.98 * 500_000 * 60_000 <= age <= 500_000 * 60_000


def test_a_shorter_log_forgets_the_samples_above_its_end() -> None:
    growth, now = steady()
    growth.note(Sample(500, now.at_ms + 1, now.written_bytes + 2 * MIB))
    assert growth.samples[-1].index == 500
    assert all(one.index <= 500 for one in growth.samples)


def test_trimmed_samples_go_but_the_beginning_stays() -> None:
    growth, now = steady()
    before = growth.behind(500, now)
    growth.forget(499)
    assert growth.behind(500, now) == before
    assert growth.samples[0].index in range(489, 500)


@given(
    st.integers(0, 1_200),
    st.integers(0, 1_000),
    st.lists(st.integers(0, 1_000), max_size=5),
    st.integers(1, 1_000),
    st.integers(1, 1_000),
)
def test_the_decision_keeps_its_promises(
    snapshot: int, acknowledged: int, cursors: list[int], kept_records: int, kept_minutes: int
) -> None:
    holds = [Hold(f"reader {place}", index) for place, index in enumerate(cursors)]
    bounds = Bounds(kept_records << 14, kept_minutes * 60_000)
    decision = decide(*holds, snapshot=snapshot, acknowledged=acknowledged, bounds=bounds)
    assert 0 <= decision.upto <= min(snapshot, acknowledged)
    for hold in holds:
        within = 1_000 - hold.index <= min(kept_records, kept_minutes)
        if within:
            assert hold.name not in decision.lost
        if hold.name not in decision.lost and hold.index:
            assert decision.upto <= hold.index - 1 or decision.upto <= min(snapshot, acknowledged) < hold.index
