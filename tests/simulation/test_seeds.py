"""Running seeds: which ones, the kept ones first, what a failure says, progress, replay."""

from pathlib import Path
from typing import Any

import pytest

from engine import Workflow, job
from engine.simulation import seeds as module
from engine.simulation.corpus import FOLDER, PASSES_WANTED
from engine.simulation.faults import Faults
from engine.simulation.modelled_jobs import Duration
from engine.simulation.report import Totals
from engine.simulation.seeds import (
    WANTED,
    Simulated,
    SimulationFailed,
    chosen_seeds,
    corpus_of,
    run_one,
    run_seeds,
    run_test,
)
from engine.simulation.settings import Cluster, Settings
from engine.simulation.simulation import Simulation

WORK = Workflow("work", job("one", shell="work"))


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said to the person; nothing else is wanted of these tests."""
    for name in ("UNDERSTUDY_SEED", "UNDERSTUDY_SEEDS", "UNDERSTUDY_CORPUS"):
        monkeypatch.delenv(name, raising=False)
    lines: list[str] = []
    for name, value in (("seed", None), ("seeds", None), ("corpus", None), ("tell", lines.append)):
        monkeypatch.setattr(WANTED, name, value)
    return lines


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "test_it.py"
    path.write_text("")
    return path


def simulated(file: Path, bad: set[int], ran: list[int], **settings: Any) -> Simulated:
    """A test whose seeds in `bad` fail; it notes in `ran` which ones it ran."""

    async def test(sim: Simulation) -> None:
        ran.append(sim.seed)
        sim.sometimes("it is 1", sim.seed == 1)
        assert sim.seed not in bad, f"seed {sim.seed} is bad"

    return Simulated(test, Settings(**({"seeds": 4} | settings)), "test_one", str(file))


def failure_of(one: Simulated) -> SimulationFailed:
    with pytest.raises(SimulationFailed) as raised:
        run_test(one)
    return raised.value


# --- which seeds


def test_the_environment_says_which_seeds_and_options_go_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_seeds(3) == ([0, 1, 2], False)
    monkeypatch.setenv("UNDERSTUDY_SEEDS", "5")
    assert chosen_seeds(3) == ([0, 1, 2, 3, 4], False)
    monkeypatch.setattr(WANTED, "seeds", 2)
    assert chosen_seeds(3) == ([0, 1], False)
    monkeypatch.setenv("UNDERSTUDY_SEED", "9")
    assert chosen_seeds(3) == ([9], True)
    monkeypatch.setattr(WANTED, "seed", 0)
    assert chosen_seeds(3) == ([0], True)


@pytest.mark.parametrize(
    ("name", "text"),
    [("UNDERSTUDY_SEED", "x"), ("UNDERSTUDY_SEED", "-1"), ("UNDERSTUDY_SEEDS", "0"), ("UNDERSTUDY_SEEDS", "9" * 30)],
)
def test_a_number_that_is_none_is_refused_with_its_name(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(ValueError, match=f"{name}='{text}' is no number"):
        chosen_seeds(3)


# --- one seed


async def two_orders(sim: Simulation) -> None:
    for _ in range(2):
        await sim.add_order(WORK)
        await sim.sleep(1)
    sim.sometimes("always")


def test_a_seed_reports_what_it_came_to_and_the_same_again() -> None:
    settings = Settings(
        seeds=1, cluster=Cluster(agents={"a": 2, "local": 1}), faults=Faults(seconds=10), jobs={"*": Duration()}
    )
    first, again = run_one(3, two_orders, settings), run_one(3, two_orders, settings)
    report = first.report
    assert report.found == []
    assert sum(report.endings.values()) == 2
    assert report.messages > 10
    assert sum(report.faults.values()) > 3
    assert report.processes >= 1
    assert report.virtual_s > 10
    assert report.asked == {"always": True}
    assert (report.digest, first.timeline()) == (again.report.digest, again.timeline())
    assert run_one(4, two_orders, settings).report.digest != report.digest


def test_looking_on_changes_nothing_that_happens() -> None:
    settings = Settings(seeds=1, faults=Faults(seconds=5))
    progress = module.Progress("x", 1, Totals(), lambda _: None)
    assert (
        run_one(2, two_orders, settings, [progress.watch]).report.digest
        == run_one(2, two_orders, settings).report.digest
    )


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("no"), ZeroDivisionError("no"), RuntimeError("no")])
def test_whatever_a_test_raises_is_a_finding_of_its_seed(error: Exception) -> None:
    async def test(sim: Simulation) -> None:
        raise error

    done = run_one(1, test, Settings(seeds=1))
    (found,) = done.report.found
    assert found.startswith(f"{type(error).__name__}: {error} (test_seeds.py:")
    assert done.failure is error


def test_breaches_stand_for_themselves() -> None:
    async def test(sim: Simulation) -> None:
        sim.cluster.lookout.breaches.tell("S5: it ran twice")
        sim.cluster.raise_breaches()

    assert run_one(1, test, Settings(seeds=1)).report.found == ["S5: it ran twice"]


# --- many


def test_the_first_failing_seed_ends_the_test_is_kept_and_run_first_next_time(file: Path, said: list[str]) -> None:
    ran: list[int] = []
    failure = failure_of(simulated(file, {2}, ran))
    assert (failure.seed, ran) == (2, [0, 1, 2])
    assert "set UNDERSTUDY_SEED=2 and run test_one alone" in str(failure)
    assert str(file.parent / FOLDER) in failure.kept
    assert failure.kept in str(failure)
    ran.clear()
    failure_of(simulated(file, {2}, ran))
    assert ran == [2]
    assert said == ["test_one: seeds that failed before are run first: 2"]


def test_a_kept_seed_beyond_the_asked_ones_is_run_until_it_has_passed_often_enough(file: Path, said: list[str]) -> None:
    ran: list[int] = []
    failure_of(simulated(file, {3}, ran))
    for _ in range(PASSES_WANTED):
        ran.clear()
        run_test(simulated(file, set(), ran, seeds=2))
        assert ran == [3, 0, 1]
    ran.clear()
    run_test(simulated(file, set(), ran, seeds=2))
    assert ran == [0, 1]
    assert said[-1] == f"test_it.py::test_one: seed 3 has passed {PASSES_WANTED} times and is no longer kept."


def test_under_other_settings_a_kept_seed_is_not_run(file: Path, said: list[str]) -> None:
    ran: list[int] = []
    failure_of(simulated(file, {3}, ran))
    ran.clear()
    run_test(simulated(file, set(), ran, seeds=2, faults=Faults(seconds=1)))
    assert ran == [0, 1]
    assert "failed under other settings" in said[0]


def test_the_person_may_want_no_corpus_or_another_place(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERSTUDY_CORPUS", "off")
    assert failure_of(simulated(file, {0}, [])).kept == ""
    monkeypatch.setattr(WANTED, "corpus", str(tmp_path / "there"))
    assert failure_of(simulated(file, {0}, [])).kept.startswith(str(tmp_path / "there"))
    assert not (tmp_path / FOLDER).exists()


def test_what_no_seed_has_met_fails_at_the_end(file: Path) -> None:
    run_test(simulated(file, set(), [], seeds=2))
    with pytest.raises(AssertionError, match="in none of 1 seeds of test_one: it is 1"):
        run_test(simulated(file, set(), [], seeds=1))


def test_a_replay_runs_one_seed_tells_its_timeline_and_leaves_the_corpus_alone(
    file: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WANTED, "seed", 17)
    ran: list[int] = []
    run_test(simulated(file, set(), ran))
    assert ran == [17]
    lines = said[0].splitlines()
    assert lines[0] == "seed 17 of test_one"
    assert any("EpochBegan epoch=1" in line for line in lines)
    failure = failure_of(simulated(file, {17}, ran))
    assert "\nseed 17 is bad" in said[1]
    assert failure.timeline == [], "it is there already"
    assert not (file.parent / FOLDER).exists()


def test_progress_is_told_when_it_takes_long_and_gets_rarer(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, lines = [0.0], list[str]()
    monkeypatch.setattr(module, "monotonic", lambda: now[0])

    async def test(sim: Simulation) -> None:
        now[0] += 1.0

    one, totals = Simulated(test, Settings(seeds=30), "slow", str(file)), Totals()
    run_seeds(one, range(30), totals, corpus=None, tell=lines.append)
    assert lines[0].startswith("slow: 2 of 30 seeds after 2 s, at seed 1 (virtual second ")
    assert 4 <= len(lines) <= 7
    assert totals.seeds == 30


def test_progress_is_told_within_a_long_seed_too(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(module, "EVENTS_A_LOOK", 1)
    monkeypatch.setattr(module, "monotonic", iter(range(0, 10**9, 10)).__next__)
    run_seeds(Simulated(two_orders, Settings(seeds=1), "one", str(file)), [0], Totals(), corpus=None, tell=lines.append)
    assert "one: 0 of 1 seeds after" in lines[0]


def test_the_corpus_is_that_of_the_test_s_own_file(file: Path) -> None:
    corpus = corpus_of(simulated(file, set(), []), print)
    assert corpus is not None
    assert (corpus.folder, corpus.test) == (file.parent / FOLDER, "test_it.py::test_one")
