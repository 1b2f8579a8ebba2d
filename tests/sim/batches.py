"""Many seeds in batches: each batch keeps its accounts, and whoever is last looks whether all together met everything.

Batches run in several processes at once; their accounts lie in a folder that all of one session share.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.simulation.coverage import CATALOGUE, Coverage
from tests.sim.runs import Report

SHOWN_MAX = 20  # breaches of one seed in a failure's text
ONE = os.environ.get("UNDERSTUDY_SEED")
HASH_SEEDS = ("1", "4711")

several = pytest.mark.skipif(ONE is not None, reason="one seed was named")
single = pytest.mark.skipif(ONE is None, reason="no seed was named")

Run = Callable[[int], Report]


def complaint(report: Report) -> str:
    """Say what is wrong with a seed, and how it is seen again."""
    return "\n".join([f"seed {report.seed} (replay it: make sim SEED={report.seed})", *report.breaches[:SHOWN_MAX]])


def replay(report: Report) -> None:
    """Show a seed's timeline, and fail with what is wrong."""
    sys.stdout.write("\n".join(["", *report.timeline, ""]))
    assert not report.breaches, complaint(report)


def shared_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """Return a folder that all batches of one session share, whichever process runs them."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    return folder


def run_batch(
    run: Run, folder: Path, batch: int, *, seeds: int, batches: int, catalogue: dict[str, str] = CATALOGUE
) -> None:
    """Run a batch's share of the seeds; the last batch asserts that everything in the catalogue was met by some.

    What is rare may be missed where another Python draws otherwise: then it goes on, for as many seeds again at most.
    """
    coverage = Coverage()
    for seed in range(batch, seeds, batches):
        report = run(seed)
        assert not report.breaches, complaint(report)
        coverage.add(report.met)
    (folder / f"{batch}.json").write_text(json.dumps([coverage.runs, coverage.counts]))
    written = sorted(folder.glob("*.json"))
    if len(written) == batches:  # this one was the last
        together = Coverage()
        for path in written:
            together.merge(*json.loads(path.read_text()))
        assert together.runs == seeds
        for seed in range(seeds, 2 * seeds):
            if not together.missing(catalogue):
                break
            report = run(seed)
            assert not report.breaches, complaint(report)
            together.add(report.met)
        never = together.missing(catalogue)
        assert not never, "\n".join(never)


def assert_same_trace(run: Run, program: str, seed: int) -> None:
    """Run a seed twice here and once under each other hash seed, where `program` prints its digest."""
    digests = {run(seed).digest, run(seed).digest}
    for hash_seed in HASH_SEEDS:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        argv = [sys.executable, "-c", program.format(seed=seed)]
        ended = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True, timeout=300)
        digests.add(ended.stdout.strip())
    assert len(digests) == 1, f"seed {seed} gives {len(digests)} traces"
