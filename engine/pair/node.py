"""PairNode: a node that is one of a pair: a standby until the rules say otherwise, then a whole actor. Floor 6.

* As a standby it keeps its journal short as an actor does, and stops before the role is opened.
* The role (controller, director) is opened by a function that boot gives; it is opened once per incarnation.
* Ending closes everything in order: what beats and writes for the pair, then the role, whose loop owns the store.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from engine.base.pair_query import PairStatus
from engine.base.problem import EngineClosed, Problem, problem
from engine.base.tasks import TaskScope
from engine.base.wire import FEATURE_LEVEL, Identity
from engine.pair.cells import boot_state, feature_level, last_nonce, store_id
from engine.pair.desk import Desk, NotHandedOver, switch_over_fault
from engine.pair.peer import Peer
from engine.pair.replica import Replica
from engine.pair.status import status_of
from engine.ports import Register, SnapshotMaker, Store, World
from engine.rules.pair.state import Role, Setting
from engine.rules.pair.times import Times, faults_of
from engine.runtime.keeper import SNAPSHOT_EVERY_RECORDS, Keeper

DrainTimedOut = problem(
    "DrainTimedOut",
    "{node} could not come to a stop within {limit_ms} ms and goes on as before: {why}. Ask again when that is over.",
)
AlreadyHandingOver = problem("AlreadyHandingOver", "{node} is handing over already; see its status.")


class RoleNode(Protocol):
    """What acts: a controller, or an agent with its director."""

    async def close(self, reason: str = ...) -> None: ...


OpenRole = Callable[[Store, Replica, int, Callable[[BaseException], None]], Awaitable[RoleNode]]


class PairPlace:
    """Where a node of a pair stands: its peer, both addresses, its register, its times."""

    def __init__(
        self,
        *,
        peer: str,
        own_url: str,
        peer_url: str,
        register: Register | None,
        times: Times | None = None,
        pair: str = "",
        feature: int = FEATURE_LEVEL,
    ) -> None:
        """`pair`: under which name the register knows the pair; "": under that of the cluster. `feature`: the level of
        events that this program reads.
        """
        self.peer = peer
        self.own_url = own_url
        self.peer_url = peer_url
        self.register = register
        self.times = times or Times()
        self.pair = pair
        self.feature = feature


CHANCE_BITS = 30  # of a nonce, so that no copy of the disk has the same; those above it rise with each start


class UnsafeTimes(Exception):
    """The times of the pair break an inequality; the node does not start."""


class UnfitPlace(Exception):
    """The pair's names or addresses can not be right; the node does not start."""


class PairNode:
    """One node of a pair."""

    def __init__(
        self,
        world: World,
        identity: Identity,
        place: PairPlace,
        open_role: OpenRole,
        on_epoch: Callable[[Any, int], None],
        on_closed: Callable[[BaseException], None],
        *,
        on_drain: Callable[[Any, bool], None] = lambda _role, _begins: None,
        make_maker: Callable[[Store], SnapshotMaker] | None = None,
        snapshot_every_records: int = SNAPSHOT_EVERY_RECORDS,
    ) -> None:
        """`on_epoch(role, epoch)` tells a running role that its next records carry another epoch.

        `on_drain(role, begins)`: commands from outside are to be refused now, or to be taken again. `make_maker`: makes
        the maker of a standby's snapshots; without it a standby makes none, and its journal grows.
        """
        self.world = world
        self.role: Any = None  # the actor, once this node acts
        self.replica: Replica
        self._identity = identity
        self._place = place
        self._open_role = open_role
        self._on_epoch = on_epoch
        self._on_closed = on_closed
        self._on_drain = on_drain
        self._make_maker = make_maker
        self._every_records = snapshot_every_records
        self._desk = Desk(self, self._ended)
        self._draining: asyncio.Task[Problem | None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self.keeper: Keeper | None = None  # of the standby's journal
        self._scope = TaskScope(f"pair node {world.node}", self._ended)
        self._store: Store | None = None
        self._peer: Peer | None = None

    @property
    def loop(self) -> Any:
        """The durable loop of the role, None while this node does not act."""
        return None if self.role is None else self.role.loop

    async def start(self, store: Store) -> None:
        """Read what the disk holds and begin as a standby; raises StoreFault, UnsafeTimes, UnfitPlace."""
        faults = faults_of(self._place.times)
        if faults:
            raise UnsafeTimes(" ".join(faults))
        world, place, identity = self.world, self._place, self._identity
        register = _register_of(world.node, place)
        if feature_level(store) > place.feature:
            raise UnfitPlace(
                f"The journal of {world.node} may hold events of level {feature_level(store)}, and this program reads"
                f" {place.feature}: start the newer program."
            )
        self._store = store
        last, nonce = last_nonce(store), (world.incarnation << CHANCE_BITS) + world.jitter(1 << CHANCE_BITS)
        who = Setting(
            place.pair or identity.cluster,
            world.node,
            place.peer,
            await store_id(store, world.new_id, nonce),
            nonce,
            place.times,
            last,
        )
        self.replica = Replica(
            who,
            await boot_state(store, world.clock.monotonic_ms()),
            store=store,
            register=register,
            clock=world.clock,
            on_activate=self._activate,
            on_epoch=self._go_on,
            on_ended=self._ended,
            on_drain=self._begin_drain,
            feature=place.feature,
        )
        self._peer = Peer(
            world,
            identity,
            peer_node=place.peer,
            own_url=place.own_url,
            peer_url=place.peer_url,
            times=place.times,
            on_message=self.replica.hear,
            on_connected=self.replica.connected,
            on_failure=self._ended,
            on_terms=self.replica.peer_reads,
            ask=self._desk.ask,
            feature=place.feature,
            feature_min=lambda: self.replica.feature_level,
        )
        self.replica.join(self._peer)
        await self._peer.open()
        self.replica.start()
        self._keep(store)

    def _keep(self, store: Store) -> None:
        """Let the standby's journal be kept."""
        if self._make_maker is None:
            return
        replica = self.replica
        self.keeper = Keeper(
            store=store,
            maker=self._make_maker(store),
            feed=replica,
            clock=self.world.clock,
            shown=lambda: replica.compared,
            written_bytes=lambda: replica.taken_bytes,
            holds=replica.holds,
            every_records=self._every_records,
            add=replica.keep_snapshot,
        )
        self._keeping = self._scope.start(self.keeper.run(), "keeper")

    async def _stop_keeping(self) -> None:
        """End the keeper, for the role has one of its own: two would write the same scratch file."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            await asyncio.wait([keeping])

    # --- what people ask ----------------------------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """Whether this node hears or could speak to the other now."""
        return self._peer is not None and self._peer.hears_or_speaks

    def status(self) -> PairStatus:
        """Return what this node tells a person about itself."""
        assert self._store is not None
        assert self._peer is not None
        return status_of(self._identity, self.replica, self._peer, self._store, self.world.clock)

    async def switch_over(self) -> Problem | None:
        """Come to a stop and offer the pair to the other node; returns what is in the way, and goes on then."""
        if self._draining is not None and not self._draining.done():
            return AlreadyHandingOver(node=self.world.node)
        refused = switch_over_fault(self.replica)
        if refused is not None or not self.replica.switch_over():
            return refused
        assert self._draining is not None
        return await asyncio.shield(self._draining)

    def _begin_drain(self) -> None:
        self._draining = self._scope.start(self._drain(), "hand over")

    async def _drain(self) -> Problem | None:
        """Stop deciding, wait until everything decided is acknowledged and shown, then yield, all in bounded time."""
        replica, role, limit_ms = self.replica, self.role, self._place.times.lease_ms
        if role is None:
            return NotHandedOver(
                node=self.world.node, state=replica.status, why="it has not begun to act yet; ask again"
            )
        self._on_drain(role, True)
        try:
            async with asyncio.timeout(limit_ms / 1_000):
                await role.loop.rest()
                while not replica.yields():
                    refused = switch_over_fault(replica)
                    if refused is not None and replica.me.role is not Role.COUPLED:
                        return refused
                    await replica.change()
        except TimeoutError:
            refused = switch_over_fault(replica)
            why = "not everything it has decided was acknowledged" if refused is None else f"it is {replica.status}"
            return DrainTimedOut(node=self.world.node, limit_ms=limit_ms, why=why)
        finally:
            if replica.me.role is not Role.YIELDED:
                role.loop.go_on()
                self._on_drain(role, False)
        return None

    @property
    def problem(self) -> Problem | None:
        """Why the two nodes do not speak with each other; None when they do."""
        return None if self._peer is None else self._peer.problem

    async def close(self, reason: str = "it was closed") -> None:
        """End everything; safe to call twice."""
        await self._desk.close()
        await self._scope.close()
        if self._peer is not None:
            await self.replica.close()
            await self._peer.close()
        if self.role is not None:
            await self.role.close(reason)
        elif self._store is not None:
            await self._store.close()

    def _activate(self, epoch: int) -> None:
        self._scope.start(self._open(epoch), "open the role")

    async def _open(self, epoch: int) -> None:
        try:
            assert self._store is not None
            await self._stop_keeping()
            self.role = await self._open_role(self._store, self.replica, epoch, self._ended)
        except EngineClosed as closed:
            self._ended(closed)
        else:
            self._go_on(self.replica.me.epoch)

    def _go_on(self, epoch: int) -> None:
        if self.role is not None:
            self._on_epoch(self.role, epoch)

    def _ended(self, error: BaseException) -> None:
        self.world.revoke(str(error))
        self._on_closed(error)


def _register_of(node: str, place: PairPlace) -> Register:
    """Return the pair's register; raises UnfitPlace for a place that can not be right."""
    if place.peer == node or place.own_url == place.peer_url:
        raise UnfitPlace(f"{node} at {place.own_url} can not be its own peer; name the other node of the pair.")
    if place.register is None:
        raise UnfitPlace(
            f"{node} has no register: from both sides a cut cable looks like a death, so a pair needs a third place"
            " that says who owns it. Start a witness and give its address (docs/register.md)."
        )
    return place.register
