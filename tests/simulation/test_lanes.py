"""Lanes: bars and points of a real run, cuts as they were, and what is left out when there is too much."""

import asyncio
from typing import Any

import pytest

from engine import Workflow, job
from engine.simulation.faults import Faults
from engine.simulation.lanes import FAULTS, NETWORK, REGISTER, Bar, Lane, Story, Watch, story_of
from engine.simulation.modelled_jobs import Duration
from engine.simulation.seeds import Test, run_one
from engine.simulation.settings import Cluster, Settings
from engine.simulation.simulation import Simulation

WORK = Workflow("work", job("one", shell="work", on_lost="rerun"))


def told(test: Test, *, seed: int = 0, entries_max: int = 20_000, **settings: Any) -> Story:
    """The story of a run without faults of its own, unless some are given."""
    watch = Watch()
    plain: dict[str, Any] = {"seeds": 1, "jobs": {"*": Duration(ms_min=2_000, ms_max=2_000)}}
    done = run_one(seed, test, Settings(**(plain | settings)), [watch])
    assert done.simulation is not None
    return story_of(done.simulation, watch, done.report.found, "it", entries_max=entries_max)


def lane(story: Story, name: str) -> Lane:
    return next(one for one in story.lanes if one.name == name)


def bars(story: Story, name: str, *kinds: str) -> list[Bar]:
    return [bar for bar in lane(story, name).bars if bar.kind in kinds]


def points(story: Story, name: str, kind: str) -> list[str]:
    return [point.text for point in lane(story, name).points if point.kind == kind]


async def broken(sim: Simulation) -> None:
    """Break everything once, at known times."""
    cluster = sim.cluster
    await sim.add_order(WORK)
    await asyncio.sleep(1)
    cluster.crash("local-1")
    await asyncio.sleep(1)
    cluster.boot("local-1")
    await asyncio.sleep(1)
    cluster.pause("local")
    cluster.network.cut("controller", "local")
    cluster.network.clog("local", "local-1", 500)
    await asyncio.sleep(1)
    cluster.resume("local")
    cluster.network.heal_between("controller", "local")
    cluster.network.cut_one_way("controller", "local")
    await asyncio.sleep(1)


def test_every_node_has_a_lane_with_its_incarnations_pauses_and_attempts() -> None:
    story = told(broken)
    assert [one.name for one in story.lanes] == [FAULTS, "controller", NETWORK, "local", "local-1"]
    runs = bars(story, "local-1", "run")
    assert [bar.label for bar in runs] == ["local-1#1", "local-1#2"]
    assert runs[1].start_ms - runs[0].end_ms == pytest.approx(1_000, abs=1)
    (pause,) = bars(story, "local", "pause")
    assert pause.end_ms - pause.start_ms == pytest.approx(1_000, abs=1)
    (attempt,) = bars(story, "local-1", "attempt")
    assert attempt.label == "one work-1/1"
    assert attempt.end_ms - attempt.start_ms == pytest.approx(2_000, abs=50)
    assert "return code 0" in attempt.text
    assert points(story, "local-1", "crash")[0] == "local-1#1: crash"
    assert points(story, "controller", "takeover") == ["EpochBegan epoch=1 node=controller"]
    assert any(text.startswith("OrderAdded work-1") for text in points(story, "controller", "event"))
    assert story.left_out == []
    assert story.found == []


def test_cuts_are_as_they_were_and_both_directions_are_one_bar() -> None:
    story = told(broken)
    cuts = bars(story, NETWORK, "cut")
    assert [bar.label for bar in cuts] == ["controller ↔ local", "controller → local"]
    assert cuts[0].end_ms - cuts[0].start_ms == pytest.approx(1_000, abs=1)
    assert cuts[1].end_ms > cuts[1].start_ms, "the healing at the end closed it"
    (clog,) = bars(story, NETWORK, "clog")
    assert clog.label == "local → local-1"
    assert clog.end_ms - clog.start_ms == pytest.approx(500, abs=1)


async def pair_without_register(sim: Simulation) -> None:
    assert sim.cluster.pair is not None
    register = sim.cluster.pair.register
    await sim.add_order(WORK)
    register.cut("controller")
    await asyncio.sleep(2)
    register.heal("controller")
    register.deafen("controller-2")
    await asyncio.sleep(1)
    register.heal("controller-2")
    register.go_down(60_000)
    await asyncio.sleep(3)
    register.come_up()
    sim.cluster.crash("controller")
    await sim.sleep(10)


def test_a_pair_shows_who_acts_and_what_its_register_lacked() -> None:
    story = told(pair_without_register, cluster=Cluster(controllers=2))
    cut, deaf = bars(story, REGISTER, "cut")
    (down,) = bars(story, REGISTER, "down")
    assert [cut.label, deaf.label] == ["register ↮ controller", "register → controller-2"]
    assert cut.end_ms - cut.start_ms == pytest.approx(2_000, abs=1)
    assert deaf.end_ms - deaf.start_ms == pytest.approx(1_000, abs=1)
    assert down.end_ms - down.start_ms == pytest.approx(3_000, abs=1)
    first, second = bars(story, "controller", "acting"), bars(story, "controller-2", "acting")
    assert [bar.label for bar in first][:3] == ["solo 2", "joining 2", "coupled 3"]
    assert second
    assert second[0].start_ms > first[2].end_ms
    assert bars(story, "controller-2", "role")[0].label.startswith("pending")
    assert any("register of simulated: epoch 1" in text for text in points(story, REGISTER, "register"))


async def call(sim: Simulation) -> None:
    async def slow() -> None:
        await asyncio.sleep(3)

    await (await sim.add_order(Workflow("w", job("slow", python=slow)))).ended()


def test_a_callable_has_a_bar_on_its_subagent() -> None:
    (bar,) = bars(told(call), "local-1", "call")
    assert bar.label == "w-1/1"
    assert bar.end_ms - bar.start_ms == pytest.approx(3_000, abs=50)
    assert bar.text.endswith("a callable: succeeded")


async def failing(sim: Simulation) -> None:
    await sim.add_order(WORK)
    raise AssertionError("it is wrong " + "x" * 1_000)


def test_what_was_found_is_told_and_shown() -> None:
    story = told(failing)
    assert story.found[0].startswith("it is wrong x")
    assert len(story.found[0]) < 500
    assert points(story, FAULTS, "breach") == story.found


async def busy(sim: Simulation) -> None:
    for _ in range(20):
        await sim.add_order(WORK)


def size(story: Story) -> int:
    return sum(len(one.bars) + len(one.points) for one in story.lanes)


def test_what_says_least_is_left_out_first_the_earliest_first_and_it_is_told() -> None:
    settings: dict[str, Any] = {"faults": Faults(seconds=8.0), "seed": 3}
    whole = told(busy, **settings)
    some = told(busy, entries_max=size(whole) // 2, **settings)
    assert size(some) <= size(whole) // 2
    assert any("of kind “event”" in text for text in some.left_out)
    for name in ("controller", "local", "local-1"):
        assert lane(some, name).bars == lane(whole, name).bars
        assert points(some, name, "crash") == points(whole, name, "crash")
        kept, all_events = points(some, name, "event"), points(whole, name, "event")
        assert kept == all_events[len(all_events) - len(kept) :]
    few = told(busy, entries_max=5, **settings)
    assert size(few) <= 5
    assert any("of kind “bar”" in text for text in few.left_out)
