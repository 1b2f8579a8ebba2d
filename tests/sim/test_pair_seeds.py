"""Two controllers under random faults: many seeds, in batches, which together meet everything that a pair can meet.

`UNDERSTUDY_SEEDS` asks for more of them, as for the seeds of one controller.

Tests: engine/simulation/pair_faults.py
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.simulation.coverage import PAIR_CATALOGUE, Coverage
from tests.sim.pair_mutants import PAIR_MUTANTS, PLANS, run_pair_mutant_seed
from tests.sim.pair_runs import PAIR_DRAWN
from tests.sim.runs import Report, run_seed

pytestmark = [pytest.mark.timeout(1_800), pytest.mark.slow]

SEEDS = int(os.environ.get("UNDERSTUDY_SEEDS") or 60)
BATCHES = 6
MUTANT_SEEDS_MAX = 30
ONE = os.environ.get("UNDERSTUDY_SEED")
SHOWN_MAX = 20  # breaches of one seed in a failure's text
DIGEST = "from tests.sim.pair_runs import *; from tests.sim.runs import *; print(run_seed({seed}, PAIR_DRAWN).digest)"

several = pytest.mark.skipif(ONE is not None, reason="one seed was named")


def complaint(report: Report) -> str:
    shown = "\n".join(report.breaches[:SHOWN_MAX])
    return f"seed {report.seed} of a pair (replay it: make sim SEED={report.seed})\n{shown}"


@pytest.fixture
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all batches of one session share, whichever process runs them."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "pair-accounts"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.skipif(ONE is None, reason="no seed was named")
def test_one_seed_of_a_pair() -> None:
    report = run_seed(int(ONE or 0), PAIR_DRAWN, with_timeline=True)
    sys.stdout.write("\n".join(["", *report.timeline, ""]))
    assert not report.breaches, complaint(report)


@several
@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_seed_of_a_pair_keeps_its_accounts_and_all_together_meet_everything(batch: int, accounts: Path) -> None:
    coverage = Coverage()
    for seed in range(batch, SEEDS, BATCHES):
        report = run_seed(seed, PAIR_DRAWN)
        assert not report.breaches, complaint(report)
        coverage.add(report.met)
    (accounts / f"{batch}.json").write_text(json.dumps([coverage.runs, coverage.counts]))
    written = sorted(accounts.glob("*.json"))
    if len(written) == BATCHES:  # this one was the last
        together = Coverage()
        for path in written:
            together.merge(*json.loads(path.read_text()))
        assert together.runs == SEEDS
        assert together.missing(PAIR_CATALOGUE) == []


@several
@pytest.mark.parametrize("seed", [2, 9])
def test_a_seed_of_a_pair_gives_the_same_trace_again_and_under_another_hash_seed(seed: int) -> None:
    digests = {run_seed(seed, PAIR_DRAWN).digest, run_seed(seed, PAIR_DRAWN).digest}
    for hash_seed in ("1", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        argv = [sys.executable, "-c", DIGEST.format(seed=seed)]
        ended = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True, timeout=300)
        digests.add(ended.stdout.strip())
    assert len(digests) == 1, f"seed {seed} gives {len(digests)} traces"


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
