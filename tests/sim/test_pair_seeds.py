"""Two controllers under random faults: many seeds, in batches, which together meet everything that a pair can meet.

`UNDERSTUDY_SEEDS` asks for more of them, as for the seeds of one controller.

Tests: engine/simulation/pair_faults.py
"""

import os
from pathlib import Path

import pytest

from engine.simulation.coverage import PAIR_CATALOGUE
from tests.sim.batches import ONE, assert_same_trace, replay, run_batch, several, shared_folder, single
from tests.sim.pair_mutants import PAIR_MUTANTS, PLANS, run_pair_mutant_seed
from tests.sim.pair_runs import PAIR_DRAWN
from tests.sim.runs import SQL_SEED, Report, run_seed

pytestmark = [pytest.mark.timeout(1_800), pytest.mark.slow]

SEEDS = int(os.environ.get("UNDERSTUDY_SEEDS") or 60)
BATCHES = 6
MUTANT_SEEDS_MAX = 30
DIGEST = "from tests.sim.pair_runs import *; from tests.sim.runs import *; print(run_seed({seed}, PAIR_DRAWN).digest)"


def run_pair_seed(seed: int) -> Report:
    return run_seed(seed, PAIR_DRAWN)


@pytest.fixture
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_folder(tmp_path_factory, "pair-accounts")


@single
def test_one_seed_of_a_pair() -> None:
    replay(run_seed(int(ONE or 0), PAIR_DRAWN, with_timeline=True))


@several
@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_seed_of_a_pair_keeps_its_accounts_and_all_together_meet_everything(batch: int, accounts: Path) -> None:
    run_batch(run_pair_seed, accounts, batch, seeds=SEEDS, batches=BATCHES, catalogue=PAIR_CATALOGUE)


@several
@pytest.mark.parametrize("seed", [2, 9, SQL_SEED])
def test_a_seed_of_a_pair_gives_the_same_trace_again_and_under_another_hash_seed(seed: int) -> None:
    assert_same_trace(run_pair_seed, DIGEST, seed)


@several
@pytest.mark.parametrize("name", PAIR_MUTANTS)
def test_a_mistake_planted_in_a_pair_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PAIR_MUTANTS[name](monkeypatch.setattr)
    if not any(run_pair_mutant_seed(name, seed).breaches for seed in range(MUTANT_SEEDS_MAX)):
        raise AssertionError(f"{name}: {MUTANT_SEEDS_MAX} seeds noticed nothing ({PAIR_MUTANTS[name].__doc__})")


@several
@pytest.mark.parametrize("name", PLANS)
def test_without_the_mistake_its_plan_does_a_pair_no_harm(name: str) -> None:
    assert set(PLANS) <= set(PAIR_MUTANTS)
    for seed in range(3):
        assert run_pair_mutant_seed(name, seed).breaches == []
