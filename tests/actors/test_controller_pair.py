"""Two real controllers as a pair, an agent below them: who takes over is obeyed, who is deposed is not.

Tests: engine/boot.py, engine/pair/node.py
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from engine.base.ids import AgentId
from engine.base.pair import Member, Ownership
from engine.base.problem import Problem, Refused
from engine.base.tasks import TaskScope
from engine.base.wire import Accepted
from engine.boot import boot_controller_of_pair
from engine.client.client import Client
from engine.client.pair import PairClient
from engine.language import standard_language
from engine.model.event import PairForced
from engine.model.item import AgentItem
from engine.pair.node import PairNode, PairPlace, UnsafeTimes
from engine.rules.commands.change_item import ChangeItem
from engine.rules.pair.times import Times
from engine.runtime.link import LinkState
from engine.runtime.mailbox import Work
from engine.runtime.supervisor import SteppedDown
from tests.actors.test_obeying import AgentWorld, Bench
from tests.pair.pairs import CLUSTER, Cell, Disk, PairWorld
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


def client_of(pair: Controllers) -> Client:
    world = PairWorld("client", 1, pair.bench.network)
    return Client(world, ("sim://north", "sim://south"), CLUSTER, standard_language())  # type: ignore[arg-type]


def person(pair: Controllers, name: str) -> PairClient:
    world = PairWorld(f"person at {name}", 1, pair.bench.network)
    one = PairClient(world, f"sim://{name}/pair", CLUSTER, "controller", on_failure=pair.bench.failures.append)
    one.start()
    return one


@virtual
async def test_a_client_notices_nothing_of_a_switch_over_but_a_pause() -> None:
    async with controllers() as pair:
        client, operator = client_of(pair), person(pair, "north")
        await client.open()
        answered: list[Accepted] = []
        stopping = asyncio.Event()

        async def commands() -> None:
            while not stopping.is_set():
                answered.append(await client.command(ChangeItem(AgentItem(AGENT, "sim://agent", len(answered) + 1))))

        scope = TaskScope("commands", pair.bench.failures.append)
        scope.start(commands(), "commands")
        await until(lambda: len(answered) > 10)
        assert "offers the pair to south" in await operator.switch_over()
        await until(lambda: pair.ended["north"] != [])
        assert str(pair.ended["north"][0]).startswith("south owns epoch")
        await pair.nodes["north"].close()
        await pair.boot("north")
        await until(lambda: pair.is_up("south", "coupled"))
        before = len(answered)
        await until(lambda: len(answered) > before + 10)
        stopping.set()
        await until(lambda: len(scope) == 0)
        assert pair.nodes["south"].loop.state.agents[AGENT].item.parallel_max == len(answered), "none was lost"
        assert [one.index for one in answered] == sorted({one.index for one in answered}), "none was done twice"
        await until(lambda: pair.disks["north"].records() == pair.disks["south"].records())
        await client.close()
        await operator.close()
        await scope.close()


@virtual
async def test_while_it_hands_over_a_controller_takes_no_command() -> None:
    async with controllers() as pair:
        north, operator = pair.nodes["north"], person(pair, "north")
        await operator.status()
        link = client_of(pair).make_link()
        link.start()
        await link.until_coupled()
        pair.disks["south"].gate.clear()
        north.loop.post(Work(ChangeItem(AgentItem(AGENT, "sim://agent", 5))))
        switching = asyncio.ensure_future(operator.switch_over())
        await until(lambda: north.role.is_draining)
        refusal = await link.request(standard_language().encode(ChangeItem(AgentItem(AGENT, "sim://agent", 7))))
        assert isinstance(refusal, Problem)
        assert refusal.code == "SwitchingOver"
        assert "send the command again in a second" in refusal.sentence
        with pytest.raises(Refused, match="could not come to a stop"):
            await switching
        assert not north.role.is_draining
        pair.disks["south"].gate.set()
        await link.close()
        await operator.close()


@virtual
async def test_a_forced_controller_journals_it_and_says_so() -> None:
    async with controllers() as pair:
        operator = person(pair, "south")
        await pair.nodes["south"].close()
        north = pair.nodes["north"]
        await until(lambda: north.replica.status == "solo")
        north.loop.post(Work(ChangeItem(AgentItem(AGENT, "sim://agent", 9))))
        await north.loop.settle()
        await north.close()
        south = await pair.boot("south")
        await until(lambda: south.replica.me.cfg is not None and len(south.replica.me.cfg.insync) == 1)
        await operator.force_take_over(peer_is_off=True)
        await until(lambda: pair.is_up("south", "solo"))
        await until(lambda: south.loop.state.forced_epoch > 0)
        await south.loop.settle()
        machine = south.loop.machine
        events = [event for record in pair.disks["south"].records() for event in machine.decode_events(record.events)]
        found = [event for event in events if isinstance(event, PairForced)]
        assert [(one.node, one.epoch) for one in found] == [("south", south.replica.me.epoch)]
        assert (await operator.status()).forced_epoch == found[0].epoch
        await operator.close()
