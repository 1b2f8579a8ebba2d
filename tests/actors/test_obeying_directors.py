"""R15 at a real subagent: of an agent's directors it obeys the one of the highest epoch, over crashes too.

Tests: actors/subagent.py, actors/director.py
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import msgspec
import pytest

from actors import subagent as module
from actors.subagent import OBEYED, Subagent
from engine.base.ids import AgentId, OrderId, SubagentId, attempt_key
from engine.base.problem import Problem
from engine.base.wire import Identity
from engine.boot import AgentNode, boot_agent, boot_subagent
from engine.jobs.shell import ShellJob
from engine.journal.memory import MemoryStore
from engine.language import standard_language
from engine.model.command import AttachItems, StartAttempt
from engine.model.item import AgentItem, SubagentItem
from engine.model.job import Start
from engine.ports import ProcessReport, ProcessSpec, Store
from engine.runtime.link import Link, LinkState
from engine.runtime.mailbox import Work
from engine.simulation.network import SimNetwork
from tests.pair.pairs import CLUSTER, Disk, PairWorld
from tests.runtime.linked import hello, pass_ms, until, virtual

LANGUAGE = standard_language()


class Host:
    """Starts nothing, and notes what it was to start."""

    def __init__(self) -> None:
        self.started: list[str] = []

    async def open(self) -> list[ProcessReport]:
        return []

    def start(self, spec: ProcessSpec) -> None:
        self.started.append(spec.key)

    async def reports(self) -> list[ProcessReport]:
        await pass_ms(10_000_000)
        return []

    def forget(self, keys: Any) -> None:
        pass

    def path(self, folder: str) -> str:
        return f"/{folder}"

    async def close(self) -> None:
        pass


class SubagentWorld(PairWorld):
    """A World with a disk and processes that never run."""

    def __init__(self, node: str, incarnation: int, network: SimNetwork, disk: Disk, host: Host) -> None:
        super().__init__(node, incarnation, network)
        self._disk = disk
        self._host = host

    async def open_store(self) -> Store:
        return MemoryStore(self._disk, self._disk.fsync)

    def snapshot_maker(self, store: Store, role: str, name: str = "") -> Any:
        return None

    def process_host(self) -> Host:
        return self._host

    def environment(self) -> dict[str, str]:
        return {}


class Bench:
    """A subagent, and whoever wants to command it."""

    def __init__(self) -> None:
        self.network = SimNetwork(Random(0))
        self.disk = Disk()
        self.host = Host()
        self.failures: list[BaseException] = []
        self.links: list[Link] = []
        self.world: SubagentWorld
        self.subagent: Subagent
        self._incarnations = 0

    async def boot(self) -> None:
        self._incarnations += 1
        self.world = SubagentWorld("s", self._incarnations, self.network, self.disk, self.host)
        self.subagent = await boot_subagent(self.world, "sim://s", CLUSTER, self.failures.append)  # type: ignore[arg-type]

    async def crash(self) -> None:
        self.world.network.revoke("it crashed", notice=False)
        await self.disk.crash_with(self.subagent.close())
        self.failures.clear()  # of the dead one

    def director(self, node: str, epoch: int, pair: str = "agent", **options: Any) -> Link:
        """Dial the subagent as a director does; `lost` of the link are the reasons for which sessions ended."""
        lost: list[Problem] = []
        link = Link(
            PairWorld(node, 1, self.network),
            ("sim://s",),
            Identity(CLUSTER, "director", node, options.pop("incarnation", 1), pair=pair),
            peer_role="subagent",
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
    def persisted(self) -> dict[str, int]:
        """The highest epochs in the durable cell."""
        found = self.disk._durable.cells.get(OBEYED)
        return {} if found is None else msgspec.msgpack.decode(found, type=dict[str, int])


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    one = Bench()
    await one.boot()
    yield one
    for link in one.links:
        await link.close()
    await one.subagent.close()
    assert one.failures == []


def start(order: str) -> bytes:
    key = attempt_key(OrderId(order), 1, 1)
    return LANGUAGE.encode(StartAttempt(Start(key, OrderId(order), 1, 1, 1, "j", ShellJob("true"), {}, {})))


def codes(link: Link) -> list[str]:
    return [reason.code for reason in link.lost]  # type: ignore[attr-defined]


@virtual
async def test_the_epoch_is_durable_before_the_director_hears_anything() -> None:
    async with bench() as one:
        one.disk.gate.clear()
        link = one.director("north", 3)
        await pass_ms(2_000)
        assert (one.persisted, link.peer) == ({}, None)
        one.disk.gate.set()
        await until(lambda: link.peer is not None)
        assert one.persisted == {"agent": 3}


@virtual
async def test_a_lower_epoch_is_refused_with_what_to_do_and_the_session_of_the_higher_stays() -> None:
    async with bench() as one:
        north = one.director("north", 7)
        await north.until_coupled()
        south = one.director("south", 6)
        await until(lambda: codes(south) != [])
        reason = south.lost[0]  # type: ignore[attr-defined]
        assert (reason.code, reason.arguments) == ("StaleDirector", {"epoch": 6, "pair": "agent", "known": 7})
        assert "Give the agent the journal of that director" in reason.sentence
        assert "seed its register above 7" in reason.sentence
        assert "remove the state of this subagent once its jobs have ended" in reason.sentence
        assert (north.state, codes(north)) == (LinkState.COUPLED, [])


@virtual
async def test_a_higher_epoch_ends_the_session_of_the_lower_at_once_and_voids_its_commands() -> None:
    async with bench() as one:
        north = one.director("north", 7)
        await north.until_coupled()
        one.disk.gate.clear()
        south = one.director("south", 8)
        await pass_ms(20)  # it is heard of, and not yet durable
        north.send(start("late"))
        await pass_ms(20)
        one.disk.gate.set()
        await south.until_coupled()
        await until(lambda: "StaleDirector" in codes(north))
        assert codes(north)[0] == "Superseded"
        assert one.host.started == [], "of the older director nothing is begun any more"
        south.send(start("now"))
        await until(lambda: one.host.started == ["now/1/1"])


@virtual
async def test_of_two_that_come_at_the_same_instant_only_the_higher_is_let_in() -> None:
    for first, second in ((8, 7), (7, 8)):
        async with bench() as one:
            one.disk.gate.clear()
            links = {epoch: one.director(f"d{epoch}", epoch) for epoch in (first, second)}
            await pass_ms(30)
            one.disk.gate.set()
            await links[8].until_coupled()
            await until(lambda: "StaleDirector" in codes(links[7]))  # noqa: B023 - it is awaited here
            assert (links[8].state, codes(links[8])) == (LinkState.COUPLED, [])


@virtual
async def test_after_a_crash_it_still_refuses() -> None:
    async with bench() as one:
        north = one.director("north", 7)
        await north.until_coupled()
        await north.close()
        await one.crash()
        await one.boot()
        south = one.director("south", 6)
        await until(lambda: codes(south) != [])
        assert codes(south)[0] == "StaleDirector"
        again = one.director("south", 7, incarnation=2)
        await again.until_coupled()


@virtual
async def test_what_was_not_durable_when_it_crashed_was_not_obeyed() -> None:
    async with bench() as one:
        one.disk.gate.clear()
        north = one.director("north", 7)
        await pass_ms(200)
        assert north.peer is None
        await one.crash()
        one.disk.gate.set()
        await north.close()
        await one.boot()
        await one.director("south", 6).until_coupled()
        assert one.persisted == {"agent": 6}


@virtual
async def test_two_nodes_of_a_pair_count_their_incarnations_apart() -> None:
    async with bench() as one:
        north = one.director("north", 7, incarnation=9)
        await north.until_coupled()
        south = one.director("south", 8, incarnation=1)
        await south.until_coupled()
        assert one.persisted == {"agent": 8}
        await until(lambda: "StaleDirector" in codes(north))
        assert one.subagent._reception.statistics()["sessions"] == 1


@virtual
async def test_epochs_count_within_the_agent_whose_director_it_is() -> None:
    async with bench() as one:
        await one.director("agent", 7, pair="").until_coupled()
        await one.director("other", 2, pair="").until_coupled()
        assert one.persisted == {"agent": 7, "other": 2}
        assert one.subagent._admit(hello(node="agent", role="director", epoch=6)) is not None


@virtual
async def test_of_too_many_agents_the_next_one_is_refused() -> None:
    async with bench() as one:
        for number in range(module.DIRECTORS_MAX):
            assert one.subagent._admit(hello(node=f"a{number}", role="director", epoch=1)) is None
        refused = one.subagent._admit(hello(node="more", role="director", epoch=1))
        assert refused is not None
        assert refused.code == "TooManyDirectors"
        assert one.subagent._admit(hello(node="a0", role="director", epoch=2)) is None


@pytest.mark.parametrize("seed", range(5))
@virtual
async def test_over_any_sequence_of_epochs_and_crashes_nobody_is_obeyed_below_the_persisted(seed: int) -> None:
    random = Random(seed)
    async with bench() as one:
        open_links: list[Link] = []
        for step in range(40):
            match random.randrange(5):
                case 0 if open_links:
                    await one.crash()
                    await one.boot()
                case 1 if open_links:
                    await open_links.pop(random.randrange(len(open_links))).close()
                case _:
                    epoch = random.randint(1, 12)
                    open_links.append(one.director(f"d{epoch}", epoch, incarnation=step))
            await pass_ms(random.choice((0, 1, 5, 400)))
            sessions = one.subagent._reception.sessions()
            assert len(sessions) <= 1
            for session in sessions:
                assert session.live
                assert int(session.node[1:]) >= one.persisted.get("agent", 0)


@virtual
async def test_a_director_raises_the_epoch_with_each_boot_and_tells_whoever_asks_the_register() -> None:
    async with bench() as one:
        disk, told = Disk(), list[int]()
        for incarnation in (1, 2):
            agent = await _agent(one, incarnation, disk)
            await until(lambda: one.persisted.get("agent") == incarnation)  # noqa: B023 - it is awaited here
            await agent.close()
        agent = await _agent(one, 3, disk)
        agent.director.on_stale = told.append
        await one.director("other-half", 99, pair="agent").until_coupled()
        await until(lambda: told != [])
        assert told[0] == 99
        link = agent.director.links[SubagentId("s")][1]
        link._on_lost(Problem("StaleDirector", "of a version that says less"))
        assert told[-1] == 0, "a word that is missing ends nothing"
        await agent.close()


@virtual
async def test_an_agent_whose_journal_is_gone_is_told_so() -> None:
    """Its epochs begin anew: to let it in would be to obey two histories."""
    async with bench() as one:
        disk = Disk()
        for incarnation in (1, 2):
            agent = await _agent(one, incarnation, disk)
            await until(lambda: one.persisted.get("agent") == incarnation)  # noqa: B023 - it is awaited here
            await agent.close()
        agent = await _agent(one, 3, Disk())
        link = agent.director.links[SubagentId("s")][1]
        await until(lambda: link.problem is not None)
        assert link.problem is not None
        assert link.problem.code == "StaleDirector"
        assert "if that journal is gone for good, remove the state of this subagent" in link.problem.sentence
        await agent.close()


async def _agent(one: Bench, incarnation: int, disk: Disk) -> AgentNode:
    world = SubagentWorld("agent", incarnation, one.network, disk, Host())
    agent = await boot_agent(world, "sim://agent", CLUSTER, one.failures.append)  # type: ignore[arg-type]
    items = (AgentItem(AgentId("agent"), "sim://agent"), SubagentItem(SubagentId("s"), AgentId("agent"), "sim://s"))
    agent.loop.post(Work(AttachItems(items)))
    await until(lambda: SubagentId("s") in agent.director.links)
    return agent
