"""What a pair loses when something is lost that should have been kept, and what it does not.

Tests: engine/simulation/pair_moments.py
"""

import asyncio
from collections.abc import Callable

import pytest

from engine.base.ids import OrderId
from engine.model.order import Order, OrderState
from engine.pair.cells import STORE_ID
from engine.pair.node import PairNode
from engine.rules.pair.state import FORCED_EPOCHS, Role
from engine.simulation.audit import unsettled
from engine.simulation.cluster import SimCluster
from engine.simulation.faults import Faults, Storm
from engine.simulation.pair_losses import force, mend
from engine.simulation.pair_moments import both_know, is_spare, other_of, owner_of, value_of
from engine.simulation.pairs import SECOND, SimPair
from tests.simulation.clusters import closed, quiet, started, virtual

FIRST = "controller"


def pair_of(cluster: SimCluster) -> SimPair:
    assert cluster.pair is not None
    return cluster.pair


def role(cluster: SimCluster, name: str) -> Role | None:
    half = cluster.nodes[name].pair_node
    return None if half is None else half.replica.me.role


def order_of(cluster: SimCluster, order: str) -> Order:
    found: Order = cluster.controller_state.orders[OrderId(order)]
    return found


def half_of(cluster: SimCluster, name: str) -> PairNode:
    half = cluster.nodes[name].pair_node
    assert half is not None
    return half


def has_read(cluster: SimCluster, name: str) -> bool:
    half = cluster.nodes[name].pair_node
    return half is not None and half.replica.me.cfg == value_of(pair_of(cluster))


async def coupled() -> SimCluster:
    cluster = await started(controllers=2)
    await quiet(cluster)
    return cluster


async def comes(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for something, whatever the checkers say: they know at once that this disk lacks what it should hold."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


def restore_older(cluster: SimCluster, name: str, backup: object, *, new_id: bool) -> None:
    cluster.crash(name)
    cluster.nodes[name].disk.restore(backup, (STORE_ID,) if new_id else ())


# --- disks (R16) ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [FIRST, SECOND])
@virtual
async def test_an_older_copy_under_a_new_store_id_owns_nothing_and_is_filled_again(name: str) -> None:
    cluster = await coupled()
    backup = cluster.nodes[name].disk.backup()
    await cluster.add_order("o", "w")
    restore_older(cluster, name, backup, new_id=True)
    cluster.boot(name)
    await quiet(cluster)
    assert cluster.acting is not None
    assert cluster.acting.name == other_of(pair_of(cluster), name)
    assert order_of(cluster, "o").state is OrderState.FINISHED
    await closed(cluster)


@virtual
async def test_a_standby_that_kept_its_store_id_is_seen_to_lack_records_while_the_owner_lives() -> None:
    cluster = await coupled()
    backup = cluster.nodes[SECOND].disk.backup()
    await cluster.add_order("o", "w")
    restore_older(cluster, SECOND, backup, new_id=False)
    cluster.boot(SECOND)
    await comes(lambda: role(cluster, FIRST) is Role.SOLO)
    assert role(cluster, SECOND) is Role.STANDBY
    await comes(lambda: not any(unsettled(cluster)))
    assert cluster.acting is cluster.nodes[FIRST]
    assert order_of(cluster, "o").state is OrderState.FINISHED
    images = [cluster.nodes[name].disk.image for name in cluster.controllers]
    assert images[0].tip == images[1].tip
    assert all(one.startswith("S3: controller-2 is in sync in epoch ") for one in cluster.breaches)
    await cluster.close()


@pytest.mark.parametrize("name", [FIRST, SECOND])
@virtual
async def test_who_kept_its_store_id_and_acts_has_lost_what_was_acknowledged(name: str) -> None:
    """The reason for the new id: the register calls this disk in sync, and nothing on it says that it is not."""
    cluster = await coupled()
    backup = cluster.nodes[name].disk.backup()
    await cluster.add_order("o", "w")
    restore_older(cluster, name, backup, new_id=False)
    if name == SECOND:
        cluster.crash(FIRST)  # an owner that was restored asks again before the other one does
    cluster.boot(name)
    await comes(lambda: cluster.acting is not None)
    assert cluster.acting is cluster.nodes[name]
    assert "o" not in cluster.controller_state.orders
    assert any(one.startswith(f"S3: {name} is acting") for one in cluster.breaches)
    for one in cluster.controllers:
        cluster.crash(one)
    await cluster.close()


@virtual
async def test_a_node_with_a_damaged_record_stays_down_until_its_disk_is_replaced() -> None:
    cluster = await coupled()
    await cluster.add_order("o", "w")
    pair, disk = pair_of(cluster), cluster.nodes[FIRST].disk
    storm = Storm(cluster, Faults(kinds={"bit flip": 1}))
    assert is_spare(storm, pair)
    cluster.crash(FIRST)
    disk.damage(disk.image.tip.index - 1)
    assert not is_spare(storm, pair)
    cluster.boot(FIRST)
    await cluster.until(lambda: cluster.acting is cluster.nodes[SECOND], "the other one acts", seconds=10)
    await asyncio.sleep(5)
    assert cluster.nodes[FIRST].actor is None
    assert any("is damaged: record" in line for line in cluster.lookout.timeline.lines())
    mend(storm, pair)
    cluster.boot(FIRST)
    await quiet(cluster)
    await closed(cluster)


# --- the register (R13) -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["register falls back", "register emptied"])
@virtual
async def test_a_register_that_lost_its_state_is_seeded_above_what_both_know(kind: str) -> None:
    cluster = await coupled()
    pair, storm = pair_of(cluster), Storm(cluster, Faults(kinds={kind: 1}))
    before = value_of(pair)
    assert before is not None
    assert both_know(pair)
    assert storm.cause(kind)
    assert storm.is_fallen
    assert not storm.cause(kind), "once at a time"
    assert not both_know(pair)
    assert not is_spare(storm, pair)
    await cluster.add_order("o", "w")
    cluster.crash(FIRST)
    await cluster.until(lambda: not storm.is_fallen, "it is seeded", seconds=15)
    value = value_of(pair)
    assert value is not None
    assert value.epoch > before.epoch
    await cluster.until(lambda: cluster.acting is cluster.nodes[SECOND], "the other one acts", seconds=15)
    cluster.boot(FIRST)
    await quiet(cluster)
    assert order_of(cluster, "o").state is OrderState.FINISHED
    await closed(cluster)


# --- a forced takeover (R14) ------------------------------------------------------------------------------------------


@virtual
async def test_nobody_is_forced_while_the_other_one_is_on_or_in_sync() -> None:
    cluster = await coupled()
    pair, storm = pair_of(cluster), Storm(cluster, Faults(kinds={"force": 1}))
    assert owner_of(pair) == FIRST
    assert force(storm, pair, FIRST), "there is nothing to be forced: it runs"
    cluster.crash(FIRST)
    assert not force(storm, pair, FIRST), "it is in sync and follows by itself"
    await cluster.until(lambda: cluster.acting is cluster.nodes[SECOND], "the other one acts", seconds=10)
    assert force(storm, pair, FIRST), "it owns the pair"
    cluster.boot(FIRST)
    await quiet(cluster)
    await closed(cluster)


@virtual
async def test_a_forced_node_has_lost_what_only_the_other_one_had_and_nothing_else() -> None:
    cluster = await coupled()
    pair = pair_of(cluster)
    await cluster.add_order("before", "w")
    await quiet(cluster)
    epoch = value_of(pair)
    cluster.crash(SECOND)
    await cluster.until(lambda: role(cluster, FIRST) is Role.SOLO, "it is alone", seconds=5)
    cluster.network.partition([FIRST], cluster.agents)  # what is lost has had no effect
    await cluster.add_order("lost", "w")
    told = len(pair.book.acknowledged)
    cluster.crash(FIRST, notice=False)
    cluster.network.heal()
    cluster.boot(SECOND)
    await cluster.until(lambda: has_read(cluster, SECOND), "it has read", seconds=9)
    assert not pair.book.holds_all(SECOND)
    assert pair.book.accept_loss(SECOND) > 0
    cluster.lookout.ledger.dropped(FIRST, len(pair.book.acknowledged))
    node = cluster.nodes[SECOND]
    assert node.process is not None
    await cluster._in_lane(node.process.lane, half_of(cluster, SECOND).replica.force_take_over(), "force")
    await cluster.until(lambda: cluster.acting is node, "it acts", seconds=10)
    value = value_of(pair)
    assert value is not None
    assert epoch is not None
    assert value.epoch > epoch.epoch + FORCED_EPOCHS
    assert "before" in cluster.controller_state.orders
    assert "lost" not in cluster.controller_state.orders
    assert len(pair.book.acknowledged) < told + 5
    cluster.boot(FIRST)
    await cluster.until(
        lambda: role(cluster, FIRST) is Role.STANDBY and role(cluster, SECOND) is Role.COUPLED, "in sync"
    )
    await cluster.add_order("after", "w")
    await quiet(cluster)
    assert order_of(cluster, "after").state is OrderState.FINISHED
    assert cluster.breaches == []
    await closed(cluster)
