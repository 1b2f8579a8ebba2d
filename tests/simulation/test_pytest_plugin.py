"""The plug-in in a pytest of its own, loaded by its entry point: options, markers, header, timelines, kept seeds."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TESTS = """
from engine import Workflow, job
from engine.simulation.simulate import simulate

@simulate(seeds=2, faults=None)
async def test_good(sim):
    await sim.add_order(Workflow("w", job("one", shell="work")))

@simulate(seeds=2, faults=None)
async def test_bad(sim):
    await sim.add_order(Workflow("w", job("one", shell="work")))
    assert sim.seed != 1, "on purpose"

def test_plain():
    pass
"""
ENTRY_POINT = "[pytest11]\nunderstudy = engine.simulation.pytest_plugin\n"


@pytest.fixture
def installed(tmp_path: Path) -> str:
    """A place where the plug-in is installed as pyproject.toml says, and nothing else is that pytest would load."""
    assert (
        '[project.entry-points.pytest11]\nunderstudy = "engine.simulation.pytest_plugin"'
        in (ROOT / "pyproject.toml").read_text()
    )
    metadata = tmp_path / "site" / "understudy_here-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: understudy-here\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINT)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(TESTS)
    (tmp_path / "tests" / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider -p no:asyncio\n")
    return str(tmp_path)


def run(place: str, *arguments: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UNDERSTUDY_", "PYTEST_"))}
    folder = Path(place) / "tests"
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "--rootdir", str(folder), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**kept, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(place) / "site")]), **environment},
    )
    return ended.stdout + ended.stderr


def test_a_failed_seed_is_reported_with_its_timeline_and_is_run_first_next_time(installed: str) -> None:
    everything = run(installed)
    assert "1 failed, 2 passed" in everything
    assert "timeline of seed 1" in everything
    assert "OrderAdded w-1" in everything
    assert "on purpose" in everything
    command = re.search(r'pytest "(.*::test_bad)" --sim-seed 1', everything)
    assert command is not None
    again = run(installed, "--sim-seeds", "1")
    assert "test_bad: seeds that failed before are run first: 1" in again
    assert "1 failed, 2 passed" in again
    assert "understudy: --sim-seeds=1" in again
    shutil.rmtree(Path(installed) / "tests" / ".understudy-seeds")
    assert "3 passed" in run(installed, "--sim-seeds", "1")


def test_a_replay_prints_its_timeline_although_output_is_captured(installed: str) -> None:
    good = run(installed, "--sim-seed", "0", "-k", "bad")
    assert "1 passed" in good
    assert "seed 0 of test_bad" in good
    assert "OrderAdded w-1" in good
    by_environment = run(installed, "-k", "bad", UNDERSTUDY_SEED="1")
    assert "seed 1 of test_bad" in by_environment
    assert "1 failed" in by_environment
    assert by_environment.count("OrderAdded w-1") == 1, "once is enough"


@pytest.mark.parametrize("words", [("--sim-seed", "x"), ("--sim-seed", "-1"), ("--sim-seeds", "0")])
def test_a_wrong_number_is_a_wrong_usage(installed: str, words: tuple[str, str]) -> None:
    assert f"argument {words[0]}: invalid" in run(installed, *words)


def test_simulated_tests_can_be_chosen_and_the_corpus_be_off(installed: str) -> None:
    chosen = run(installed, "-m", "not simulated", UNDERSTUDY_SEEDS="1")
    assert "1 passed, 2 deselected" in chosen
    assert "understudy: UNDERSTUDY_SEEDS=1" in chosen
    assert "1 failed" in run(installed, "--sim-corpus", "off")
    assert not (Path(installed) / "tests" / ".understudy-seeds").exists()


def test_workers_keep_their_seeds_too(installed: str) -> None:
    assert "1 failed, 2 passed" in run(installed, "-n", "2")
    assert len(list((Path(installed) / "tests" / ".understudy-seeds").iterdir())) == 1


def test_simulate_needs_no_plugin(installed: str) -> None:
    without = run(installed, "-p", "no:understudy")
    assert "1 failed, 2 passed" in without
    assert "set UNDERSTUDY_SEED=1 and run test_bad alone" in without
