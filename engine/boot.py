"""Boot: the only place where parts are joined: world, store, feed, machine, actor. Floor 9.

* The same functions boot nodes in the real world and in a simulated one; what differs is the World they are given.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from actors.agent import Agent
from actors.controller import Controller
from actors.director import Director
from actors.subagent import Subagent
from actors.witness import KeptRegister, Witness
from engine.base.ids import AgentId, Cursor
from engine.base.wire import Identity
from engine.client.register import LinkRegister
from engine.journal.feed import Feed
from engine.journal.register import open_sqlite_register
from engine.journal.retention import Hold
from engine.language import standard_language
from engine.model.language import Language
from engine.pair.cells import CFG
from engine.pair.forcing import post_forced
from engine.pair.node import PairNode, PairPlace, UnfitPlace, UnsafeTimes
from engine.pair.peer import pace_of
from engine.pair.replica import Replica
from engine.ports import Store, World
from engine.rules import leases
from engine.rules.agent import AgentMachine
from engine.rules.agent_state import AgentState
from engine.rules.controller import ControllerMachine
from engine.rules.controller_state import ControllerState
from engine.rules.pair.times import Times
from engine.runtime.alone import Alone
from engine.runtime.keeper import SNAPSHOT_EVERY_RECORDS, Keeper
from engine.runtime.node_loop import NodeLoop

OnClosed = Callable[[BaseException], None]
NOT_BOOTED = "it could not be booted"


class AgentNode:
    """An agent and its director: two actors, one loop, one journal."""

    def __init__(self, agent: Agent, director: Director) -> None:
        self.agent = agent
        self.director = director

    @property
    def loop(self) -> NodeLoop[AgentState]:
        """The loop that both share."""
        return self.agent.loop

    async def close(self, reason: str = "it was closed") -> None:
        """End both; safe to call twice."""
        await self.director.close()
        await self.agent.close(reason)


def feed_of(store: Store) -> Feed:
    """Return the feed of a recovered store: alone, everything durable may be seen."""
    return Feed(store, Cursor(store.tip.index, store.tip.epoch))


def refuse_half_of_pair(store: Store, node: str) -> None:
    """Raise UnfitPlace for a store that belonged to a pair: alone, it would act while the other one may be acting."""
    if store.cell(CFG) is not None:
        raise UnfitPlace(
            f"The journal of {node} is that of one of a pair, so it can not act alone: start it as such; to go on"
            " without the other one, force it."
        )


def keep(
    world: World,
    role: str,
    store: Store,
    feed: Feed,
    loop: NodeLoop[Any],
    holds: Callable[[], Sequence[Hold]],
    every_records: int,
    name: str = "",
) -> None:
    """Let a node's journal be kept: snapshots and trimming, beside its loop. `name`: of a pair's agent."""
    keeper = Keeper(
        store=store,
        maker=world.snapshot_maker(store, role, name),
        feed=feed,
        clock=world.clock,
        shown=lambda: loop.shown,
        written_bytes=lambda: loop.kept_bytes,
        holds=holds,
        every_records=every_records,
    )
    loop.spawn(keeper.run(), "keeper")


async def boot_controller(
    world: World,
    url: str,
    cluster: str,
    on_closed: OnClosed,
    language: Language | None = None,
    snapshot_every_records: int = SNAPSHOT_EVERY_RECORDS,
    on_recovered: Callable[[ControllerState, Cursor], None] | None = None,
) -> Controller:
    """Boot a controller that listens at a url; raises StoreFault, UnfitPlace.

    `on_recovered` sees the state as the journal has it, and the journal's end, before the first turn; it may only read.
    """
    controller = Controller(world, ControllerMachine(language or standard_language()), cluster, on_closed)
    async with AsyncExitStack() as undo:
        store = await world.open_store()
        undo.push_async_callback(store.close)
        refuse_half_of_pair(store, world.node)
        undo.push_async_callback(controller.close, NOT_BOOTED)
        feed = feed_of(store)
        await controller.recover(store, feed, Alone())
        if on_recovered is not None:
            on_recovered(controller.loop.state, feed.tip)
        await controller.start(url)
        keep(world, controller.role, store, feed, controller.loop, list, snapshot_every_records)
        undo.pop_all()
    return controller


async def boot_controller_of_pair(
    world: World,
    url: str,
    cluster: str,
    on_closed: OnClosed,
    place: PairPlace,
    language: Language | None = None,
    snapshot_every_records: int = SNAPSHOT_EVERY_RECORDS,
) -> PairNode:
    """Boot one of two controllers: a standby, which acts and listens at `url` once the register says that it may.

    Raises StoreFault, UnsafeTimes, UnfitPlace.
    """
    machine = ControllerMachine(language or standard_language())

    async def open_role(store: Store, replica: Replica, epoch: int, on_ended: OnClosed) -> Controller:
        controller = Controller(world, machine, cluster, on_ended)
        async with AsyncExitStack() as undo:
            undo.push_async_callback(controller.close, NOT_BOOTED)
            feed = feed_of(store)
            await controller.recover(store, feed, replica, epoch)
            post_forced(controller.loop, replica)
            await replica.acknowledged(store.tip.index)  # what is published below is what everybody has
            controller.loop.epoch = replica.me.epoch  # it may have gone on meanwhile
            controller.on_stale = replica.hear_of
            await controller.start(url)
            keep(world, controller.role, store, feed, controller.loop, replica.holds, snapshot_every_records)
            undo.pop_all()
        return controller

    def drain(controller: Controller, begins: bool) -> None:
        controller.is_draining = begins

    identity = Identity(cluster, Controller.role, world.node, world.incarnation)
    node = PairNode(
        world,
        identity,
        place,
        open_role,
        _next_epoch,
        on_closed,
        on_drain=drain,
        make_maker=lambda store: world.snapshot_maker(store, Controller.role),
        snapshot_every_records=snapshot_every_records,
    )
    async with AsyncExitStack() as undo:
        store = await world.open_store()
        undo.push_async_callback(store.close)
        undo.push_async_callback(node.close, NOT_BOOTED)
        await node.start(store)
        undo.pop_all()
    return node


def agent_machine(language: Language | None, agent: AgentId) -> AgentMachine:
    """Return an agent's rules; raises UnsafeTimes when the times of its leases could let a job run twice at once."""
    machine = AgentMachine(language or standard_language(), agent)
    if faults := leases.faults_of(machine.lease_times):
        raise UnsafeTimes(" ".join(faults))
    return machine


def _next_epoch(role: Controller | AgentNode, epoch: int) -> None:
    role.loop.epoch = epoch


async def boot_agent(
    world: World,
    url: str,
    cluster: str,
    on_closed: OnClosed,
    language: Language | None = None,
    snapshot_every_records: int = SNAPSHOT_EVERY_RECORDS,
) -> AgentNode:
    """Boot an agent with its director; raises StoreFault, UnsafeTimes, UnfitPlace."""
    machine = agent_machine(language, AgentId(world.node))
    agent = Agent(world, machine, cluster, on_closed)
    async with AsyncExitStack() as undo:
        store = await world.open_store()
        undo.push_async_callback(store.close)
        refuse_half_of_pair(store, world.node)
        undo.push_async_callback(agent.close, NOT_BOOTED)
        feed = feed_of(store)
        loop = await agent.recover(store, feed, Alone())
        director = Director(world, machine, loop, cluster)
        undo.push_async_callback(director.close)
        await agent.start(url, director.tell, director.relink)
        keep(world, agent.role, store, feed, loop, agent.holds, snapshot_every_records)
        undo.pop_all()
    return AgentNode(agent, director)


class DirectorPairNode(PairNode):
    """One of two directors; its register is a link to the controllers, which ends with it."""

    register: LinkRegister

    def fail(self, error: BaseException) -> None:
        """End this node because a part of it failed."""
        self._ended(error)

    async def close(self, reason: str = "it was closed") -> None:
        """End everything; safe to call twice."""
        await super().close(reason)
        await self.register.close()


async def boot_agent_of_pair(
    world: World,
    url: str,
    cluster: str,
    agent: AgentId,
    on_closed: OnClosed,
    *,
    peer: str,
    own_url: str,
    peer_url: str,
    controllers: Sequence[str],
    times: Times | None = None,
    language: Language | None = None,
    snapshot_every_records: int = SNAPSHOT_EVERY_RECORDS,
) -> PairNode:
    """Boot one of an agent's two directors: a standby, which acts and listens at `url` once its register allows it.

    `peer`: the other node; `own_url`, `peer_url`: where both speak with each other. `controllers`: the urls of the
    controllers, whose journal is the register. Both nodes speak for one agent and know the same subagents; who takes
    over adopts what those run. Raises StoreFault, UnsafeTimes, UnfitPlace.
    """
    machine = agent_machine(language, agent)

    async def open_role(store: Store, replica: Replica, epoch: int, on_ended: OnClosed) -> AgentNode:
        actor = Agent(world, machine, cluster, on_ended)
        async with AsyncExitStack() as undo:
            undo.push_async_callback(actor.close, NOT_BOOTED)
            feed = feed_of(store)
            loop = await actor.recover(store, feed, replica, epoch)
            post_forced(loop, replica)
            await replica.acknowledged(store.tip.index)  # what is published below is what everybody has
            loop.epoch = replica.me.epoch  # it may have gone on meanwhile
            director = Director(world, machine, loop, cluster)
            director.on_stale, director.may_act = replica.hear_of, replica.may_act
            undo.push_async_callback(director.close)
            await actor.start(url, director.tell, director.relink)
            holds = lambda: [*actor.holds(), *replica.holds()]
            keep(world, actor.role, store, feed, loop, holds, snapshot_every_records, agent)
            undo.pop_all()
        return AgentNode(actor, director)

    identity = Identity(cluster, Agent.role, world.node, world.incarnation)

    def failed(error: BaseException) -> None:
        node.fail(error)

    pace = pace_of(times or Times())
    register = LinkRegister(world, controllers, identity, on_failure=failed, peer_role=Controller.role, pace=pace)
    node = DirectorPairNode(
        world,
        identity,
        PairPlace(peer=peer, own_url=own_url, peer_url=peer_url, register=register, times=times, pair=agent),
        open_role,
        _next_epoch,
        on_closed,
        make_maker=lambda store: world.snapshot_maker(store, Agent.role, agent),
        snapshot_every_records=snapshot_every_records,
    )
    node.register = register
    async with AsyncExitStack() as undo:
        undo.push_async_callback(register.close)
        store = await world.open_store()
        undo.push_async_callback(store.close)
        undo.push_async_callback(node.close, NOT_BOOTED)
        await node.start(store)
        register.start()
        undo.pop_all()
    return node


async def boot_subagent(
    world: World,
    url: str,
    cluster: str,
    on_closed: OnClosed,
    callables: Mapping[str, Callable[..., Any]] | None = None,
    language: Language | None = None,
) -> Subagent:
    """Boot a subagent; it adopts what its guard still runs. Raises StoreFault."""
    known = {} if callables is None else callables  # the very mapping: what is put into it later is known then
    async with AsyncExitStack() as undo:
        store = await world.open_store()
        undo.push_async_callback(store.close)
        subagent = Subagent(world, language or standard_language(), cluster, known, on_closed, store)
        undo.push_async_callback(subagent.close, NOT_BOOTED)
        await subagent.start(url)
        undo.pop_all()
    return subagent


async def boot_witness(
    world: World,
    url: str,
    cluster: str,
    on_closed: OnClosed,
    folder: str,
    open_register: Callable[[str], Awaitable[KeptRegister]] = open_sqlite_register,
) -> Witness:
    """Boot a witness that keeps its register in a folder of its own (not another node's); raises StoreFault."""
    register = await open_register(folder)
    witness = Witness(world, register, cluster, on_closed)
    async with AsyncExitStack() as undo:
        undo.push_async_callback(witness.close, NOT_BOOTED)
        await witness.start(url)
        undo.pop_all()
    return witness


def dial_register(
    world: World,
    role: str,
    urls: Sequence[str],
    cluster: str,
    on_failure: OnClosed,
    keeper: str = Witness.role,
    times: Times | None = None,
) -> LinkRegister:
    """Return the register that a witness keeps (or the controllers, for directors), dialled; the caller closes it.

    `times`: of the pair that asks; its link finds the register again as quickly as that pair needs it.
    """
    identity = Identity(cluster, role, world.node, world.incarnation)
    pace = pace_of(times or Times())
    register = LinkRegister(world, urls, identity, on_failure=on_failure, peer_role=keeper, pace=pace)
    register.start()
    return register
