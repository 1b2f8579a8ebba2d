"""The times' inequalities, each at its boundary.

Tests: engine/rules/pair/times.py
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.rules.pair.times import Times, faults_of, wait_ms_min

FAST = Times(250, 625, 750, 900, 870, 2_500, 900, 100, 125)


def test_what_stands_there_is_safe() -> None:
    assert faults_of(Times()) == []
    assert wait_ms_min(Times()) == 3_404
    assert faults_of(FAST) == []


def test_the_wait_at_its_boundary() -> None:
    assert faults_of(Times(wait_ms=3_404)) == []
    needs = "a lease of 3000 ms, a loop late by 400 ms and clocks wrong by 500 ppm need at least 3404"
    assert faults_of(Times(wait_ms=3_403)) == [f"wait_ms is 3403; {needs}, or two nodes may act at once."]


@pytest.mark.parametrize(
    ("fits", "breaks", "says"),
    [
        ({"takeover_ms": 3_420}, {"takeover_ms": 3_419}, "below wait_ms 3420"),
        ({"beat_ms": 1_166}, {"beat_ms": 1_167}, "three missed beats of 1167 ms need more than 3501"),
        ({"silence_ms": 2_001}, {"silence_ms": 2_000}, "two missed beats of 1000 ms need more than 2000"),
        ({"silence_ms": 2_999}, {"silence_ms": 3_000}, "the owner would be fenced before it asks"),
        (
            {"silence_ms": 2_999, "lateness_ms": 400, "takeover_ms": 3_420},
            {"silence_ms": 2_999, "lateness_ms": 401, "takeover_ms": 3_400, "wait_ms": 3_400},
            "the standby could ask before the healthy owner does",
        ),
        ({"good_ms": 3_000}, {"good_ms": 2_999}, "a beat would be bad while its sender's lease is valid"),
        ({"batch_ms": 3_501}, {"batch_ms": 3_500}, "because its peer's disk is slow"),
        ({"again_ms": 3_499}, {"again_ms": 3_500}, "one lost answer would cost more than a whole suspicion"),
        ({"clock_error_ppm": 0}, {"clock_error_ppm": -1}, "clock_error_ppm is -1; it must be from 0 to 100000"),
        ({"near": 0}, {"near": -1}, "near is -1; it must not be negative"),
        ({"lateness_ms": 1}, {"lateness_ms": 0}, "lateness_ms is 0; it must be above 0"),
    ],
)
def test_each_inequality_at_its_boundary(fits: dict[str, int], breaks: dict[str, int], says: str) -> None:
    assert faults_of(replace(Times(), **fits)) == []
    assert says in "\n".join(faults_of(replace(Times(), **breaks)))


@given(st.integers(1, 60_000), st.integers(1, 5_000), st.integers(0, 100_000))
def test_the_shortest_wait_outlasts_a_lease_on_the_worst_clocks(lease: int, late: int, ppm: int) -> None:
    """True time from the grant: the owner acts until at most `lasts`, the standby waits for at least `waits`."""
    error = ppm / 1_000_000
    wait = wait_ms_min(Times(lease_ms=lease, lateness_ms=late, clock_error_ppm=ppm))
    lasts, waits = lease / (1 - error) + late, wait / (1 + error)
    assert waits >= lasts - 1e-6
    assert (wait - 1) / (1 + error) < lasts + 1e-6
