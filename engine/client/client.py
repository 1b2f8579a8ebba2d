"""Client: commands, queries and events of one controller, over a link. Floor 6.

* A command's reply is Accepted or a Problem; a link lost after it was sent leaves its outcome unknown (LinkLost), and
  since the caller chose the ids, sending it again is harmless. As long as there is no link, commands and queries wait.
* Events come over a link of their own with a cursor of their own, so that a slow reader of events delays no command.
* Everybody who waits is told EngineClosed when the client ends.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar, cast

import msgspec

from engine.base.ids import START, Cursor, EventId, OrderId
from engine.base.problem import EngineClosed, Problem, Refused
from engine.base.tasks import TaskScope
from engine.base.wire import Accepted, Identity, WireRecord
from engine.model import event as events
from engine.model import query as q
from engine.model.event import Event
from engine.model.language import Language
from engine.model.order import TERMINAL, Order
from engine.model.workflow import Workflow, WorkflowId
from engine.ports import World
from engine.rules.commands.add_order import AddOrder
from engine.rules.commands.deploy_workflow import WORKFLOW_BYTES_MAX, DeployWorkflow, WorkflowTooLarge
from engine.rules.operator_command import OperatorCommand
from engine.runtime.line import BODY_BYTES_MAX, pace_to
from engine.runtime.link import Link, LinkLost
from engine.runtime.turn import NotKeepable, TooLarge

RECORDS_WAITING_MAX = 20_000  # of one stream; beyond either bound nothing is acknowledged, so nothing more is sent
RECORDS_WAITING_BYTES_MAX = 32 << 20
COMMANDS_OPEN_MAX = 20_000  # of one client; the others wait
QUERIES_OPEN_MAX = 500
AGAIN_S = 0.02
RUNNING_MAX = 100_000  # orders of our own known to run; of others it is asked
UNSERVED = ("Diverged", "TooOld", "PeerBehind", "PeerDiverged")  # a journal does not serve our cursor

# What the encoder raises for values from people: lone surrogates, large integers, strange types, too deep nesting.
UNENCODABLE = (
    msgspec.MsgspecError,
    UnicodeError,
    OverflowError,
    NotImplementedError,
    TypeError,
    RecursionError,
)

Answer = TypeVar("Answer")

_ENDINGS = frozenset(
    kind.__name__ for kind in (events.OrderFinished, events.OrderFailed, events.OrderCancelled, events.OrderBroken)
)


class _Head(msgspec.Struct, array_like=True, gc=False):
    """How any event begins: its kind and, of an order's event, the order. The rest is skipped undecoded."""

    kind: str
    order: Any = None


_heads = msgspec.msgpack.Decoder(list[_Head]).decode


class Happening(msgspec.Struct, frozen=True):
    """An event with its address in the controller's journal."""

    id: EventId
    event: Event


class Client:
    """A handle on one controller."""

    def __init__(self, world: World, urls: tuple[str, ...], cluster: str, language: Language) -> None:
        self.language = language
        self._world = world
        self._urls = urls
        self._cluster = cluster
        self._closed: str | None = None
        self._closing: asyncio.Task[None] | None = None
        self._watchers: dict[OrderId, list[asyncio.Future[None]]] = {}
        self._watch_link: Link | None = None
        self._watched = START  # up to here ends of orders were noticed
        self._running: dict[str, None] = {}  # added by us while the watch is on, and no end was told: no need to ask
        self._accepted = START  # the last record that a command of ours is known to have made
        self._may_command = asyncio.Semaphore(COMMANDS_OPEN_MAX)
        self._may_ask = asyncio.Semaphore(QUERIES_OPEN_MAX)
        self._scope = TaskScope("client", self._failed)
        self.streams: dict[EventStream, None] = {}
        self._decode: dict[type, Callable[[bytes], Any]] = {
            kind: language.decoder(kind | Problem).decode
            for kind in (q.OrderView, q.OrderPage, q.WorkflowPage, q.NodeStatus)
        }
        self._decode_workflow = language.decoder(Workflow).decode
        self._link = self.make_link()

    def make_link(self, **options: Any) -> Link:
        """Return a further link to the same controller, not yet started."""
        identity = Identity(self._cluster, "client", self._world.new_id())
        return Link(
            self._world,
            self._urls,
            identity,
            peer_role="controller",
            on_failure=self._failed,
            pace=pace_to(self._urls),
            **options,
        )

    async def open(self) -> None:
        """Dial the controller and wait until commands can be sent."""
        self._link.start()
        await self._coupled(self._link)

    async def close(self, reason: str = "the client was closed") -> None:
        """Close all links; whoever waits gets EngineClosed. Safe to call twice."""
        self.end(reason)
        assert self._closing is not None
        await asyncio.wait([self._closing])
        await self._scope.close()

    def end(self, reason: str) -> None:
        """Tell whoever waits, or asks from now on, that the controller will not come back."""
        if self._closed is not None:
            return
        self._closed = reason
        for waiting in self._watchers.values():
            for future in waiting:
                if not future.done():
                    future.set_exception(EngineClosed(reason))
        self._watchers.clear()
        for stream in self.streams:
            stream.end(reason)
        self._closing = self._scope.start(self._close_links(), "close links")

    async def _close_links(self) -> None:
        await self._link.close()
        if self._watch_link is not None:
            await self._watch_link.close()
        for stream in list(self.streams):
            await stream.aclose()

    def _failed(self, error: BaseException) -> None:
        self.end(str(error) or type(error).__name__)

    # --- commands and queries -----------------------------------------------------------------------------------------

    async def command(self, command: OperatorCommand) -> Accepted:
        """Send a command as soon as there is a link.

        Raises Refused with the controller's Problem, EngineClosed, and LinkLost when the outcome is not known.
        """
        encoded = self._encoded(command)
        order = command.order if isinstance(command, AddOrder) and self._watch_link is not None else ""
        if order and len(self._running) < RUNNING_MAX:
            self._running[order] = None  # before it is sent: its end may be told before the answer is
        try:
            reply = await self._requested(encoded)
        except BaseException:
            self._running.pop(order, None)
            raise
        if reply.place < 0:  # it was there before, so its end may have been told before
            self._running.pop(order, None)
        return reply

    async def _requested(self, encoded: bytes) -> Accepted:
        async with self._may_command:
            while True:
                await self._coupled(self._link)
                peer = self._link.peer
                try:
                    reply = await self._link.request(encoded)
                    if not isinstance(reply, Problem) or reply.code != "SwitchingOver":
                        break
                    await asyncio.sleep(AGAIN_S)  # nothing was done; soon this link is lost, and the other node serves
                except LinkLost as lost:
                    self._check_open()
                    if lost.sent:
                        raise
                    await asyncio.sleep(AGAIN_S)  # the link is just going, or has all it can carry
        if isinstance(reply, Problem):
            raise Refused(reply)
        if peer is not None:  # as far as known; where the epoch has changed meanwhile the cursor is refused
            self._accepted = max(self._accepted, Cursor(reply.index, peer.tip.epoch))
        return reply

    def _encoded(self, message: Any) -> bytes:
        self._check_open()
        try:
            encoded: bytes = self.language.encode(message)
        except UNENCODABLE as error:
            raise Refused(NotKeepable(fault=str(error))) from None
        if len(encoded) > BODY_BYTES_MAX:
            if isinstance(message, DeployWorkflow):
                name = message.workflow.name
                raise Refused(
                    WorkflowTooLarge(workflow=name, size_bytes=len(encoded), size_bytes_max=WORKFLOW_BYTES_MAX)
                )
            raise Refused(TooLarge(size_bytes=len(encoded), size_bytes_max=BODY_BYTES_MAX))
        return encoded

    async def _coupled(self, link: Link) -> None:
        """Wait until a link is coupled; raises EngineClosed."""
        self._check_open()
        try:
            await link.until_coupled()
        except LinkLost:
            self._check_open()
            raise

    async def order(self, order: str) -> q.OrderView:
        """Return one order; raises Refused when there is none."""
        return await self._ask(q.GetOrder(OrderId(order)), q.OrderView)

    async def orders(self, query: q.ListOrders | None = None) -> q.OrderPage:
        """Return a page of orders (of all root orders if no query is given)."""
        return await self._ask(query or q.ListOrders(), q.OrderPage)

    async def workflows(self) -> tuple[WorkflowId, ...]:
        """Return the ids of all deployed versions."""
        page = await self._ask(q.ListWorkflows(), q.WorkflowPage)
        return page.workflows

    async def workflow(self, name: str, version: str | None = None) -> Workflow:
        """Return a deployed workflow; raises Refused when there is none."""
        body = await self._asked(q.GetWorkflow(name, version))
        problem = _problem_of(body)
        if problem is not None:
            raise Refused(problem)
        found: Workflow = self._decode_workflow(body)
        return found

    async def status(self) -> q.NodeStatus:
        """Return what the controller is and holds."""
        return await self._ask(q.GetStatus(), q.NodeStatus)

    async def _ask(self, query: q.AnyQuery, kind: type[Answer]) -> Answer:
        answer = self._decode[kind](await self._asked(query))
        if isinstance(answer, Problem):
            raise Refused(answer)
        return cast("Answer", answer)

    async def _asked(self, query: q.AnyQuery) -> bytes:
        """Ask, and ask again when the link was lost: a query changes nothing."""
        encoded = self._encoded(query)
        async with self._may_ask:
            while True:
                await self._coupled(self._link)
                try:
                    return await self._link.ask(encoded)
                except LinkLost:
                    self._check_open()

    def _check_open(self) -> None:
        if self._closed is not None:
            raise EngineClosed(self._closed)

    # --- events -------------------------------------------------------------------------------------------------------

    def events(self, after: Cursor | None = None) -> "EventStream":
        """Return the controller's events behind a cursor, as an async iterator.

        Without a cursor from now on: everything behind what this client was told so far.
        """
        self._check_open()
        stream = EventStream(self, self._latest() if after is None else after)
        self.streams[stream] = None
        return stream

    def _latest(self) -> Cursor:
        """Return how far the controller's journal is known to have come."""
        peer = self._link.peer
        return max(self._watched, self._accepted, START if peer is None else peer.tip)

    async def ended(self, order: str) -> Order:
        """Wait until an order has ended and return it as it is then; raises Refused when there is none."""
        self._watch()
        while True:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._watchers.setdefault(OrderId(order), []).append(future)
            try:
                # Looked at only once the watch is on: what ends before is seen here, what ends later is told.
                if order not in self._running:
                    await self._coupled(cast("Link", self._watch_link))
                    view = await self.order(order)
                    if view.order.state in TERMINAL:
                        return view.order
                await future
            finally:
                if future.done() and not future.cancelled():
                    future.exception()  # seen, even if we never came to wait for it
                waiting = self._watchers.get(OrderId(order), [])
                if future in waiting:
                    waiting.remove(future)
                    if not waiting:
                        del self._watchers[OrderId(order)]

    def _watch(self) -> None:
        """Follow the controller's events for those who wait for an order's end."""
        self._check_open()
        if self._watch_link is not None:
            return
        self._watched = self._latest()

        def on_records(records: list[WireRecord]) -> None:
            for record in records:
                for head in _heads(record.events):
                    if head.kind in _ENDINGS:
                        self._running.pop(head.order, None)
                        if head.order in self._watchers:
                            self._tell_end(head.order)
            self._watched = Cursor(records[-1].index, records[-1].epoch)
            link.acknowledge(self._watched)

        def on_lost(reason: Problem) -> None:
            if reason.code in UNSERVED:  # the journal does not reach back so far: whoever waits must look again
                # Not what was accepted: an owner of a pair may have gone on in another epoch within one session.
                self._accepted = self._watched = START if self._link.peer is None else self._link.peer.tip
                self._running.clear()
                for order in list(self._watchers):
                    self._tell_end(order)

        link = self._watch_link = self.make_link(cursor=lambda: self._watched, on_records=on_records, on_lost=on_lost)
        link.start()

    def _tell_end(self, order: OrderId) -> None:
        for future in self._watchers.pop(order, []):
            if not future.done():
                future.set_result(None)


class EventStream(AsyncIterator[Happening]):
    """Events in order, without gaps, each once. It ends by `aclose`, and with EngineClosed when the client does.

    A record is decoded when its first event is asked for, and what waits is bounded: a slow reader costs no memory.
    """

    def __init__(self, client: Client, after: Cursor) -> None:
        self.cursor = after  # behind the last record whose events were all given; begin there to go on
        self._client = client
        self._received = after
        self._acknowledged = after
        self._waiting: deque[WireRecord] = deque()
        self._waiting_bytes = 0
        self._events: list[Event] = []  # of the first record that waits
        self._place = 0
        self._news = asyncio.Event()
        self._failure: Exception | None = None
        self._closed = False
        self._link = client.make_link(cursor=lambda: self._received, on_records=self._take, on_lost=self._lost)
        self._link.start()

    def _take(self, records: list[WireRecord]) -> None:
        self._waiting.extend(records)
        self._waiting_bytes += sum([len(record.events) for record in records])
        self._received = Cursor(records[-1].index, records[-1].epoch)
        self._news.set()
        self._give_credit()

    def _give_credit(self) -> None:
        """Acknowledge everything received once few enough of it wait; in between the controller sends no more."""
        if (
            self._acknowledged != self._received
            and len(self._waiting) < RECORDS_WAITING_MAX
            and self._waiting_bytes < RECORDS_WAITING_BYTES_MAX
        ):
            self._acknowledged = self._received
            self._link.acknowledge(self._received)

    def _lost(self, reason: Problem) -> None:
        if reason.code in UNSERVED:
            self._failure = Refused(reason)
            self._news.set()

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> Happening:
        while not self._closed:
            while self._waiting:
                found = self._next()
                if found is not None:
                    return found
            if self._failure is not None:
                raise self._failure
            self._news.clear()
            await self._news.wait()
        raise self._failure or StopAsyncIteration

    def _next(self) -> Happening | None:
        """Give the next event of the first record; None when it holds none (but stream marks, say)."""
        record = self._waiting[0]
        if not self._events:
            self._events, self._place = self._client.language.decode_events(record.events), 0
        happening = None
        if self._events:
            happening = Happening(EventId(record.index, self._place), self._events[self._place])
            self._place += 1
        if self._place == len(self._events):
            self._events = []
            self._waiting.popleft()
            self._waiting_bytes -= len(record.events)
            self.cursor = Cursor(record.index, record.epoch)
            self._give_credit()
        return happening

    def end(self, reason: str) -> None:
        """Let the iteration end with EngineClosed, behind what was received."""
        self._failure = self._failure or EngineClosed(reason)
        self._news.set()

    async def aclose(self) -> None:
        """End the stream; an iteration under way ends too."""
        self._closed = True
        self._news.set()
        self._client.streams.pop(self, None)
        await self._link.close()


def _problem_of(body: bytes) -> Problem | None:
    try:
        return _decode_problem(body)
    except msgspec.MsgspecError:
        return None


_decode_problem: Callable[[bytes], Problem] = msgspec.msgpack.Decoder(Problem).decode
