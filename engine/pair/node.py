"""PairNode: a node that is one of a pair: a standby until the rules say otherwise, then a whole actor. Floor 6.

* The role (controller, director) is opened by a function that boot gives; it is opened once per incarnation.
* Ending closes everything in order: what beats and writes for the pair, then the role, whose loop owns the store.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from engine.base.problem import EngineClosed, Problem
from engine.base.tasks import TaskScope
from engine.base.wire import Identity
from engine.pair.peer import Peer
from engine.pair.replica import Replica, boot_state, store_id
from engine.ports import Register, Store, World
from engine.rules.pair.state import Setting
from engine.rules.pair.times import Times, faults_of


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
        register: Register,
        times: Times | None = None,
        pair: str = "",
    ) -> None:
        """`pair`: under which name the register knows the pair; "": under that of the cluster."""
        self.peer = peer
        self.own_url = own_url
        self.peer_url = peer_url
        self.register = register
        self.times = times or Times()
        self.pair = pair


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
    ) -> None:
        """`on_epoch(role, epoch)` tells a running role that its next records carry another epoch."""
        self.world = world
        self.role: Any = None  # the actor, once this node acts
        self.replica: Replica
        self._identity = identity
        self._place = place
        self._open_role = open_role
        self._on_epoch = on_epoch
        self._on_closed = on_closed
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
        if place.peer == world.node or place.own_url == place.peer_url:
            raise UnfitPlace(
                f"{world.node} at {place.own_url} can not be its own peer; name the other node of the pair."
            )
        self._store = store
        who = Setting(
            place.pair or identity.cluster,
            world.node,
            place.peer,
            await store_id(store, world.new_id),
            world.incarnation,
            place.times,
        )
        self.replica = Replica(
            who,
            await boot_state(store, world.clock.monotonic_ms()),
            store=store,
            register=place.register,
            clock=world.clock,
            on_activate=self._activate,
            on_epoch=self._go_on,
            on_ended=self._ended,
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
        )
        self.replica.join(self._peer)
        await self._peer.open()
        self.replica.start()

    @property
    def problem(self) -> Problem | None:
        """Why the two nodes do not speak with each other; None when they do."""
        return None if self._peer is None else self._peer.problem

    async def close(self, reason: str = "it was closed") -> None:
        """End everything; safe to call twice."""
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
