"""Two real controllers as a pair, an agent below them: who takes over is obeyed, who is deposed is not.

Tests: engine/boot.py, engine/pair/node.py
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from engine.base.ids import AgentId
from engine.base.pair import Member, Ownership
from engine.boot import boot_controller_of_pair
from engine.model.item import AgentItem
from engine.pair.node import PairNode, PairPlace, UnsafeTimes
from engine.rules.commands.change_item import ChangeItem
from engine.rules.pair.times import Times
from engine.runtime.link import LinkState
from engine.runtime.mailbox import Work
from engine.runtime.supervisor import SteppedDown
from tests.actors.test_obeying import AgentWorld, Bench
from tests.pair.pairs import CLUSTER, Cell, Disk
from tests.runtime.linked import until, virtual

NAMES = ("north", "south")
AGENT = AgentId("agent")


class Controllers:
    """Both halves; `ended` by name."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.cell = Cell()
        self.disks = {name: Disk() for name in NAMES}
        self.nodes: dict[str, PairNode] = {}
        self.ended: dict[str, list[BaseException]] = {name: [] for name in NAMES}
        self._incarnation = 0

    async def boot(self, name: str, times: Times | None = None) -> PairNode:
        other = NAMES[1 - NAMES.index(name)]
        self._incarnation += 1
        world = AgentWorld(name, self._incarnation, self.bench.network, self.disks[name])
        place = PairPlace(
            peer=other,
            own_url=f"sim://{name}/pair",
            peer_url=f"sim://{other}/pair",
            register=self.cell,
            times=times,
        )
        self.nodes[name] = node = await boot_controller_of_pair(
            world,  # type: ignore[arg-type]
            f"sim://{name}",
            CLUSTER,
            self.ended[name].append,
            place,
        )
        return node

    def is_up(self, name: str, status: str) -> bool:
        node = self.nodes[name]
        return node.replica.status == status and (status == "standby" or node.role is not None)

    def epoch_obeyed(self) -> int:
        return self.bench.persisted


@asynccontextmanager
async def controllers() -> AsyncIterator[Controllers]:
    bench = Bench()
    await bench.boot()
    pair = Controllers(bench)
    for name in NAMES:
        await pair.boot(name)
    store = pair.nodes["north"].replica.who.store
    pair.cell.value = Ownership(CLUSTER, 1, "north", (Member("north", store),), 0)
    await until(lambda: pair.is_up("north", "coupled") and pair.is_up("south", "standby"))
    pair.nodes["north"].loop.post(Work(ChangeItem(AgentItem(AGENT, "sim://agent"))))
    await until(lambda: bench.persisted > 0)
    yield pair
    for node in pair.nodes.values():
        await node.close()
    await bench.agent.close()
    assert bench.failures == []


@virtual
async def test_who_takes_over_is_obeyed_and_who_was_cut_off_is_not() -> None:
    async with controllers() as pair:
        north, network = pair.nodes["north"], pair.bench.network
        before = pair.epoch_obeyed()
        cas = pair.cell.cas

        async def cas_of_south(expected: Ownership, new: Ownership) -> Ownership | None:
            return await cas(expected, new) if new.owner == "south" else expected

        pair.cell.cas = cas_of_south  # type: ignore[method-assign]
        network.cut("north", "south")
        await until(lambda: pair.is_up("south", "solo"))
        assert north.replica.status == "fenced"
        await until(lambda: pair.epoch_obeyed() > before)
        link = pair.nodes["south"].role.agents[AGENT].link
        await until(lambda: link.state is LinkState.COUPLED)
        # The deposed one hears it from its agent, before anybody tells it of the cut: only the register is believed.
        await until(lambda: pair.ended["north"] != [])
        assert isinstance(pair.ended["north"][0], SteppedDown)
        assert str(pair.ended["north"][0]) == f"south owns epoch {pair.nodes['south'].replica.me.epoch}"
        assert link.state is LinkState.COUPLED
        assert pair.bench.agent.agent.reception.statistics()["sessions"] == 1


@virtual
async def test_a_refusal_by_an_agent_makes_the_owner_read_the_register_which_alone_deposes() -> None:
    async with controllers() as pair:
        north = pair.nodes["north"]
        higher = pair.bench.controller("elsewhere", 99)
        north.replica.alarms.clear()  # of the time before the register was given its first value
        await until(lambda: north.replica.alarms != [])
        assert "Epoch 99 is obeyed somewhere" in north.replica.alarms[-1]
        assert (north.replica.status, pair.ended["north"]) == ("coupled", [])
        own = pair.cell.value
        assert own is not None
        pair.cell.value = Ownership(CLUSTER, 99, "south", own.insync, 1_000)
        await until(lambda: pair.ended["north"] != [])
        assert str(pair.ended["north"][0]) == "south owns epoch 99"
        await higher.close()


@virtual
async def test_the_next_owner_knows_everything_and_both_journals_are_one() -> None:
    async with controllers() as pair:
        await pair.nodes["north"].close()
        await until(lambda: pair.is_up("south", "solo"))
        assert AGENT in pair.nodes["south"].loop.state.agents
        await pair.boot("north")
        await until(lambda: pair.is_up("south", "coupled"))
        await until(lambda: pair.disks["north"].records() == pair.disks["south"].records())


@virtual
async def test_an_activation_that_waited_for_the_other_node_begins_in_the_epoch_of_then() -> None:
    async with controllers() as pair:
        for name in NAMES:
            await pair.nodes[name].close()
        north = await pair.boot("north")  # the other one is in sync and away: it claims again, waits, and uncouples
        last = pair.disks["north"].image()[0]
        await until(lambda: north.replica.status == "solo" and north.role is not None)
        await until(lambda: pair.disks["north"].image()[0] > last)
        epochs = [record.epoch for record in pair.disks["north"].records()[last:]]
        assert epochs == [north.replica.me.epoch] * len(epochs)
        assert north.role.loop.epoch == north.replica.me.epoch


@virtual
async def test_a_pair_with_unsafe_times_does_not_boot_and_leaves_nothing_open() -> None:
    async with controllers() as pair:
        await pair.nodes["south"].close()
        with pytest.raises(UnsafeTimes, match="two nodes may act at once"):
            await pair.boot("south", Times(wait_ms=1))
        await pair.boot("south")
        await until(lambda: pair.is_up("south", "standby"))
