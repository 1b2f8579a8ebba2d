"""Leased jobs under cuts, clogs, pauses, crashes and wrong clocks: never two processes of one order at once.

`UNDERSTUDY_SEEDS` asks for more seeds, `make sim SEED=…` shows one with its timeline.

Tests: engine/rules/leases.py, actors/director.py, engine/simulation/process_host.py
"""

import os

import pytest

from engine.rules.agent import AgentMachine
from tests.sim.batches import ONE, assert_same_trace, complaint, replay, several, single
from tests.sim.lease_runs import LEASE_MUTANTS, TIMES, run_lease_seed

pytestmark = [pytest.mark.timeout(1_800), pytest.mark.slow]

SEEDS = int(os.environ.get("UNDERSTUDY_SEEDS") or 60)
BATCHES = 3
MUTANT_SEEDS_MAX = 30
MET = ("run again", "lease expired", "fenced or lost", "succeeded", "fenced", "leases")
DIGEST = (
    "from engine.rules.agent import AgentMachine; from tests.sim.lease_runs import *;"
    " AgentMachine.lease_times = TIMES; print(run_lease_seed({seed}).digest)"
)


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AgentMachine, "lease_times", TIMES)


@single
def test_one_seed_of_leases() -> None:
    replay(run_lease_seed(int(ONE or 0), with_timeline=True))


@several
@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_two_processes_of_an_order_run_at_once(batch: int) -> None:
    met: dict[str, int] = {}
    for seed in range(batch, SEEDS, BATCHES):
        report = run_lease_seed(seed)
        assert not report.breaches, complaint(report)
        for what, count in report.met.items():
            met[what] = met.get(what, 0) + count
    assert [what for what in MET if not met.get(what)] == []


@several
@pytest.mark.parametrize("batch", range(BATCHES))
def test_nor_when_one_director_takes_over_from_the_other(batch: int) -> None:
    met: dict[str, int] = {}
    for seed in range(batch, SEEDS, BATCHES):
        report = run_lease_seed(seed, directors=True)
        assert not report.breaches, complaint(report)
        for what, count in report.met.items():
            met[what] = met.get(what, 0) + count
    assert [what for what in (*MET, "taken over") if not met.get(what)] == []


@several
@pytest.mark.parametrize("batch", range(BATCHES))
def test_guards_that_are_killed_and_replaced_keep_leases(batch: int) -> None:
    fenced = crashes = 0
    for seed in range(batch, SEEDS, BATCHES):
        report = run_lease_seed(seed, guards=True)
        assert not report.breaches, complaint(report)
        fenced += report.met["fenced"]
        crashes += report.met["guard_crashes"]
    assert fenced
    assert crashes


@several
def test_a_seed_of_leases_gives_the_same_trace_again_and_under_another_hash_seed() -> None:
    assert_same_trace(run_lease_seed, DIGEST, 4)


@several
@pytest.mark.parametrize("name", LEASE_MUTANTS)
def test_a_mistake_planted_in_leases_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    LEASE_MUTANTS[name](monkeypatch.setattr)
    if not any(run_lease_seed(seed).breaches for seed in range(MUTANT_SEEDS_MAX)):
        raise AssertionError(f"{name}: {MUTANT_SEEDS_MAX} seeds noticed nothing ({LEASE_MUTANTS[name].__doc__})")
