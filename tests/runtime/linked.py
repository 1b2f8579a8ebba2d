"""Two nodes in miniature for the tests of links: an upper one that owes commands, a lower one with mailbox and log.

They are as simple as nodes can be and still need the coupling law: the lower side does *not* recognise a command it has
already done, so whatever the law lets through twice is done twice and shows in its log.
"""

import asyncio
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

from engine.base.ids import START, Cursor
from engine.base.problem import Problem
from engine.base.tasks import TaskScope
from engine.base.wire import Accepted, Hello, Identity, Welcome, WireRecord, encode_message
from engine.ports import Clock, Transport
from engine.runtime.line import Pace
from engine.runtime.link import Link, LinkLost, LinkState
from engine.runtime.reception import Reception
from engine.runtime.session import Session
from engine.simulation.loop import run
from engine.simulation.network import SimNetwork, Weather
from transports.memory import MemoryHub, MemoryTransport

PACE = Pace()
CLUSTER = "test"
READ_BYTES_MAX = 4 << 20  # as a journal's reader does it


def virtual(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test in virtual time: beats of a second cost nothing."""

    @functools.wraps(test)
    def in_virtual_time(*args: Any, **named: Any) -> None:
        async def main() -> None:
            await test(*args, **named)

        run(main(), seed=named.get("seed", 0))

    return in_virtual_time


async def pass_ms(span_ms: float) -> None:
    """Let virtual time pass."""
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(span_ms / 1_000, passed.set)
    await passed.wait()


async def until(condition: Callable[[], bool], limit_ms: int = 60_000) -> None:
    """Wait in virtual time until a condition holds."""
    for _ in range(limit_ms):
        if condition():
            return
        await pass_ms(1)
    raise AssertionError("it did not come true")


class LoopClock:
    """Both clocks from the loop."""

    def now_ms(self) -> int:
        return self.monotonic_ms()

    def monotonic_ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1_000) + 1


class World:
    """As much of a World as links need."""

    def __init__(self, node: str, transport: Transport, seed: int = 0) -> None:
        self.clock: Clock = LoopClock()
        self._transport = transport
        self._random = Random(f"{node}/{seed}")

    def new_id(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def jitter(self, span_ms: int) -> int:
        return self._random.randrange(span_ms)

    def transport(self, url: str) -> tuple[Transport, str]:
        scheme, _, address = url.partition("://")
        assert scheme == self._transport.scheme
        return self._transport, address


class Diverged(LookupError):
    """The cursor is not ours."""


class Log:
    """A lower side's records: decided at once, published when told; a source for Reception."""

    def __init__(self, epoch: int = 1) -> None:
        self.epoch = epoch
        self.decided: list[WireRecord] = []
        self.published = 0
        self.first = 1  # lower indexes are trimmed
        self.pulled_max = 0
        self._waiting: list[asyncio.Future[None]] = []

    def append(self, events: bytes) -> int:
        self.decided.append(WireRecord(len(self.decided) + 1, self.epoch, events))
        return len(self.decided)

    def publish(self) -> None:
        self.published = len(self.decided)
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)

    async def published_up_to(self, index: int) -> None:
        while self.published < index:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future

    @property
    def tip(self) -> Cursor:
        return Cursor(self.published, self.epoch if self.published else 0)

    def reader(self, cursor: Cursor) -> "LogReader":
        if cursor.index > self.published:
            raise Diverged(f"cursor {cursor.index} is beyond {self.published}")
        return LogReader(self, cursor.index)


class LogReader:
    def __init__(self, log: Log, index: int) -> None:
        self._log = log
        self._index = index

    async def next(self, records_max: int) -> Sequence[WireRecord]:
        await self._log.published_up_to(self._index + 1)
        if self._index + 1 < self._log.first:
            raise Diverged(f"record {self._index + 1} is trimmed")
        records = self._log.decided[self._index : min(self._index + records_max, self._log.published)]
        while len(records) > 1 and sum(len(record.events) for record in records) > READ_BYTES_MAX:
            records.pop()
        self._index += len(records)
        self._log.pulled_max = max(self._log.pulled_max, self._index)
        return records


class Lower:
    """The listening node. `turn` decides everything in the mailbox; `show` makes it visible and answers."""

    def __init__(
        self, transport: Transport, *, url: str, node: str = "lower", log: Log | None = None, **options: Any
    ) -> None:
        self.log = log or Log()
        self.mailbox: deque[tuple[Session, bytes, Callable[[bytes], None]]] = deque()
        self.opened: list[Session] = []
        self.ended: list[tuple[Session, Problem]] = []
        self.acks: list[tuple[str, Cursor]] = []
        self.failures: list[BaseException] = []
        self.honours_sessions = True
        self.settles = options.pop("settles", True)
        self._answers: list[tuple[Callable[[bytes], None], int]] = []
        self._url = url
        self._news = asyncio.Event()
        self._scope = TaskScope(node, self.failures.append)
        options.setdefault("deliver", self.deliver)
        self.reception = Reception(
            World(node, transport),
            Identity(CLUSTER, "lower", node, 1),
            source=options.pop("source", self.log),
            settle=self.settle if self.settles else None,
            on_ack=lambda session, cursor: self.acks.append((session.id, cursor)),
            on_opened=self.opened.append,
            on_ended=lambda session, reason: self.ended.append((session, reason)),
            on_failure=self.failures.append,
            pace=options.pop("pace", PACE),
            **options,
        )

    async def open(self, *, automatic: bool = True, delay: Callable[[], float] = lambda: 0.0) -> "Lower":
        await self.reception.open(self._url)
        if automatic:
            self._scope.start(self._live(delay), "loop")
        return self

    def deliver(self, session: Session, number: int, raw: bytes, reply: Callable[[bytes], None]) -> None:
        self.mailbox.append((session, bytes(raw), reply))
        self._news.set()

    async def settle(self) -> Cursor:
        await self.log.published_up_to(len(self.log.decided))
        return self.log.tip

    def turn(self, count: int = 1_000_000) -> None:
        while self.mailbox and count:
            count -= 1
            session, command, reply = self.mailbox.popleft()
            if session.live or not self.honours_sessions:
                self._answers.append((reply, self.log.append(command)))

    def show(self) -> None:
        self.log.publish()
        answers, self._answers = self._answers, []
        for reply, index in answers:
            reply(encode_message(Accepted(index, 0)))

    async def _live(self, delay: Callable[[], float]) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await pass_ms(delay())
            self.turn()
            await pass_ms(delay())
            self.show()

    def done(self) -> list[bytes]:
        return [record.events for record in self.log.decided]

    async def close(self) -> None:
        await self.reception.close()
        await self._scope.close()


class Upper:
    """The dialling node: it owes commands until it has seen them in the lower side's log."""

    def __init__(self, transport: Transport, *, url: str, node: str = "upper", **options: Any) -> None:
        self.owed: dict[bytes, None] = {}
        self.records: list[WireRecord] = []
        self.durable = 0
        self.acknowledges = True
        self.delay_ms: Callable[[], float] = lambda: 0.0  # until records are durable
        self.trace: list[str] = []
        self.lost: list[Problem] = []
        self.refused: list[Problem] = []
        self.failures: list[BaseException] = []
        options.setdefault("cursor", self._cursor)
        options.setdefault("owed", self._owed)
        self.link = Link(
            World(node, transport, options.pop("seed", 0)),
            options.pop("urls", [url]),
            Identity(CLUSTER, "upper", node, options.pop("incarnation", 1)),
            peer_role=options.pop("peer_role", "lower"),
            peer_node=options.pop("peer_node", "lower"),
            on_records=self._on_records,
            on_coupled=self._on_coupled,
            on_lost=self._on_lost,
            on_refused=self.refused.append,
            on_failure=self.failures.append,
            pace=options.pop("pace", PACE),
            **options,
        )

    def _cursor(self) -> Cursor | None:
        return Cursor(self.durable, self.records[self.durable - 1].epoch) if self.durable else START

    def _owed(self) -> list[bytes] | None:
        self.trace.append("owed")
        return list(self.owed)

    def _on_records(self, records: list[WireRecord]) -> None:
        for record in records:
            assert record.index == len(self.records) + 1, "a record was handed over twice, or one was left out"
            self.records.append(record)
            self.owed.pop(record.events, None)
        self.trace.append(f"records to {records[-1].index}")
        delay_ms = self.delay_ms()
        if self.acknowledges and delay_ms:
            upto = len(self.records)
            asyncio.get_running_loop().call_later(delay_ms / 1_000, lambda: self.make_durable(upto))
        elif self.acknowledges:
            self.make_durable()

    def make_durable(self, upto: int | None = None) -> None:
        self.durable = len(self.records) if upto is None else max(upto, self.durable)
        self.trace.append(f"durable to {self.durable}")
        self.link.acknowledge(Cursor(self.durable, 1))

    def _on_coupled(self, welcome: Welcome) -> None:
        self.trace.append("coupled")

    def _on_lost(self, reason: Problem) -> None:
        self.trace.append("lost")
        self.lost.append(reason)

    def owe(self, command: bytes) -> bool:
        self.owed[command] = None
        return self.link.send(command)

    @property
    def coupled(self) -> bool:
        return self.link.state is LinkState.COUPLED

    async def close(self) -> None:
        await self.link.close()


class Wires:
    """The transports of one test, by scheme, with the ways to break them."""

    def __init__(self, scheme: str, weather: Weather | None = None, seed: int = 0) -> None:
        self.scheme = scheme
        self.hub = MemoryHub()
        self.network = SimNetwork(Random(seed), weather or Weather())

    def of(self, node: str) -> Transport:
        return MemoryTransport(self.hub, node) if self.scheme == "memory" else self.network.transport(node)

    def url(self, address: str) -> str:
        return f"{self.scheme}://{address}"


def hello(session: str = "s1", *, cursor: Cursor | None = None, **changes: Any) -> Hello:
    """A Hello as a node would send it."""
    fields: dict[str, Any] = {
        "cluster": CLUSTER, "role": "upper", "node": "upper", "incarnation": 1, "session": session, "feature": 1,
        "cursor": cursor,
    }  # fmt: skip
    return Hello(**(fields | changes))


def accepted(index: int) -> Accepted:
    return Accepted(index, 0)


async def pair(scheme: str, *, automatic: bool = True, **options: Any) -> tuple[Wires, Lower, Upper]:
    """A lower node that listens and an upper one that has not begun to dial."""
    wires = Wires(scheme)
    lower = await Lower(wires.of("lower"), url=wires.url("lower")).open(automatic=automatic)
    upper = Upper(wires.of("upper"), url=wires.url("lower"), **options)
    return wires, lower, upper


async def end(*nodes: Lower | Upper) -> None:
    """Close in order; nothing may have failed."""
    for node in nodes:
        await node.close()
        assert node.failures == []


async def outcome(asking: Awaitable[object]) -> object:
    """Await, and return the loss of the link instead of raising it."""
    try:
        return await asking
    except LinkLost as lost:
        return lost
