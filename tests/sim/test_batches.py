"""Batches of seeds: whoever is last looks whether everything was met, and goes on for a while if not.

Tests: tests/sim/batches.py
"""

from pathlib import Path

import pytest

from tests.sim.batches import run_batch
from tests.sim.runs import Report

WANTED = {"often": "always", "rare": "met by seed 7 only"}


def batches(folder: Path, count: int, seeds: int) -> list[int]:
    """Run all batches; return the seeds that were run."""
    ran: list[int] = []

    def run(seed: int) -> Report:
        ran.append(seed)
        return Report(seed, met={"often": 1} | ({"rare": 1} if seed == 7 else {}))

    for batch in range(count):
        run_batch(run, folder, batch, seeds=seeds, batches=count, catalogue=WANTED)
    return ran


def test_what_is_rare_is_looked_for_a_while_longer(tmp_path: Path) -> None:
    assert batches(tmp_path, 2, 4) == [0, 2, 1, 3, 4, 5, 6, 7]


def test_it_goes_on_no_longer_than_needed(tmp_path: Path) -> None:
    assert batches(tmp_path, 2, 8) == [0, 2, 4, 6, 1, 3, 5, 7]


def test_in_the_end_what_was_never_met_fails(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="rare: never"):
        batches(tmp_path, 1, 3)


def test_a_breach_fails_at_once(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"seed 0 .*\n.*both act"):
        run_batch(lambda seed: Report(seed, breaches=["both act"]), tmp_path, 0, seeds=2, batches=1, catalogue={})
