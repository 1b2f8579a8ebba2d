"""@simulate: what a user's test is told when it fails, what it must have seen, and how a seed is replayed.

Tests: engine/simulation/simulate.py, engine/simulation/pytest_plugin.py
Tests: engine/simulation/node.py, engine/simulation/leftovers.py
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine import Workflow, job
from engine.simulation.modelled_jobs import Duration
from engine.simulation.simulate import Simulation, SimulationFailed, simulate

ONE = Workflow("one", job("step", shell="true"))
JOBS = {"step": Duration(ms_min=10, ms_max=20)}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_seed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNDERSTUDY_SEED", raising=False)
    monkeypatch.delenv("UNDERSTUDY_SEEDS", raising=False)


def test_a_test_runs_over_its_seeds_and_sees_real_processes() -> None:
    seen: list[int] = []

    @simulate(seeds=3, jobs=JOBS, faults=None)
    async def check(sim: Simulation) -> None:
        order = await sim.add_order(ONE)
        assert (await order.ended()).state == "finished"
        assert len(sim.processes("step")) == 1
        seen.append(sim.seed)

    check()
    assert seen == [0, 1, 2]


def test_a_condition_that_breaks_names_the_seed_and_how_to_replay_it() -> None:
    @simulate(seeds=2, jobs=JOBS, faults=None)
    async def check(sim: Simulation) -> None:
        sim.always(lambda: not sim.running("step"), "nothing ever runs")
        await (await sim.add_order(ONE)).ended()

    with pytest.raises(SimulationFailed, match="nothing ever runs") as failed:
        check()
    assert failed.value.seed == 0
    assert "make sim SEED=0" in str(failed.value)
    assert failed.value.timeline


def test_what_no_seed_met_fails_the_test() -> None:
    @simulate(seeds=2, jobs=JOBS, faults=None)
    async def check(sim: Simulation) -> None:
        sim.sometimes("the moon is blue", condition=False)

    with pytest.raises(AssertionError, match=r"in none of 2 seeds of .*: the moon is blue"):
        check()


def test_the_environment_chooses_the_seed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seeds: list[int] = []

    @simulate(seeds=5, jobs=JOBS, faults=None)
    async def check(sim: Simulation) -> None:
        await (await sim.add_order(ONE)).ended()
        seeds.append(sim.seed)

    monkeypatch.setenv("UNDERSTUDY_SEED", "17")
    check()
    assert seeds == [17]
    assert "seed 17 of" in capsys.readouterr().out


def test_a_test_without_sim_is_refused() -> None:
    with pytest.raises(TypeError, match="takes no argument `sim`"):

        @simulate(seeds=1)
        async def check() -> None: ...


def test_pytest_shows_the_timeline_of_a_failing_seed(tmp_path: Path) -> None:
    (tmp_path / "test_user.py").write_text(
        "from engine.simulation.simulate import simulate\n"
        "@simulate(seeds=1, faults=None)\n"
        "async def test_wrong(sim):\n"
        "    assert False, 'as planned'\n"
    )
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "as planned" in ended.stdout
    assert "timeline of seed 0" in ended.stdout
