"""The plug-in in a pytest of its own: markers, header, and the timeline of a seed that failed."""

import os
import subprocess
import sys
from pathlib import Path

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
    assert False, "on purpose"

def test_plain():
    pass
"""


def run(folder: Path, *arguments: str, **environment: str) -> str:
    (folder / "test_it.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider -p no:asyncio\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UNDERSTUDY_", "PYTEST_"))}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "--rootdir", str(folder), *arguments, str(folder)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
    )
    return ended.stdout + ended.stderr


def plugged_in(folder: Path) -> list[str]:
    """How to load the plug-in where it is not installed as an entry point."""
    known = "engine.simulation.pytest_plugin" in run(folder, "--trace-config", "--collect-only", "-q")
    return [] if known else ["-p", "engine.simulation.pytest_plugin"]


def test_a_failed_seed_is_reported_with_its_timeline_and_simulated_tests_can_be_chosen(tmp_path: Path) -> None:
    plugin = plugged_in(tmp_path)
    everything = run(tmp_path, *plugin)
    assert "1 failed, 2 passed" in everything
    assert "timeline of seed 0" in everything
    assert "OrderAdded w-1" in everything
    assert "on purpose" in everything
    chosen = run(tmp_path, *plugin, "-m", "not simulated", UNDERSTUDY_SEEDS="1")
    assert "1 passed, 2 deselected" in chosen
    assert "understudy: UNDERSTUDY_SEEDS=1" in chosen


def test_simulate_needs_no_plugin(tmp_path: Path) -> None:
    assert "1 failed, 2 passed" in run(tmp_path, "-p", "no:understudy")
