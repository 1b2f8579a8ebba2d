"""Random clusters with random work under random faults: many seeds, in batches, which together meet everything.

`make sim SEED=17` replays one with its timeline; `make sim SEEDS=2000` tries more.

Tests: engine/simulation/cluster.py, engine/simulation/faults.py, engine/simulation/audit.py
Tests: engine/simulation/checkers.py, engine/simulation/coverage.py, engine/simulation/observe.py
"""

import os
from pathlib import Path

import pytest

from tests.sim.batches import ONE, assert_same_trace, replay, run_batch, several, shared_folder, single
from tests.sim.runs import SQL_SEED, run_seed

pytestmark = [pytest.mark.timeout(1_800), pytest.mark.slow]

SEEDS = int(os.environ.get("UNDERSTUDY_SEEDS") or 240)
BATCHES = 10
DIGEST = "from tests.sim.runs import SQL_SEED, run_seed; print(run_seed({seed}).digest)"


@pytest.fixture
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_folder(tmp_path_factory, "accounts")


@single
def test_one_seed() -> None:
    replay(run_seed(int(ONE or 0), with_timeline=True))


@several
@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_seed_keeps_its_accounts_and_all_batches_together_meet_everything(batch: int, accounts: Path) -> None:
    run_batch(run_seed, accounts, batch, seeds=SEEDS, batches=BATCHES)


@several
@pytest.mark.parametrize("seed", [3, 11, SQL_SEED])
def test_a_seed_gives_the_same_trace_again_and_under_another_hash_seed(seed: int) -> None:
    assert_same_trace(run_seed, DIGEST, seed)
