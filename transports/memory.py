"""The memory transport: ordered frames between actors of one process, through a hub that each engine owns. Floor 4.

* No global state: who shares a `MemoryHub` can meet, nobody else.
* Each direction is one `Pipe`, bounded in bytes and in frames; a sender waits when it is full.
* Sending many frames wakes the reader once; receiving takes all that is there.
* After a close the other side still receives what was sent before it; after an abort it receives nothing more.
* Closing a listener ends the connections that were accepted through it.
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Sequence

from engine.base.tasks import TaskScope
from engine.ports import Connection, ConnectionClosed

PIPE_BYTES_MAX = 1 << 20  # sent and not yet received, in one direction; a single larger frame passes alone
PIPE_FRAMES_MAX = 4_096

Accept = Callable[[Connection], Awaitable[None]]


class Pipe:
    """One direction of a connection: a bounded queue of frames with an end.

    `carry` takes frames that were admitted and must see to it that they `arrive`, in order; without it they arrive at
    once. Admitted frames count against the bounds until they are received.
    """

    __slots__ = ("_arrived", "_bytes_max", "_carry", "_ended", "_frames_max", "_reader", "_sender", "_shut", "_turn",
                 "held_bytes", "held_frames")  # fmt: skip

    def __init__(
        self,
        *,
        bytes_max: int = PIPE_BYTES_MAX,
        frames_max: int = PIPE_FRAMES_MAX,
        carry: Callable[[list[bytes]], None] | None = None,
    ) -> None:
        self._bytes_max = bytes_max
        self._frames_max = frames_max
        self._carry = carry if carry is not None else self.arrive
        self._arrived: list[bytes] = []
        self._reader: asyncio.Future[None] | None = None  # who waits for frames
        self._sender: asyncio.Future[None] | None = None  # who waits for room; the others wait for `_turn`
        self._turn = asyncio.Lock()  # so that the frames of one `send` stay together
        self._shut: str | None = None  # why nothing more may be sent
        self._ended: str | None = None  # why nothing more will arrive
        self.held_bytes = 0
        self.held_frames = 0

    async def send(self, frames: Sequence[bytes]) -> None:
        """Admit frames in order, waiting for room; raises ConnectionClosed once the pipe is shut.

        When cancelled or refused while it waits, the first part of the frames may have been admitted.
        """
        if self._shut is not None:
            raise ConnectionClosed(self._shut)
        size_bytes = sum(map(len, frames))
        if not self._turn.locked() and self._has_room(size_bytes, len(frames)):
            self.held_bytes += size_bytes
            self.held_frames += len(frames)
            self._carry(list(frames))
            return
        async with self._turn:
            await self._send_in_parts(frames)

    def _has_room(self, size_bytes: int, count: int) -> bool:
        fits = self.held_bytes + size_bytes <= self._bytes_max and self.held_frames + count <= self._frames_max
        return fits or (count == 1 and self.held_frames == 0)

    async def _send_in_parts(self, frames: Sequence[bytes]) -> None:
        part: list[bytes] = []
        for frame in frames:
            if not self._has_room(len(frame), 1):
                if part:
                    self._carry(part)
                    part = []
                while self._shut is None and not self._has_room(len(frame), 1):
                    self._sender = asyncio.get_running_loop().create_future()
                    try:
                        await self._sender
                    finally:
                        self._sender = None
            if self._shut is not None:
                raise ConnectionClosed(self._shut)
            self.held_bytes += len(frame)
            self.held_frames += 1
            part.append(frame)
        if part:
            self._carry(part)

    def arrive(self, frames: list[bytes]) -> None:
        """Hand admitted frames to the reader; frames that come after the end are dropped."""
        if self._ended is None:
            self._arrived += frames
            _wake(self._reader)

    def release(self, frames: Sequence[bytes]) -> None:
        """Give back the room of frames that were received or lost on the way."""
        self.held_bytes -= sum(map(len, frames))
        self.held_frames -= len(frames)
        _wake(self._sender)

    async def receive(self) -> list[bytes]:
        """Take every frame that has arrived, at least one; raises ConnectionClosed when no more will come.

        One reader at a time: a second one is a mistake of ours and raises RuntimeError.
        """
        while not self._arrived:
            if self._ended is not None:
                raise ConnectionClosed(self._ended)
            if self._reader is not None:
                raise RuntimeError("two tasks receive from one connection")
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        frames, self._arrived = self._arrived, []
        self.release(frames)
        return frames

    def shut(self, reason: str) -> None:
        """Refuse every further `send`, also one that waits; what was admitted goes on."""
        if self._shut is None:
            self._shut = reason
            _wake(self._sender)

    def end(self, reason: str, *, drop: bool = False) -> None:
        """Let the reader see the end behind what has arrived, or at once with `drop`."""
        if drop:
            self._arrived.clear()
        if self._ended is None:
            self._ended = reason
            _wake(self._reader)


def _wake(waiting: "asyncio.Future[None] | None") -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


class MemoryConnection:
    """One end of a memory connection."""

    def __init__(self, peer: str, outgoing: Pipe, incoming: Pipe) -> None:
        self.peer = peer
        self._outgoing = outgoing
        self._incoming = incoming
        self.send = outgoing.send
        self.receive = incoming.receive

    async def close(self) -> None:
        """End both directions; the other side still receives what was sent. Safe to call twice."""
        self._end("the connection was closed", drop=False)

    def abort(self, reason: str = "the connection was aborted") -> None:
        """End both directions at once; what was not yet received is lost."""
        self._end(reason, drop=True)

    def _end(self, reason: str, drop: bool) -> None:
        self._outgoing.shut(reason)
        self._outgoing.end(f"{reason} by the other side", drop=drop)
        self._incoming.shut(f"{reason} by the other side")
        self._incoming.end(reason, drop=True)


class AcceptScope:
    """Runs `accept` as a task for each connection of a listener and closes the connection when it ends.

    Shared by transports that live in this process. A failure of `accept` goes to the loop's exception handler and
    ends that connection only.
    """

    def __init__(self, address: str, accept: Accept) -> None:
        self._accept = accept
        self._address = address
        self._open: dict[Connection, None] = {}
        self._scope = TaskScope(f"listener {address}", self._failed)

    def start(self, connection: Connection) -> None:
        """Serve one connection."""
        self._open[connection] = None
        self._scope.start(self._serve(connection), connection.peer)

    async def _serve(self, connection: Connection) -> None:
        try:
            await self._accept(connection)
        except ConnectionClosed:
            pass  # the usual end of a connection
        finally:
            self._open.pop(connection, None)
            await connection.close()

    def _failed(self, error: BaseException) -> None:
        message = f"a connection at {self._address} failed"
        asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})

    async def close(self) -> None:
        """End all connections and wait until their tasks have ended."""
        await self._scope.close()
        for connection in list(self._open):  # cancelled before their first step
            await connection.close()
        self._open.clear()


class MemoryListener:
    """An open address of a hub."""

    def __init__(self, hub: "MemoryHub", address: str, accept: Accept) -> None:
        self.address = address
        self._hub = hub
        self.serving = AcceptScope(address, accept)

    async def close(self) -> None:
        """Give the address back and end the accepted connections; safe to call twice."""
        self._hub.forget(self)
        await self.serving.close()


class MemoryHub:
    """The addresses of one engine."""

    def __init__(self) -> None:
        self._listeners: dict[str, MemoryListener] = {}

    def add(self, listener: MemoryListener) -> None:
        """Open an address; raises OSError (EADDRINUSE) when it is taken."""
        if listener.address in self._listeners:
            raise OSError(errno.EADDRINUSE, f"memory://{listener.address} is in use")
        self._listeners[listener.address] = listener

    def find(self, address: str) -> MemoryListener | None:
        """Return who listens at an address."""
        return self._listeners.get(address)

    def forget(self, listener: MemoryListener) -> None:
        """Close an address, unless somebody else has it by now."""
        if self._listeners.get(listener.address) is listener:
            del self._listeners[listener.address]


class MemoryTransport:
    """The scheme `memory`: frames of bytes inside one process, between nodes that share a hub.

    `node` names this side to the other one. One transport belongs to one incarnation of a node: `revoke` ends it.
    """

    scheme = "memory"

    def __init__(
        self, hub: MemoryHub, node: str = "", *, bytes_max: int = PIPE_BYTES_MAX, frames_max: int = PIPE_FRAMES_MAX
    ) -> None:
        self._hub = hub
        self._node = node
        self._bytes_max = bytes_max
        self._frames_max = frames_max
        self._revoked: str | None = None
        self._ends: dict[MemoryConnection, None] = {}  # connections in use, for `revoke`
        self._listeners: list[MemoryListener] = []

    async def listen(self, address: str, accept: Accept) -> MemoryListener:
        """Open an address; raises OSError when it is taken, ConnectionClosed when this side was revoked."""
        self._refuse_revoked()

        async def tracked(connection: Connection) -> None:
            assert isinstance(connection, MemoryConnection)
            self._refuse_revoked()
            self._ends[connection] = None
            try:
                await accept(connection)
            finally:
                self._ends.pop(connection, None)

        listener = MemoryListener(self._hub, address, tracked)
        self._hub.add(listener)
        self._listeners = [one for one in self._listeners if self._hub.find(one.address) is one]
        self._listeners.append(listener)
        return listener

    async def connect(self, address: str) -> MemoryConnection:
        """Open a connection; raises ConnectionClosed when nobody listens there."""
        self._refuse_revoked()
        listener = self._hub.find(address)
        if listener is None:
            raise ConnectionClosed(f"nobody listens at memory://{address}")
        there = Pipe(bytes_max=self._bytes_max, frames_max=self._frames_max)
        back = Pipe(bytes_max=self._bytes_max, frames_max=self._frames_max)
        listener.serving.start(MemoryConnection(self._node or "memory", back, there))
        return _Dialled(address, there, back, self._ends)

    def revoke(self, reason: str) -> None:
        """Abort every connection of this side, give its addresses back, and refuse everything from now on."""
        self._revoked = reason
        for listener in self._listeners:
            self._hub.forget(listener)
        for connection in list(self._ends):
            connection.abort(reason)
        self._ends.clear()

    def _refuse_revoked(self) -> None:
        if self._revoked is not None:
            raise ConnectionClosed(f"this side is closed: {self._revoked}")


class _Dialled(MemoryConnection):
    """The dialling end; it takes itself off its transport's list when it is closed."""

    def __init__(self, peer: str, outgoing: Pipe, incoming: Pipe, ends: dict[MemoryConnection, None]) -> None:
        super().__init__(peer, outgoing, incoming)
        self._ends = ends
        ends[self] = None

    def _end(self, reason: str, drop: bool) -> None:
        self._ends.pop(self, None)
        super()._end(reason, drop)
