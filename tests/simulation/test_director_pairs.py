"""Two directors of one simulated agent: who takes over adopts what runs, and runs nothing twice.

Tests: engine/simulation/director_pairs.py, engine/simulation/watched_pair.py, engine/boot.py
"""

from typing import Any

import pytest

from engine.base.ids import OrderId
from engine.model.job import OnLost
from engine.model.order import Order, OrderState
from engine.simulation.cluster import SimCluster
from engine.simulation.modelled_jobs import Duration
from tests.simulation.clusters import closed, quiet, started, step, virtual

ORDER = OrderId("o")
LONG = {"*": Duration(ms_min=30_000, ms_max=30_000)}


async def running(on_lost: OnLost = OnLost.RERUN, **options: Any) -> SimCluster:
    """An agent with two directors in sync and two subagents, and one order whose job runs at the first."""
    cluster = await started(step("one", on_lost=on_lost), directors=["a"], agents={"a": 2}, jobs=LONG, **options)
    await cluster.until(cluster.directors["a"].has_two_copies, "both directors have everything")
    await cluster.add_order("o", "w")
    await cluster.until(lambda: subagent(cluster) is not None, "the job runs")
    return cluster


def subagent(cluster: SimCluster) -> str | None:
    """The subagent at which the order's job runs."""
    return next((name for name in ("a-1", "a-2") if cluster.nodes[name].machine.running()), None)


def acting(cluster: SimCluster) -> str | None:
    """The director that acts."""
    node = cluster.directors["a"].acting()
    return None if node is None else node.name


async def taken_over(cluster: SimCluster) -> None:
    """Crash the director that acts, and wait for the other one."""
    first = acting(cluster)
    assert first is not None
    cluster.crash(first)
    await cluster.until(lambda: acting(cluster) not in (None, first), "the other director acts", seconds=10)


def order(cluster: SimCluster) -> Order:
    found: Order = cluster.controller_state.orders[ORDER]
    return found


@virtual
async def test_who_takes_over_adopts_the_running_job_without_running_it_again() -> None:
    cluster = await running()
    await taken_over(cluster)
    cluster.boot("a.1")
    await quiet(cluster)
    assert (order(cluster).state, order(cluster).attempt) == (OrderState.FINISHED, 1)
    assert cluster.lookout.sometimes.met["directors: job adopted"]
    assert len([group for name in ("a-1", "a-2") for group in cluster.nodes[name].machine.groups]) == 1
    await closed(cluster)


@virtual
async def test_two_takeovers_go_there_and_back() -> None:
    cluster = await running()
    await taken_over(cluster)
    cluster.boot("a.1")
    await cluster.until(cluster.directors["a"].has_two_copies, "both directors have everything again")
    await taken_over(cluster)
    cluster.boot("a.2")
    await quiet(cluster)
    assert (order(cluster).state, order(cluster).attempt) == (OrderState.FINISHED, 1)
    await closed(cluster)


@pytest.mark.parametrize(
    ("on_lost", "state", "attempts"),
    [
        (OnLost.RERUN, OrderState.FINISHED, 2),
        (OnLost.FAIL, OrderState.FAILED, 1),
        (OnLost.HOLD, OrderState.EXPECTING, 1),
    ],
)
@virtual
async def test_what_ran_beside_the_dead_director_follows_its_own_rule(
    on_lost: OnLost, state: OrderState, attempts: int
) -> None:
    """The machine of the first director dies with the subagent on it; until it is back nobody guesses."""
    cluster = await running(on_lost)
    place = subagent(cluster)
    assert place is not None
    cluster.reboot(place)
    await taken_over(cluster)
    assert (order(cluster).state, order(cluster).attempt) == (OrderState.PROCESSING, 1), "it may still run there"
    for name in (place, "a.1"):
        cluster.boot(name)
    await quiet(cluster)
    assert (order(cluster).state, order(cluster).attempt) == (state, attempts)
    await closed(cluster)


@virtual
async def test_without_their_register_directors_go_on_and_do_not_take_over() -> None:
    cluster = await running()
    cluster.crash("controller")
    await cluster.until(lambda: not cluster.is_up("controller"), "their register is away")
    before = acting(cluster)
    with pytest.raises(TimeoutError):
        await cluster.until(lambda: acting(cluster) != before, "", seconds=20)
    assert before is not None
    cluster.crash(before)
    with pytest.raises(TimeoutError):
        await cluster.until(lambda: acting(cluster) is not None, "", seconds=20)
    cluster.boot("controller")
    await cluster.until(lambda: acting(cluster) not in (None, before), "the other director acts", seconds=20)
    cluster.boot(before)
    await quiet(cluster)
    assert order(cluster).attempt == 1
    await closed(cluster)


@virtual
async def test_a_zone_dies_with_the_active_controller_and_the_active_director() -> None:
    """Two takeovers in series: the register of the directors is with the controllers."""
    cluster = await running(controllers=2)
    assert cluster.pair is not None
    await cluster.until(cluster.pair.has_two_copies, "both controllers have everything")
    owner, first = cluster.acting, acting(cluster)
    assert owner is not None
    assert first is not None
    for name in (owner.name, first):
        cluster.crash(name)
    await cluster.until(lambda: acting(cluster) not in (None, first), "the other director acts", seconds=15)
    for name in (owner.name, first):
        cluster.boot(name)
    await quiet(cluster)
    assert (order(cluster).state, order(cluster).attempt) == (OrderState.FINISHED, 1)
    await closed(cluster)


@virtual
async def test_a_director_whose_disk_is_empty_is_filled_again() -> None:
    cluster = await running()
    pair = cluster.directors["a"]
    standby = pair.other(str(acting(cluster)))
    cluster.crash(standby)
    cluster.nodes[standby].disk.replace()
    cluster.boot(standby)
    await quiet(cluster)
    assert pair.has_two_copies()
    await closed(cluster)
