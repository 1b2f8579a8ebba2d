"""Two controllers in a simulated cluster: who acts after which failure, and that nothing is lost or done twice.

Tests: engine/simulation/pairs.py, engine/simulation/people.py
"""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from engine.base.pair import Ownership
from engine.model.order import OrderState
from engine.rules.pair.state import ACTIVE, Role
from engine.simulation.audit import unsettled
from engine.simulation.cluster import SimCluster
from engine.simulation.disk import QUICK, DiskPace
from engine.simulation.faults import Faults, Storm
from engine.simulation.loop import run
from engine.simulation.modelled_jobs import Duration
from engine.simulation.pair_faults import PAIR_FAULTS, PAIR_WEIGHTS
from engine.simulation.pairs import SECOND, SimPair
from tests.simulation.clusters import closed, quiet, started, step, virtual, virtual_loop

FIRST = "controller"
LONG = {"*": Duration(ms_min=9_000, ms_max=9_000)}


def pair_of(cluster: SimCluster) -> SimPair:
    assert cluster.pair is not None
    return cluster.pair


def role(cluster: SimCluster, name: str) -> Role | None:
    half = cluster.nodes[name].pair_node
    return None if half is None else half.replica.me.role


async def coupled() -> SimCluster:
    """A pair in sync, the first one acts, and one order whose job runs."""
    cluster = await started(step("one"), step("two"), controllers=2, jobs=LONG)
    await quiet(cluster)
    assert (role(cluster, FIRST), role(cluster, SECOND)) == (Role.COUPLED, Role.STANDBY)
    await cluster.add_order("o", "w")
    await cluster.until(cluster.nodes["a-1"].machine.running, "the job runs")
    return cluster


async def acts(cluster: SimCluster, name: str, seconds: float) -> float:
    """Wait until a node acts; return how long that took."""
    began = virtual_loop().time()

    def does() -> bool:
        return cluster.acting is not None and cluster.acting.name == name

    await cluster.until(does, f"{name} acts", seconds=seconds)
    return virtual_loop().time() - began


async def all_is_well(cluster: SimCluster) -> None:
    """The order has run through, its jobs once, and the pair is as it should be."""
    await cluster.add_order("p", "w")
    await quiet(cluster)
    assert [order.state for order in cluster.controller_state.orders.values()] == [OrderState.FINISHED] * 2
    assert len(cluster.nodes["a-1"].machine.groups) == 4
    await closed(cluster)


@virtual
async def test_one_of_both_acts_and_both_journals_are_the_same() -> None:
    cluster = await started(controllers=2)
    assert cluster.controllers == (FIRST, SECOND)
    assert cluster.acting is cluster.nodes[FIRST]
    assert cluster.names("controller") == [FIRST, SECOND]
    await cluster.add_order("o", "w")
    await quiet(cluster)
    with pytest.raises(LookupError):
        assert cluster.state(SECOND)
    tips = {cluster.nodes[name].disk.image.tip for name in cluster.controllers}
    assert len(tips) == 1
    await closed(cluster)


@pytest.mark.parametrize("notice", [True, False])
@virtual
async def test_the_active_crashes_and_the_other_acts_within_four_seconds(notice: bool) -> None:
    cluster = await coupled()
    cluster.crash(FIRST, notice=notice)
    assert cluster.acting is None
    assert not cluster.is_served()
    assert await acts(cluster, SECOND, 10) < 4.7
    assert {"pair: failover with a job running", "pair: crash of the active"} <= set(cluster.lookout.sometimes.met)
    cluster.boot(FIRST)
    await all_is_well(cluster)


@virtual
async def test_the_standby_crashes_and_the_active_goes_on_alone() -> None:
    cluster = await coupled()
    cluster.crash(SECOND)
    await cluster.until(lambda: role(cluster, FIRST) is Role.SOLO, "it is alone", seconds=4)
    await cluster.add_order("q", "w")
    cluster.boot(SECOND)
    await quiet(cluster)
    assert {"pair: uncoupled", "pair: coupled again"} <= set(cluster.lookout.sometimes.met)
    await closed(cluster)


@virtual
async def test_on_a_cut_between_both_the_healthy_active_stays() -> None:
    cluster = await coupled()
    cluster.network.cut(FIRST, SECOND)
    await asyncio.sleep(12)
    assert cluster.acting is cluster.nodes[FIRST]
    assert role(cluster, FIRST) is Role.SOLO
    cluster.network.heal()
    await all_is_well(cluster)


@virtual
async def test_an_active_that_was_paused_acts_no_more_and_steps_down() -> None:
    cluster = await coupled()
    cluster.pause(FIRST)
    await acts(cluster, SECOND, 10)
    cluster.resume(FIRST)
    await asyncio.sleep(0.001)
    assert role(cluster, FIRST) not in ACTIVE, "it heard of the other one first of all"
    await all_is_well(cluster)
    assert "pair: stepped down" in cluster.lookout.sometimes.met


@virtual
async def test_an_active_cut_from_the_other_and_the_register_is_fenced() -> None:
    cluster = await coupled()
    pair = pair_of(cluster)
    cluster.network.cut(FIRST, SECOND)
    pair.register.cut(FIRST)
    await acts(cluster, SECOND, 10)
    cluster.network.heal()
    pair.heal()
    await all_is_well(cluster)


@virtual
async def test_without_the_register_service_goes_on() -> None:
    cluster = await coupled()
    pair_of(cluster).register.go_down(30_000)
    await asyncio.sleep(10)
    await cluster.add_order("q", "w")
    assert cluster.acting is cluster.nodes[FIRST]
    await quiet(cluster)
    await closed(cluster)


@virtual
async def test_without_the_register_nobody_follows_a_dead_active_until_it_is_back() -> None:
    cluster = await coupled()
    pair = pair_of(cluster)
    pair.register.go_down(60_000)
    cluster.crash(FIRST)
    await asyncio.sleep(3)
    cluster.boot(FIRST)
    await asyncio.sleep(20)
    assert cluster.acting is None
    pair.register.come_up()
    await cluster.until(cluster.is_served, "one acts", seconds=10)
    assert "pair: crash with the register down" in cluster.lookout.sometimes.met
    await all_is_well(cluster)


@virtual
async def test_both_crash_and_one_of_them_acts_again() -> None:
    cluster = await coupled()
    for name in cluster.controllers:
        cluster.crash(name, notice=False)
    await asyncio.sleep(2)
    cluster.boot(SECOND)
    assert await acts(cluster, SECOND, 20) > 3
    cluster.boot(FIRST)
    await all_is_well(cluster)


@virtual
async def test_the_pair_is_handed_over() -> None:
    cluster = await coupled()
    assert pair_of(cluster).switch_over()
    assert await acts(cluster, SECOND, 10) < 2, "nobody waits for a lease"
    assert "pair: switched over" in cluster.lookout.sometimes.met
    await all_is_well(cluster)


@virtual
async def test_an_active_whose_fsync_hangs_is_followed_by_the_other() -> None:
    cluster = await coupled()
    cluster.nodes[FIRST].disk.pace = DiskPace(fsync_ms_min=60_000, fsync_ms_max=60_000)
    adding = virtual_loop().create_task(cluster.add_order("q", "w"))
    assert await acts(cluster, SECOND, 30) < 13
    cluster.nodes[FIRST].disk.pace = QUICK
    await adding
    await quiet(cluster)
    await closed(cluster)


@virtual
async def test_an_active_whose_fsync_fails_stops_and_goes_on_in_a_new_epoch_if_it_is_back_soon() -> None:
    cluster = await coupled()
    cluster.nodes[FIRST].disk.fails_with = 5
    await cluster.add_order("q", "w")
    assert cluster.nodes[FIRST].number == 2
    assert cluster.acting is cluster.nodes[FIRST]
    await quiet(cluster)
    await closed(cluster)


@virtual
async def test_a_standby_that_was_away_for_long_is_given_a_snapshot() -> None:
    cluster = await coupled()
    cluster.crash(SECOND)
    await cluster.until(lambda: role(cluster, FIRST) is Role.SOLO, "it is alone")
    await cluster.add_order("q", "w")
    assert cluster.snapshot_soon(FIRST)
    await asyncio.sleep(1)
    assert cluster.nodes[FIRST].disk.image.base.index > cluster.nodes[SECOND].disk.image.tip.index
    cluster.crash(FIRST)  # what it has in memory would do without a snapshot
    cluster.boot(FIRST)
    cluster.boot(SECOND)
    await quiet(cluster)
    assert cluster.nodes[SECOND].disk.image.base.index > 0
    assert "pair: snapshot installed" in cluster.lookout.sometimes.met
    cluster.crash(FIRST)
    await acts(cluster, SECOND, 10)
    cluster.boot(FIRST)
    await quiet(cluster)
    await closed(cluster)


@pytest.mark.parametrize("name", [FIRST, SECOND])
@virtual
async def test_an_empty_disk_is_out_of_sync_and_is_filled_again(name: str) -> None:
    cluster = await coupled()
    other = SECOND if name == FIRST else FIRST
    assert pair_of(cluster).has_two_copies()
    cluster.crash(name)
    cluster.nodes[name].disk.replace()
    assert not pair_of(cluster).has_two_copies()
    cluster.boot(name)
    await acts(cluster, other, 15)
    await all_is_well(cluster)


@virtual
async def test_a_takeover_that_landed_unheard_is_found_by_the_one_who_had_asked_for_it() -> None:
    """Else neither knows whom the register names, and with the next crash nobody is in sync."""
    cluster = await coupled()
    pair = pair_of(cluster)
    value, half = pair.register.now("simulated"), cluster.nodes[SECOND].pair_node
    assert value is not None
    assert half is not None
    who = half.replica.who
    await pair.register.cas(value, Ownership("simulated", value.epoch + 1, SECOND, (who.member,), who.incarnation))
    await acts(cluster, SECOND, 20)
    await all_is_well(cluster)


@virtual
async def test_a_register_that_fell_back_hinders_transitions_and_not_service_until_it_is_seeded() -> None:
    cluster = await coupled()
    pair, standby = pair_of(cluster), cluster.nodes[SECOND].pair_node
    value = pair.register.now("simulated")
    assert value is not None
    assert standby is not None
    pair.register.roll_back(1)
    await cluster.until(lambda: standby.replica.alarms, "a person is told", seconds=30)
    await cluster.add_order("q", "w")
    cluster.crash(FIRST)
    await asyncio.sleep(20)
    assert cluster.acting is None
    cluster.boot(FIRST)
    await asyncio.sleep(20)
    assert cluster.acting is None
    await pair.register.seed(msgspec.structs.replace(value, epoch=value.epoch + 1))
    await quiet(cluster)
    await closed(cluster)


@virtual
async def test_what_is_not_as_it_should_be_at_rest_is_told() -> None:
    cluster = await started(controllers=2)
    await quiet(cluster)
    cluster.crash(SECOND)
    await cluster.until(lambda: role(cluster, FIRST) is Role.SOLO, "it is alone")
    found = list(unsettled(cluster))
    assert "L2: in sync are ['controller']" in found
    assert "L2: pair: they are ['solo']" in found
    cluster.crash(FIRST)
    assert any(one.startswith("L1: nobody may act") for one in unsettled(cluster))
    await cluster.close()


@pytest.mark.parametrize("name", [FIRST, SECOND])
@virtual
async def test_either_of_both_ends_by_a_mistake_and_is_booted_again(name: str) -> None:
    cluster = await coupled()
    assert cluster.fail(name)
    await cluster.until(lambda: cluster.nodes[name].restarts, "it is booted again")
    await all_is_well(cluster)


@pytest.mark.parametrize("kind", PAIR_FAULTS)
@virtual
async def test_each_fault_of_a_pair_can_be_caused_and_healed(kind: str) -> None:
    cluster = await started(controllers=2, jobs={"*": Duration(ms_min=500, ms_max=3_000)})
    await quiet(cluster)
    storm = Storm(cluster, Faults(kinds={kind: 1.0}))
    for number in range(3):
        adding = virtual_loop().create_task(cluster.add_order(f"o{number}", "w"))
        storm.cause(kind)
        await asyncio.sleep(4)
        cluster.raise_breaches()
        del adding
    assert storm.counts.get(kind, 0) >= 1
    storm.heal()
    assert not pair_of(cluster).register.is_down
    await quiet(cluster, 1_500)
    await closed(cluster)


def test_every_fault_of_a_pair_may_be_drawn() -> None:
    assert set(PAIR_WEIGHTS) == set(PAIR_FAULTS)


def test_a_run_of_a_pair_has_the_same_trace_again() -> None:
    async def main() -> tuple[str, list[str]]:
        cluster = await coupled()
        cluster.crash(FIRST)
        await acts(cluster, SECOND, 10)
        cluster.boot(FIRST)
        await all_is_well(cluster)
        return virtual_loop().digest(), list(cluster.lookout.timeline.lines())

    play: Callable[[], tuple[str, list[str]]] = lambda: run(main(), seed=1)
    assert play() == play()
