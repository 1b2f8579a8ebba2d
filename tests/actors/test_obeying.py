"""R15 on real nodes: an agent obeys the controller of the highest epoch, over crashes too, and says so.

Tests: actors/agent.py, actors/controller.py
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from actors.controller import Controller
from engine import Workflow, job
from engine.base.ids import AgentId
from engine.base.limits import BATCHES_IN_FLIGHT_MAX
from engine.base.problem import Problem
from engine.base.wire import Identity
from engine.boot import AgentNode, boot_agent, boot_controller
from engine.journal.memory import MemoryStore
from engine.language import standard_language
from engine.model.command import AttachWorkflow
from engine.model.event import ControllerObeyed
from engine.model.item import AgentItem
from engine.ports import Store, StoreFault
from engine.rules.commands.change_item import ChangeItem
from engine.runtime.link import Link, LinkState
from engine.runtime.mailbox import Work
from engine.runtime.session import Session
from engine.simulation.network import SimNetwork
from tests.pair.pairs import CLUSTER, Disk, PairWorld
from tests.runtime.linked import hello, pass_ms, until, virtual

LANGUAGE = standard_language()


class AgentWorld(PairWorld):
    """A World with a disk, enough for an agent without subagents, and for a controller."""

    def __init__(self, node: str, incarnation: int, network: SimNetwork, disk: Disk) -> None:
        super().__init__(node, incarnation, network)
        self._disk = disk

    async def open_store(self) -> Store:
        return MemoryStore(self._disk, self._disk.fsync)

    def snapshot_maker(self, store: Store, role: str, name: str = "") -> Any:
        return None  # so few records that none is made


class Bench:
    """An agent, and whoever wants to command it."""

    def __init__(self) -> None:
        self.network = SimNetwork(Random(0))
        self.disk = Disk()
        self.failures: list[BaseException] = []
        self.links: list[Link] = []
        self.world: AgentWorld
        self.agent: AgentNode
        self._incarnations = 0

    async def boot(self) -> None:
        self._incarnations += 1
        self.world = AgentWorld("agent", self._incarnations, self.network, self.disk)
        self.agent = await boot_agent(self.world, "sim://agent", CLUSTER, self.failures.append)  # type: ignore[arg-type]

    async def crash(self) -> None:
        self.world.network.revoke("it crashed", notice=False)
        self.world.revoke("it crashed")
        await self.disk.crash_with(self.agent.close())
        self.failures[:] = [one for one in self.failures if not isinstance(one, StoreFault)]  # of the dead one

    def controller(self, node: str, epoch: int, **options: Any) -> Link:
        """Dial the agent as a controller does; `lost` of the link are the reasons for which sessions ended."""
        lost: list[Problem] = []
        link = Link(
            PairWorld(node, 1, self.network),
            ("sim://agent",),
            Identity(CLUSTER, "controller", node, options.pop("incarnation", 1)),
            peer_role="agent",
            on_failure=self.failures.append,
            epoch=lambda: epoch,
            on_lost=lost.append,
            **options,
        )
        link.lost = lost  # type: ignore[attr-defined]
        self.links.append(link)
        link.start()
        return link

    @property
    def state(self) -> Any:
        return self.agent.agent.loop.state

    @property
    def persisted(self) -> int:
        """The highest epoch in the durable journal."""
        machine = self.agent.agent.machine
        events = [event for record in self.disk.records() for event in machine.decode_events(record.events)]
        return max((event.epoch for event in events if isinstance(event, ControllerObeyed)), default=0)


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    one = Bench()
    await one.boot()
    yield one
    for link in one.links:
        await link.close()
    await one.agent.close()
    assert one.failures == []


def workflow(name: str) -> bytes:
    return LANGUAGE.encode(AttachWorkflow(LANGUAGE.versioned(Workflow(name, job("j", shell="true")))))


def codes(link: Link) -> list[str]:
    return [reason.code for reason in link.lost]  # type: ignore[attr-defined]


@virtual
async def test_the_epoch_is_durable_before_the_controller_hears_anything() -> None:
    async with bench() as one:
        one.disk.gate.clear()
        link = one.controller("north", 3)
        await pass_ms(2_000)
        assert (one.state.controller_epoch, one.persisted, link.peer) == (3, 0, None)
        one.disk.gate.set()
        await until(lambda: link.peer is not None)
        assert one.persisted == 3


@virtual
async def test_so_it_is_when_the_pipeline_is_full() -> None:
    async with bench() as one:
        one.disk.gate.clear()
        agent, when_opened = one.agent.agent, list[int]()
        opened = agent.reception._on_opened

        def noted(session: Session) -> None:
            when_opened.append(one.persisted)
            opened(session)

        agent.reception._on_opened = noted
        for number in range(2 * BATCHES_IN_FLIGHT_MAX):
            command = LANGUAGE.decode_to_agent(workflow(f"w{number}"))
            agent.loop.mailbox.put(Work(command))
            await pass_ms(2)
        assert len(agent.loop.mailbox) >= BATCHES_IN_FLIGHT_MAX, "no more is decided"
        link = one.controller("north", 3)
        await pass_ms(200)
        one.disk.gate.set()
        await until(lambda: link.peer is not None)
        assert when_opened == [3], "durable before the session is open"


@virtual
async def test_a_lower_epoch_is_refused_and_the_session_of_the_higher_stays() -> None:
    async with bench() as one:
        north = one.controller("north", 7)
        await north.until_coupled()
        south = one.controller("south", 6)
        await until(lambda: codes(south) != [])
        reason = south.lost[0]  # type: ignore[attr-defined]
        assert (reason.code, reason.arguments) == ("StaleEpoch", {"epoch": 6, "known": 7})
        assert north.state is LinkState.COUPLED
        assert codes(north) == []


@virtual
async def test_a_higher_epoch_ends_the_session_of_the_lower_and_voids_its_commands() -> None:
    async with bench() as one:
        north = one.controller("north", 7)
        await north.until_coupled()
        one.disk.gate.clear()
        await pass_ms(20)
        north.send(workflow("before"))
        await pass_ms(20)  # it waits for the disk: decided, so it is the agent's own
        south = one.controller("south", 8)
        await pass_ms(20)
        for _ in range(3):
            north.send(workflow("after"))
        one.disk.gate.set()
        await south.until_coupled()
        await until(lambda: "StaleEpoch" in codes(north))
        assert codes(north)[0] == "Superseded"
        assert not any("after" in name for name in one.state.workflows)
        assert one.agent.agent.reception.statistics()["sessions"] == 1


@virtual
async def test_of_two_that_come_at_the_same_instant_only_the_higher_is_let_in() -> None:
    """The refusal must not wait until the higher one is decided."""
    for first, second in ((8, 7), (7, 8)):
        async with bench() as one:
            one.disk.gate.clear()
            links = {epoch: one.controller(f"c{epoch}", epoch) for epoch in (first, second)}
            await pass_ms(30)
            one.disk.gate.set()
            await links[8].until_coupled()
            await until(lambda: "StaleEpoch" in codes(links[7]))  # noqa: B023 - it is awaited here
            assert links[8].state is LinkState.COUPLED
            assert codes(links[8]) == []


@virtual
async def test_the_higher_one_counts_from_the_moment_in_which_it_is_let_in() -> None:
    async with bench() as one:
        agent = one.agent.agent

        def comes(node: str, epoch: int) -> Problem | None:
            return agent._admit(hello(node=node, role="controller", epoch=epoch))

        assert (comes("north", 8), one.state.controller_epoch) == (None, 0)
        refused = comes("south", 7)
        assert refused is not None, "a turn has not come in between"
        assert refused.arguments == {"epoch": 7, "known": 8}
        assert comes("north", 8) is None
        await until(lambda: one.persisted == 8)


@virtual
async def test_who_is_refused_for_another_reason_ends_nobodys_session_and_raises_no_epoch() -> None:
    async with bench() as one:
        north = one.controller("north", 7, incarnation=5)
        await north.until_coupled()
        twin = one.controller("north", 9, incarnation=4)
        await until(lambda: codes(twin) != [])
        assert codes(twin)[0] == "StaleIncarnation"
        assert (north.state, one.state.controller_epoch) == (LinkState.COUPLED, 7)


@virtual
async def test_after_a_crash_it_still_refuses() -> None:
    async with bench() as one:
        north = one.controller("north", 7)
        await north.until_coupled()
        await north.close()
        await one.crash()
        await one.boot()
        south = one.controller("south", 6)
        await until(lambda: codes(south) != [])
        assert codes(south)[0] == "StaleEpoch"
        again = one.controller("south", 7, incarnation=2)
        await again.until_coupled()


@virtual
async def test_what_was_not_durable_when_it_crashed_was_not_obeyed() -> None:
    async with bench() as one:
        one.disk.gate.clear()
        north = one.controller("north", 7)
        await pass_ms(200)
        assert north.peer is None
        await one.crash()
        one.disk.gate.set()
        await north.close()
        await one.boot()
        south = one.controller("south", 6)
        await south.until_coupled()
        assert one.persisted == 6


@pytest.mark.parametrize("seed", range(5))
@virtual
async def test_over_any_sequence_of_epochs_and_crashes_nobody_is_obeyed_below_the_persisted(seed: int) -> None:
    random = Random(seed)
    async with bench() as one:
        open_links: list[tuple[int, Link]] = []
        for step in range(40):
            match random.randrange(5):
                case 0 if open_links:
                    await one.crash()
                    await one.boot()
                case 1 if open_links:
                    await open_links.pop(random.randrange(len(open_links)))[1].close()
                case _:
                    epoch = random.randint(1, 12)
                    open_links.append((epoch, one.controller(f"c{epoch}", epoch, incarnation=step)))
            await pass_ms(random.choice((0, 1, 5, 400)))
            persisted = one.persisted
            obeyed = [epoch for epoch, link in open_links if link.state is LinkState.COUPLED and link.peer]
            sessions = one.agent.agent.reception.sessions()
            assert len(sessions) <= 1
            for session in sessions:
                assert session.live
                assert int(session.node[1:]) >= persisted, "who is listened to is no lower than what is durable"
            assert all(epoch <= one.state.controller_epoch for epoch in obeyed)


@virtual
async def test_the_controller_tells_whoever_asks_the_register() -> None:
    async with bench() as one:
        told: list[int] = []
        world = AgentWorld("south", 1, one.network, Disk())
        controller: Controller = await boot_controller(world, "sim://south", CLUSTER, one.failures.append)  # type: ignore[arg-type]
        controller.on_stale = told.append
        higher = one.controller("north", 99)
        await higher.until_coupled()
        controller.loop.post(Work(ChangeItem(AgentItem(AgentId("agent"), "sim://agent"))))
        await until(lambda: told != [])
        assert told[0] == 99
        assert higher.state is LinkState.COUPLED
        link = controller.agents[AgentId("agent")].link
        assert link is not None
        link._on_lost(Problem("StaleEpoch", "of a version that says less"))
        assert told[-1] == 0, "a word that is missing ends nothing"
        await controller.close()


@virtual
async def test_a_controller_raises_the_epoch_at_its_agents_with_each_boot() -> None:
    async with bench() as one:
        disk = Disk()
        for incarnation in (1, 2):
            world = AgentWorld("south", incarnation, one.network, disk)
            controller = await boot_controller(world, "sim://south", CLUSTER, one.failures.append)  # type: ignore[arg-type]
            controller.loop.post(Work(ChangeItem(AgentItem(AgentId("agent"), "sim://agent"))))
            await until(lambda: one.persisted == incarnation)  # noqa: B023 - it is awaited here
            assert controller.loop.epoch == incarnation
            await controller.close()


def test_the_workflow_that_is_sent_is_one_an_agent_can_read() -> None:
    assert isinstance(LANGUAGE.decode_to_agent(workflow("w")), AttachWorkflow)
