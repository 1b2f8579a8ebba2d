"""SimWorld: everything one incarnation of a simulated node may touch. Floor 10.

* Clock, ids, jitter, network, store, processes and files all come from the seed and from virtual time.
* Each use is checked: a revoked incarnation is refused with EngineClosed; one that acts although its node was crashed,
  or in another node's name, is a breach of the simulation's own rules and is told to `on_breach`.
* A blocking function runs on the loop, at a later turn and taking no virtual time of its own.
"""

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from engine.base.problem import EngineClosed
from engine.journal.snapshots import SnapshotFailed
from engine.ports import Connection, ConnectionClosed, Listener, Machine, Snapshot, Store, StoreFault
from engine.runtime.recovery import begin_recovery, replay, snapshot_bytes
from engine.simulation.disk import SimDisk
from engine.simulation.loop_nodes import NODE
from engine.simulation.network import SimNetwork, SimTransport
from engine.simulation.process_host import SimHost
from engine.simulation.processes import SimMachine

if TYPE_CHECKING:
    from engine.simulation.loop import VirtualLoop

ID_BYTES = 16
CALL_MS_MAX = 5.0  # until a blocking function's result is there

Done = Callable[[Any, BaseException | None], None]
Accept = Callable[[Connection], Awaitable[None]]


class SimClock:
    """A node's clocks: the loop's, with the node's drift; the wall clock may have been set wrong besides."""

    def __init__(self, loop: "VirtualLoop", machine: SimMachine) -> None:
        self._loop = loop
        self._machine = machine

    def now_ms(self) -> int:
        return self._loop.clock_ns() // 1_000_000 + self._machine.wall_offset_ms

    def monotonic_ms(self) -> int:
        return self._loop.clock_ns() // 1_000_000


class SimWorld:
    """Implements ports.World. Make it anew for each incarnation."""

    def __init__(
        self,
        node: str,
        *,
        lane: str,
        loop: "VirtualLoop",
        network: SimNetwork,
        machine: SimMachine,
        disk: SimDisk,
        machine_for: Callable[[str, str], Machine[Any, Any, Any, Any]],
        incarnation: int | None = None,
        on_breach: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`lane`: the loop's name of this node's process. `machine_for(role, node)`: a node's rules, for replay."""
        self.node = node
        self.lane = lane
        self.incarnation = machine.next_incarnation() if incarnation is None else incarnation
        self.clock = SimClock(loop, machine)
        self.revoked: str | None = None
        self._loop = loop
        self._machine = machine
        self._disk = disk
        self._machine_for = machine_for
        self._on_breach = on_breach
        self._transport = network.transport(node)
        self._checked = _CheckedTransport(self._transport, self.check)
        self._hosts: list[SimHost] = []
        seed = f"{loop.seed}/world/{node}#{self.incarnation}"
        self._ids, self._chances = Random(f"{seed}/ids"), Random(f"{seed}/chances")

    def check(self, what: str) -> None:
        """Refuse what a dead incarnation wants to do; raises EngineClosed."""
        self.check_place(what)
        if self.revoked is not None:
            raise EngineClosed(self.revoked)

    def check_place(self, what: str) -> None:
        """Refuse what is done in this node's name by somebody else, or after its crash; raises EngineClosed."""
        if NODE.get() != self.lane or self._loop.is_crashed(self.lane):
            self._on_breach(f"{self.lane} wants to {what}, called by {NODE.get() or 'the environment'}")
            raise EngineClosed(f"{self.lane} may not {what} here")

    def new_id(self) -> str:
        return urlsafe_b64encode(self._ids.randbytes(ID_BYTES)).rstrip(b"=").decode()

    def jitter(self, span_ms: int) -> int:
        return self._chances.randrange(span_ms) if span_ms > 0 else 0

    def transport(self, url: str) -> tuple["_CheckedTransport", str]:
        self.check(f"use {url}")
        scheme, separator, address = url.partition("://")
        if not separator or scheme != self._checked.scheme:
            raise ConnectionClosed(f"{url!r} is no address of the simulation; they begin with sim://")
        return self._checked, address

    async def open_store(self) -> Store:
        self.check("open the store")
        if self._disk.fails_with:
            number, self._disk.fails_with = self._disk.fails_with, 0
            raise StoreFault(f"The disk of {self.node} failed with errno {number} when it was opened.")
        # A closing node still writes what it took, so only its place is checked.
        return await self._disk.open_store(f"of {self.node}", self.check_place)

    def process_host(self) -> SimHost:
        self.check("use processes")
        host = SimHost(self._machine, self.check)
        self._hosts.append(host)
        return host

    def snapshot_maker(self, store: Store, role: str, name: str = "") -> "InlineSnapshotMaker":
        self.check("make snapshots")
        return InlineSnapshotMaker(store, self._machine_for(role, name or self.node))

    def call(self, function: Callable[..., Any], arguments: Mapping[str, Any], done: Done) -> None:
        self.check("call a function")
        delay_s = self._chances.uniform(0, CALL_MS_MAX) / 1_000
        asyncio.get_running_loop().call_later(delay_s, self._call, function, arguments, done)

    def _call(self, function: Callable[..., Any], arguments: Mapping[str, Any], done: Done) -> None:
        if self.revoked is not None:
            return
        asyncio._set_running_loop(None)  # a function in a thread sees no running loop
        result, error = None, None
        try:
            result = function(**arguments)
        except BaseException as raised:  # noqa: BLE001 - as a thread would: every error goes to whoever waits
            error = raised
        finally:
            asyncio._set_running_loop(self._loop)
        done(result, error)

    async def read_file(self, path: str, size_bytes_max: int) -> bytes | None:
        self.check("read a file")
        await asyncio.sleep(0)
        content = self._machine.files.get(path)
        return None if content is None else content[: size_bytes_max + 1]

    def environment(self) -> dict[str, str]:
        return {"HOME": f"/machines/{self._machine.name}", "PATH": "/bin", "UNDERSTUDY_PYTHON": "python"}

    def resolve(self, path: str) -> str:
        return path if path.startswith("/") else f"/machines/{self._machine.name}/{path}"

    def revoke(self, reason: str) -> None:
        self.end(reason, notice=True)

    def end(self, reason: str, *, notice: bool) -> None:
        """Revoke; `notice`: the peers see their connections end, else they hear nothing any more."""
        if self.revoked is None:
            self.revoked = reason
            self._transport.revoke(reason, notice=notice)
            for host in self._hosts:
                host.end(reason)


class _CheckedTransport:
    """The scheme `sim` of one incarnation, each use of which is checked, each message too."""

    scheme = SimTransport.scheme

    def __init__(self, transport: SimTransport, check: Callable[[str], None]) -> None:
        self._transport = transport
        self._check = check

    async def listen(self, address: str, accept: Accept) -> Listener:
        self._check(f"listen at {address}")

        async def accepted(connection: Connection) -> None:
            await accept(self._guarded(connection))

        return await self._transport.listen(address, accepted)

    async def connect(self, address: str) -> Connection:
        self._check(f"connect to {address}")
        return self._guarded(await self._transport.connect(address))

    def revoke(self, reason: str) -> None:
        """End the incarnation's connections."""
        self._transport.revoke(reason)

    def _guarded(self, connection: Any) -> Connection:
        check, send = self._check, connection.send

        async def checked_send(frames: Sequence[bytes]) -> None:
            try:
                check("send")
            except EngineClosed as closed:
                raise ConnectionClosed(closed.reason) from None
            await send(frames)

        connection.send = checked_send
        guarded: Connection = connection
        return guarded


class InlineSnapshotMaker:
    """Makes a snapshot by replaying the durable log, in one go."""

    def __init__(self, store: Store, machine: Machine[Any, Any, Any, Any]) -> None:
        self._store = store
        self._machine = machine

    async def make(self, upto: int) -> Snapshot:
        recovered = begin_recovery(self._machine, await self._store.snapshot())
        digest = b""
        async for records in self._store.replay(recovered.index):
            wanted = [record for record in records if record.index <= upto]
            replay(self._machine, recovered, wanted)
            digest = wanted[-1].hash if wanted else digest
        if recovered.index != upto or not digest:
            raise SnapshotFailed(f"a snapshot of record {upto} was asked for; the log yields {recovered.index}")
        return Snapshot(upto, recovered.epoch, digest, snapshot_bytes(self._machine, recovered))
