"""SimNetwork: connections between simulated nodes, with latency and every way in which a network fails. Floor 10.

* Inside one connection frames keep their order and are never skipped: losing one breaks the connection, as TCP would.
  Only the planted fault of `Weather.datagram_*` skips, repeats and swaps.
* A cut holds frames back, also those of connections whose sender has closed or died meanwhile; healing delivers them.
  So frames of an old connection arrive after a new one was opened: the fault that sessions are for.
* A reset delivers a beginning of what was under way and loses the rest; an end that is not told stays half-open.
* Deliveries run in the network's own context, so that a crashed or paused sender does not hold back what it sent.
* Everything random comes from the generator given; the same order of calls gives the same network.
"""

import asyncio
import errno
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from functools import partial
from random import Random

import msgspec

from engine.ports import ConnectionClosed
from transports.memory import PIPE_BYTES_MAX, PIPE_FRAMES_MAX, Accept, AcceptScope, Pipe

CONNECT_MS_MAX = 10_000  # after which connecting to a node that does not answer fails

_EARLY_S = 1e-9  # a timer may be rounded to just before its time


class Weather(msgspec.Struct, frozen=True):
    """How the network behaves by itself. Rates are probabilities per delivery unless said otherwise."""

    latency_ms_min: float = 0.2
    latency_ms_max: float = 2.0
    tail_rate: float = 0.0  # deliveries that take up to tail_ms_max longer
    tail_ms_max: float = 200.0
    reset_rate: float = 0.0  # connections broken in mid-stream
    half_open_rate: float = 0.3  # of the ends of such a connection: not told
    straggle_rate: float = 0.0  # of closed connections: what is still under way comes up to straggle_ms_max late
    straggle_ms_max: float = 2_000.0
    datagram_loss_rate: float = 0.0  # planted faults, per frame, inside a connection: no transport may do this
    datagram_repeat_rate: float = 0.0
    datagram_swap_rate: float = 0.0


CALM = Weather()


class _Item:
    """Something under way: what happens when it arrives, when that is due, and how many frames it carries."""

    __slots__ = ("arrive", "due", "frames")

    def __init__(self, due: float, frames: int, arrive: Callable[[], None]) -> None:
        self.due = due
        self.frames = frames
        self.arrive = arrive


class _Way:
    """One direction of a connection."""

    def __init__(self, network: "SimNetwork", source: str, target: str) -> None:
        self.pipe = Pipe(bytes_max=network.bytes_max, frames_max=network.frames_max, carry=self._carry)
        self.back: _Way  # the other direction
        self.owner: SimConnection  # the end that sends here
        self.void = False  # what is sent from now on is lost
        self._network = network
        self._path = (source, target)
        self._items: deque[_Item] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def path(self) -> tuple[str, str]:
        return self._path

    def lead(self, source: str, target: str) -> None:
        """Say between whom it leads: known for sure only when somebody has answered the door."""
        self._path = (source, target)

    @property
    def length(self) -> int:
        """How many things are under way."""
        return len(self._items)

    def _carry(self, frames: list[bytes]) -> None:
        network = self._network
        network.counts["frames_sent"] += len(frames)
        if self.void:
            network.counts["frames_dropped"] += len(frames)
            return
        frames = self._disturbed(frames)
        self.post(partial(self._arrive, frames), len(frames))
        if network.draw(network.weather.reset_rate):
            half_open = network.weather.half_open_rate
            told = (not network.draw(half_open), not network.draw(half_open))
            network.counts["resets"] += 1
            network.break_ways(self, tell_target=told[0], tell_source=told[1])

    def _disturbed(self, frames: list[bytes]) -> list[bytes]:
        """Do to frames what only datagrams suffer; nothing unless planted."""
        weather, draw = self._network.weather, self._network.draw
        if not (weather.datagram_loss_rate or weather.datagram_repeat_rate or weather.datagram_swap_rate):
            return frames
        out: list[bytes] = []
        for frame in frames:
            if draw(weather.datagram_loss_rate):
                self._network.counts["frames_dropped"] += 1
                self.pipe.release([frame])
                continue
            out.append(frame)
            if draw(weather.datagram_repeat_rate):
                out.append(frame)
                self.pipe.held_bytes += len(frame)
                self.pipe.held_frames += 1
            if len(out) > 1 and draw(weather.datagram_swap_rate):
                out[-1], out[-2] = out[-2], out[-1]
        return out

    def _arrive(self, frames: list[bytes]) -> None:
        self._network.counts["frames_delivered"] += len(frames)
        self.pipe.arrive(frames)

    def post(self, arrive: Callable[[], None], frames: int = 0) -> None:
        """Put something on its way behind everything before it."""
        self._items.append(_Item(self._network.now() + self._network.latency_s(), frames, arrive))
        self.arm()

    def end(self, reason: str) -> None:
        """Let the target see the end behind everything before it; it can send no more then either."""
        self.void = True
        self.post(partial(self._end, reason))

    def _end(self, reason: str) -> None:
        self.pipe.end(reason)
        self.back.pipe.shut(reason)

    def cut_short(self, kept: int) -> None:
        """Lose everything under way but the first `kept` things."""
        while len(self._items) > kept:
            self._network.counts["frames_dropped"] += self._items.pop().frames

    def linger(self, span_s: float) -> None:
        """Let everything under way come later."""
        for item in self._items:
            item.due += span_s

    def arm(self) -> None:
        """Set the timer for the next thing under way, unless the path is cut."""
        if self._timer is not None or not self._items:
            return
        opens = self._network.opens_at(self._path)
        if opens is not None:
            delay = max(self._items[0].due, opens) - self._network.now()
            self._timer = self._network.call_later(max(delay, 0.0), self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        now = self._network.now() + _EARLY_S
        opens = self._network.opens_at(self._path)
        if opens is not None and opens <= now:
            while self._items and self._items[0].due <= now:
                self._items.popleft().arrive()
        self.arm()
        self._network.forget_if_over(self.owner)


class SimConnection:
    """One end of a simulated connection."""

    def __init__(self, transport: "SimTransport | None", peer: str, outgoing: _Way, incoming: _Way) -> None:
        self.peer = peer
        self.transport = transport  # whose end this is; None until somebody accepts it
        self.closed = False
        self.outgoing = outgoing
        outgoing.owner = self
        self.incoming = incoming
        self.send = outgoing.pipe.send
        self.receive = incoming.pipe.receive

    async def close(self) -> None:
        """End both directions; what was sent before is still delivered, sooner or later. Safe to call twice."""
        if not self.closed:
            self._let_go("the connection was closed")
            if not self.outgoing.void:
                self.outgoing.end("the connection was closed by the other side")
                network, weather = self.outgoing._network, self.outgoing._network.weather
                if network.draw(weather.straggle_rate):
                    self.outgoing.linger(network.random.uniform(0, weather.straggle_ms_max) / 1_000)
            self.outgoing._network.forget_if_over(self)

    def die(self, reason: str, *, told: bool) -> None:
        """End without a word of this side's own: of what it sent a beginning still arrives."""
        if not self.closed:
            self._let_go(reason)
            self.outgoing._network.break_ways(self.outgoing, tell_target=told, tell_source=False)
            self.outgoing._network.forget_if_over(self)

    def _let_go(self, reason: str) -> None:
        self.closed = True
        self.outgoing.pipe.shut(reason)
        self.incoming.pipe.end(reason, drop=True)


class SimListener:
    """An open address in the simulated network."""

    def __init__(self, transport: "SimTransport", address: str, accept: Accept) -> None:
        self.address = address
        self.transport = transport
        self.context = copy_context()  # accepted connections are served by the node that listens
        self.serving = AcceptScope(address, accept)

    async def close(self) -> None:
        """Give the address back and end the accepted connections; safe to call twice."""
        self.transport.network.forget(self)
        await self.serving.close()


class SimTransport:
    """The scheme `sim`: one incarnation of a node in the simulated network."""

    scheme = "sim"

    def __init__(self, network: "SimNetwork", node: str) -> None:
        self.network = network
        self.node = node
        self.revoked: str | None = None

    async def listen(self, address: str, accept: Accept) -> SimListener:
        """Open an address; raises OSError when it is taken, ConnectionClosed when this side was revoked."""
        self._refuse_revoked()
        listener = SimListener(self, address, accept)
        self.network.add(listener)
        return listener

    async def connect(self, address: str) -> SimConnection:
        """Open a connection; raises ConnectionClosed when it is refused, or when there is no answer for long."""
        self._refuse_revoked()
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        connection = self.network.dial(self, address, answer)
        try:
            async with asyncio.timeout(CONNECT_MS_MAX / 1_000):
                refused = await answer
        except TimeoutError:
            await connection.close()
            raise ConnectionClosed(f"sim://{address} does not answer") from None
        except asyncio.CancelledError:
            await connection.close()
            raise
        if refused is not None:
            connection.die(refused, told=False)
            raise ConnectionClosed(refused)
        return connection

    def revoke(self, reason: str, *, notice: bool = True) -> None:
        """End every connection and address of this incarnation; peers are told, or never hear of it."""
        if self.revoked is None:
            self.revoked = reason
            self.network.drop(self, reason, notice=notice)

    def _refuse_revoked(self) -> None:
        if self.revoked is not None:
            raise ConnectionClosed(f"this side is closed: {self.revoked}")


class SimNetwork:
    """The network of one simulation. Make it outside of any node: its deliveries belong to the environment."""

    def __init__(
        self,
        random: Random,
        weather: Weather = CALM,
        *,
        bytes_max: int = PIPE_BYTES_MAX,
        frames_max: int = PIPE_FRAMES_MAX,
    ) -> None:
        self.random = random
        self.weather = weather  # may be replaced at any time
        self.bytes_max = bytes_max
        self.frames_max = frames_max
        names = "connections refused resets half_open frames_sent frames_delivered frames_dropped".split()
        self.counts = dict.fromkeys(names, 0)
        self._context: Context = copy_context()
        self._clock: Context = copy_context()  # to read the environment's time while a node runs
        self._transports: list[SimTransport] = []
        self._listeners: dict[str, SimListener] = {}
        self._homes: dict[str, str] = {}  # address → node that listened there last
        self._silent: dict[str, None] = {}  # nodes that died without notice: connecting to them gets no answer
        self._ends: dict[SimConnection, None] = {}
        self._cuts: dict[tuple[str, str], None] = {}
        self._clogs: dict[tuple[str, str], float] = {}

    # --- faults

    def transport(self, node: str) -> SimTransport:
        """Return the transport of a new incarnation of a node."""
        transport = SimTransport(self, node)
        self._transports = [one for one in self._transports if one.revoked is None]
        self._transports.append(transport)
        return transport

    def cut_one_way(self, source: str, target: str) -> None:
        """Hold back everything from source to target until healed."""
        self._cuts[source, target] = None

    def cut(self, first: str, second: str) -> None:
        """Hold back everything between two nodes until healed."""
        self.cut_one_way(first, second)
        self.cut_one_way(second, first)

    def partition(self, one_side: Iterable[str], other_side: Iterable[str]) -> None:
        """Cut every node of one side from every node of the other."""
        others = list(other_side)
        for first in one_side:
            for second in others:
                self.cut(first, second)

    def clog(self, source: str, target: str, span_ms: float) -> None:
        """Delay everything from source to target by at least a span from now, without loss."""
        path = (source, target)
        self._clogs[path] = max(self._clogs.get(path, 0.0), self.now() + span_ms / 1_000)

    def heal(self) -> None:
        """End all cuts and clogs; what was held back arrives, each connection with a latency of its own."""
        self._cuts.clear()
        self._clogs.clear()
        for end in self._ends:
            end.outgoing.linger(self.latency_s())
            end.outgoing.arm()

    def heal_between(self, first: str, second: str) -> None:
        """End the cuts between two nodes; what was held back arrives."""
        paths = ((first, second), (second, first))
        for path in paths:
            self._cuts.pop(path, None)
        for end in self._ends:
            if end.outgoing.path in paths:
                end.outgoing.linger(self.latency_s())
                end.outgoing.arm()

    @property
    def is_sound(self) -> bool:
        """Whether nothing is held back."""
        now = self.now()
        return self.weather == CALM and not self._cuts and all(until <= now for until in self._clogs.values())

    def reset(self, first: str, second: str) -> int:
        """Break every connection between two nodes in mid-stream, both ends being told; returns how many."""
        broken = self._break_between(first, second, (first, second))
        self.counts["resets"] += broken
        return broken

    def half_open(self, first: str, second: str) -> int:
        """Break every connection between two nodes so that only `first` is told: `second` goes on sending into it."""
        broken = self._break_between(first, second, (first,))
        self.counts["half_open"] += broken
        return broken

    def _break_between(self, first: str, second: str, told: tuple[str, ...]) -> int:
        paths = ((first, second), (second, first))
        ends = [one for one in self._ends if one.outgoing.path in paths]
        broken = 0
        for end in ends:
            way = end.outgoing
            if not way.void:  # breaking a connection from one end makes it void from the other
                source, target = way.path
                self.break_ways(way, tell_target=target in told, tell_source=source in told)
                broken += 1
        return broken

    def drop_node(self, node: str, *, notice: bool = True) -> None:
        """Let a node vanish: as a killed process, whose peers are told, or as a lost machine, which stays silent."""
        for transport in [one for one in self._transports if one.node == node]:
            transport.revoke("the node crashed", notice=notice)
        if not notice:
            self._silent[node] = None

    def statistics(self) -> dict[str, int]:
        """Frames and connections so far, and what is open now."""
        return {**self.counts, "ends": len(self._ends), "cuts": len(self._cuts)}

    # --- for transports and ways

    def draw(self, rate: float) -> bool:
        """Decide by lot; a rate of zero costs no random number."""
        return rate > 0 and self.random.random() < rate

    def latency_s(self) -> float:
        """Draw the time one delivery takes."""
        weather = self.weather
        latency_ms = self.random.uniform(weather.latency_ms_min, weather.latency_ms_max)
        if self.draw(weather.tail_rate):
            latency_ms += self.random.uniform(0, weather.tail_ms_max)
        return latency_ms / 1_000

    def now(self) -> float:
        """The environment's time in seconds, also while a node with a clock of its own runs."""
        return self._clock.run(asyncio.get_running_loop().time)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call in the network's own context."""
        return asyncio.get_running_loop().call_later(delay_s, callback, context=self._context)

    def opens_at(self, path: tuple[str, str]) -> float | None:
        """From when on a path delivers; None while it is cut."""
        return None if path in self._cuts else self._clogs.get(path, 0.0)

    def add(self, listener: SimListener) -> None:
        """Open an address; raises OSError (EADDRINUSE) when it is taken."""
        if listener.address in self._listeners:
            raise OSError(errno.EADDRINUSE, f"sim://{listener.address} is in use")
        self._listeners[listener.address] = listener
        self._homes[listener.address] = listener.transport.node
        self._silent.pop(listener.transport.node, None)

    def forget(self, listener: SimListener) -> None:
        """Close an address, unless somebody else has it by now."""
        if self._listeners.get(listener.address) is listener:
            del self._listeners[listener.address]

    def dial(self, transport: SimTransport, address: str, answer: "asyncio.Future[str | None]") -> SimConnection:
        """Send for a connection; `answer` gets None when it is open, else the refusal."""
        home = self._homes.get(address, "")
        there, back = _Way(self, transport.node, home), _Way(self, home, transport.node)
        there.back, back.back = back, there
        near = SimConnection(transport, address, there, back)
        far = SimConnection(None, transport.node, back, there)
        self._ends[near] = self._ends[far] = None

        def tell(refused: str | None) -> None:
            if not answer.done():
                answer.set_result(refused)

        def knock() -> None:
            listener = self._listeners.get(address)
            if listener is not None:
                self.counts["connections"] += 1
                far.transport = listener.transport
                there.lead(transport.node, listener.transport.node)
                back.lead(listener.transport.node, transport.node)
                listener.context.run(listener.serving.start, far)
                back.post(partial(tell, None))
            elif home not in self._silent:
                self.counts["refused"] += 1
                back.post(partial(tell, f"nobody listens at sim://{address}"))

        there.post(knock)
        return near

    def break_ways(self, way: _Way, *, tell_target: bool, tell_source: bool) -> None:
        """Break a connection in mid-stream: a beginning of what is under way each way arrives, the rest is lost."""
        for one, told in ((way, tell_target), (way.back, tell_source)):
            one.cut_short(self.random.randint(0, one.length))
            one.void = True
            if told:
                one.end("the connection was reset")

    def drop(self, transport: SimTransport, reason: str, *, notice: bool) -> None:
        """Let an incarnation's addresses and connections vanish."""
        for listener in [one for one in self._listeners.values() if one.transport is transport]:
            self.forget(listener)
        for end in [one for one in self._ends if one.transport is transport]:
            end.die(reason, told=notice)

    def forget_if_over(self, end: SimConnection) -> None:
        """Forget a connection that both sides have left, with nothing under way."""
        other = end.outgoing.back.owner
        left = [one.closed or one.transport is None for one in (end, other)]
        if all(left) and not end.outgoing.length and not other.outgoing.length:
            self._ends.pop(end, None)
            self._ends.pop(other, None)
