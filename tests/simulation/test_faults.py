"""Fault plans: each kind of fault can be caused, the seed decides which, and healing ends all of them."""

import asyncio

import pytest

from engine.simulation.faults import AMBUSHES, FAULTS, NO_FAULTS, WEIGHTS, Faults, Storm
from engine.simulation.loop import run
from engine.simulation.modelled_jobs import Duration
from engine.simulation.network import CALM
from tests.simulation.clusters import closed, quiet, started, virtual, virtual_loop

JOBS = {"*": Duration(ms_min=2_000, ms_max=4_000)}


@pytest.mark.parametrize("kind", FAULTS)
@virtual
async def test_each_kind_of_fault_can_be_caused_and_healed(kind: str) -> None:
    cluster = await started(agents={"a": 2}, jobs=JOBS)
    storm = Storm(cluster, Faults(kinds={kind: 1.0}))
    for number in range(6):
        await cluster.add_order(f"o{number}", "w")
        storm.cause(kind)
        await asyncio.sleep(1)
        cluster.raise_breaches()
    assert storm.counts.get(kind, 0) >= 1
    assert len(list(cluster.lookout.timeline.lines())) > 0
    storm.heal()
    assert cluster.network.weather is CALM
    await quiet(cluster, 1_500)
    await closed(cluster)


@virtual
async def test_healing_starts_and_repairs_everything() -> None:
    cluster = await started(agents={"a": 1, "b": 1})
    storm = Storm(cluster, Faults())
    cluster.crash("a")
    cluster.pause("b")
    cluster.stop_soon("controller")
    cluster.network.partition(["client", "controller"], ["a", "b"])
    cluster.nodes["a-1"].machine.wall_offset_ms = 77
    cluster.drift("b-1", 300)
    cluster.nodes["controller"].disk.fails_with = 5
    storm.heal()
    assert cluster.network.statistics()["cuts"] == 0
    assert cluster.nodes["a-1"].machine.wall_offset_ms == 0
    assert cluster.nodes["b-1"].drift_ppm == 0
    await quiet(cluster)
    assert all(cluster.is_up(name) for name in cluster.nodes)
    cluster.crash("a")  # whatever goes down from now on is started again
    await quiet(cluster)
    await closed(cluster)


@virtual
async def test_what_a_fault_has_planned_for_later_is_void_after_healing() -> None:
    cluster = await started()
    storm = Storm(cluster)
    done: list[str] = []
    storm.later(1_000, lambda: done.append("before"))
    storm.later(3_000, lambda: done.append("after"))
    await asyncio.sleep(2)
    storm.heal()
    await asyncio.sleep(2)
    assert done == ["before"]
    await closed(cluster)


@virtual
async def test_an_ambush_strikes_when_its_event_has_become_durable() -> None:
    cluster = await started()
    storm = Storm(cluster)
    storm.ambushes.append((AMBUSHES[0], "controller", 0.0))  # OrderAdded
    await asyncio.sleep(1)
    assert cluster.is_up("controller")
    await cluster.add_order("o", "w")  # the answer is lost with the controller; it is sent again
    assert cluster.nodes["controller"].number == 2
    assert storm.ambushes == []
    storm.heal()
    await quiet(cluster)
    await closed(cluster)


@virtual
async def test_where_ambushes_are_laid_and_whom_they_strike_can_be_said() -> None:
    cluster = await started(agents={"a": 2, "b": 1})
    storm = Storm(cluster, Faults(ambushes=(AMBUSHES[-1],), victims=("subagent",)))
    for _ in range(20):
        storm.cause("ambush")
    assert {kind for kind, _, _ in storm.ambushes} == {AMBUSHES[-1]}
    assert {name for _, name, _ in storm.ambushes} == {"a-1", "a-2", "b-1"}
    storm.heal()
    await quiet(cluster)
    await closed(cluster)


def test_the_seed_decides_what_happens_and_when() -> None:
    async def main(seed: int) -> tuple[dict[str, float], dict[str, int], str]:
        cluster = await started(seed=seed, agents={"a": 1, "b": 1})
        storm = Storm(cluster, Faults(seconds=5, every_ms_max=300))
        await storm.rage()
        storm.heal()
        await quiet(cluster)
        await closed(cluster)
        return storm.kinds, storm.counts, virtual_loop().digest()

    first, again, other = (run(main(seed), seed=seed) for seed in (5, 5, 6))
    assert first == again
    assert sum(first[1].values()) > 3
    assert first != other


@virtual
async def test_no_faults_are_none() -> None:
    cluster = await started()
    storm = Storm(cluster, NO_FAULTS)
    await storm.rage()
    assert storm.counts == {}
    storm.heal()
    await closed(cluster)


@virtual
async def test_a_breach_ends_the_storm_at_once() -> None:
    cluster = await started()
    cluster.lookout.breaches.tell("S1: planted")
    with pytest.raises(AssertionError, match="S1: planted"):
        await Storm(cluster, Faults(seconds=100)).rage()
    cluster.lookout.breaches.clear()
    await closed(cluster)


def test_every_kind_has_a_weight() -> None:
    assert list(WEIGHTS) != []
    assert set(WEIGHTS) == set(FAULTS)
