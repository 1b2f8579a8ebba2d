"""@simulate: what a user's own test gets, and what it is told when a seed fails.

Tests: engine/simulation/simulation.py
"""

import asyncio
import contextlib
import inspect
import time
from pathlib import Path
from typing import Any

import pytest

from engine import Workflow, job, retry
from engine.model.order import OrderState
from engine.simulation.seeds import WANTED
from engine.simulation.simulate import (
    Cluster,
    Drawn,
    Duration,
    Faults,
    JobRun,
    Simulation,
    SimulationFailed,
    Uniform,
    simulate,
)

WORK = Workflow("work", job("one", shell="work", on_lost="rerun"), job("two", command=["work"], on_lost="rerun"))
JOBS = {"*": Duration(ms_min=500, ms_max=3_000, results={"x": 1})}
SHORT = Faults(seconds=5.0)


@pytest.fixture(autouse=True)
def no_seeds_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UNDERSTUDY_SEED", raising=False)
    monkeypatch.delenv("UNDERSTUDY_SEEDS", raising=False)
    monkeypatch.setattr(WANTED, "corpus", str(tmp_path / "seeds"))


@simulate(seeds=6, cluster=Cluster(agents={"local": 2}), jobs=JOBS, faults=SHORT)
async def test_a_workflow_ends_through_all_faults(sim: Simulation) -> None:
    orders = [await sim.add_order(WORK) for _ in range(3)]
    again = await sim.add_order("work", order_id="work-1")
    assert (await again.ended()).id == "work-1"
    for order in orders:
        assert (await order.ended()).state is OrderState.FINISHED
        assert order.variables["x"] == 1
        assert order.outcome is not None
    sim.sometimes("something had to be run again", len(sim.processes()) > 6)
    assert sim.running() == []


@simulate(
    seeds=4,
    cluster=Cluster(controllers=2),
    jobs=JOBS,
    faults=Faults(seconds=15.0, kinds={"crash active": 1.0, "cut pair": 1.0}),
)
async def test_two_controllers_are_a_pair_and_the_test_need_not_know(sim: Simulation) -> None:
    for _ in range(3):
        await sim.add_order(WORK)
        await sim.sleep(5)
    order = await sim.add_order(WORK)
    assert (await order.ended()).state is OrderState.FINISHED
    sim.sometimes("the other controller took over", "pair: failover" in sim.cluster.lookout.sometimes.met)


@simulate(seeds=2, faults=None)
async def test_callables_of_the_workflow_are_known_and_good_weather_is_good(sim: Simulation) -> None:
    calls: list[int] = []

    async def count(number: int) -> dict[str, int]:
        await asyncio.sleep(1)
        calls.append(number)
        return {"sum": number + 1}

    workflow = Workflow("w", retry([job("count", python=count, arguments={"number": "${5}"})], times=2))
    order = await sim.add_order(workflow)
    await order.ended()
    assert order.variables == {"sum": 6}
    assert calls == [5]
    assert sim.storm.counts == {}


@simulate(
    seeds=3,
    faults=SHORT,
    jobs={"two": Drawn(ms=Uniform(500, 900), return_codes={0: 1.0}, results={"z": Uniform(1, 2)})},
)
async def test_coroutines_of_the_user_stand_for_jobs_and_so_do_draws(sim: Simulation) -> None:
    seen: list[str] = []

    async def one(run: JobRun) -> dict[str, Any]:
        await sim.sleep(1)
        seen.append(run.order)
        return {"y": run.attempt}

    sim.job("one", one)
    order = await sim.add_order(WORK)
    await sim.sleep(3)
    await sim.heal()
    await sim.run_until_quiet()
    assert order.state is OrderState.FINISHED
    assert set(seen) == {"work-1"}
    assert 1 <= float(str(order.variables["z"])) <= 2
    last = sim.processes("two")[-1]
    assert 500 <= (last.ended_ns - last.started_ns) / 1_000_000 <= 910


def failure_of(test: Any) -> SimulationFailed:
    with pytest.raises(SimulationFailed) as raised:
        test()
    return raised.value


def test_a_failing_seed_says_how_to_replay_it_and_how_it_ended() -> None:
    @simulate(seeds=3, faults=None)
    async def wrong(sim: Simulation) -> None:
        await sim.add_order(WORK)
        assert sim.seed < 1, "seeds above 0 are bad"

    failure = failure_of(wrong)
    assert failure.seed == 1
    text = str(failure)
    assert "seeds above 0 are bad" in text
    assert "UNDERSTUDY_SEED=1" in text
    assert "set UNDERSTUDY_SEED=1 and run test_a_failing_seed_" in text
    assert "make sim" not in text, "that would replay a seed of another test"
    assert "OrderAdded work-1" in text
    assert any("OrderAdded work-1" in line for line in failure.timeline)
    assert isinstance(failure.__cause__, AssertionError)


def test_what_must_hold_always_is_asked_at_every_event_and_process() -> None:
    @simulate(seeds=1, faults=None, jobs=JOBS)
    async def two_at_once(sim: Simulation) -> None:
        sim.always(lambda: len(sim.running("one")) < 2, "one at a time")
        for _ in range(2):
            await sim.add_order(WORK)

    assert "always: one at a time" in str(failure_of(two_at_once))

    @simulate(seeds=1, faults=None)
    async def can_not_be_asked(sim: Simulation) -> None:
        sim.always(lambda: 1 / 0, "a sum")
        await sim.add_order(WORK)

    assert "always: a sum (ZeroDivisionError: division by zero)" in str(failure_of(can_not_be_asked))


def test_what_no_seed_has_met_fails_at_the_end() -> None:
    @simulate(seeds=3, faults=None)
    async def never(sim: Simulation) -> None:
        sim.sometimes("a seed is 1", sim.seed == 1)
        sim.sometimes("a seed is 7", sim.seed == 7)

    with pytest.raises(AssertionError, match=r"in none of 3 seeds of .*never: a seed is 7"):
        never()


def test_an_order_that_never_ends_is_told_with_its_reason() -> None:
    @simulate(seeds=1, faults=None)
    async def nobody_there(sim: Simulation) -> None:
        await sim.add_order(Workflow("w", job("one", shell="work", bundle="nobody")))
        await sim.run_until_quiet(seconds=30)

    assert "L3: order w-1 is expecting" in str(failure_of(nobody_there))


def test_orders_may_rest_when_the_test_says_so() -> None:
    @simulate(seeds=1, faults=None, may_rest=lambda order: order.state is OrderState.EXPECTING)
    async def may_wait(sim: Simulation) -> None:
        await sim.add_order(Workflow("w", job("one", shell="work", bundle="nobody")))

    may_wait()


def test_reaching_for_the_real_world_is_an_escape_even_if_the_job_catches_it() -> None:
    def look() -> None:
        with contextlib.suppress(RuntimeError):
            time.time()

    @simulate(seeds=1, faults=None)
    async def escaping(sim: Simulation) -> None:
        await (await sim.add_order(Workflow("w", job("look", python=look)))).ended()

    assert "escape: time.time leaves the simulation" in str(failure_of(escaping))


def test_runners_see_a_plain_function_without_sim() -> None:
    @simulate(seeds=1, faults=None, cluster=Cluster(agents=["a", "b"]))
    async def documented(first: int, sim: Simulation, second: int = 2) -> None:
        """What it is for."""
        assert (first, second) == (1, 2)
        assert list(sim.cluster.agents) == ["a", "b"]

    assert list(inspect.signature(documented).parameters) == ["first", "second"]
    assert not inspect.iscoroutinefunction(documented)
    assert documented.__doc__ == "What it is for."
    documented(1)
    with pytest.raises(TypeError, match="no argument `sim`"):

        @simulate()
        async def without() -> None: ...

    with pytest.raises(TypeError, match="is no async function"):

        @simulate()  # type: ignore[arg-type]
        def waits_for_nothing(sim: Simulation) -> None: ...

    with pytest.raises(TypeError, match="jobs: 'pay' is 7; give a Duration"):
        simulate(jobs={"pay": 7})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="seeds must be a number from 1"):
        simulate(seeds=0)
