"""Client: commands, queries and events of one controller, over a link. Floor 6.

* A command's reply is Accepted or a Problem; a lost link leaves its outcome unknown (LinkLost), and since the caller
  chose the ids, sending it again is harmless.
* Events come over a link of their own with a cursor of their own, so that a slow reader of events delays no command.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from engine.base.ids import Cursor, EventId, OrderId
from engine.base.problem import EngineClosed, Problem, Refused
from engine.base.wire import Accepted, Identity, WireRecord
from engine.model import event as events
from engine.model import query as q
from engine.model.event import Event
from engine.model.language import Language
from engine.model.order import TERMINAL, Order, OrderState
from engine.model.workflow import Workflow, WorkflowId
from engine.ports import World
from engine.rules.operator_command import OperatorCommand
from engine.runtime.link import Link, LinkLost

EVENTS_WAITING_MAX = 100_000  # of one reader; beyond it the link is not read until some are taken

_ENDING = (events.OrderFinished, events.OrderFailed, events.OrderCancelled, events.OrderBroken)


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
        self._watchers: dict[OrderId, list[asyncio.Future[OrderState]]] = {}
        self._watch_link: Link | None = None
        self._watch_starting: asyncio.Task[None] | None = None
        self.streams: dict[EventStream, None] = {}
        self._decode = {
            kind: language.decoder(kind | Problem).decode
            for kind in (q.OrderView, q.OrderPage, q.WorkflowPage, q.NodeStatus)
        }
        self._decode_workflow = language.decoder(Workflow).decode
        self._link = self.make_link()

    def make_link(self, **options: Any) -> Link:
        """Return a further link to the same controller, not yet started."""
        identity = Identity(self._cluster, "client", self._world.new_id())
        return Link(self._world, self._urls, identity, peer_role="controller", on_failure=self._failed, **options)

    async def open(self) -> None:
        """Dial the controller and wait until commands can be sent."""
        self._link.start()
        await self._link.until_coupled()

    async def close(self, reason: str = "the client was closed") -> None:
        """Close all links; whoever waits gets EngineClosed. Safe to call twice."""
        self.end(reason)
        await self._link.close()
        if self._watch_link is not None:
            await self._watch_link.close()
        for stream in list(self.streams):
            await stream.aclose()

    def end(self, reason: str) -> None:
        """Tell whoever waits that the controller will not come back."""
        if self._closed is None:
            self._closed = reason
        for waiting in self._watchers.values():
            for future in waiting:
                if not future.done():
                    future.set_exception(EngineClosed(reason))
        self._watchers.clear()

    def _failed(self, error: BaseException) -> None:
        self.end(str(error) or type(error).__name__)

    # --- commands and queries -----------------------------------------------------------------------------------------

    async def command(self, command: OperatorCommand) -> Accepted:
        """Send a command; raises Refused with the controller's Problem, LinkLost, or EngineClosed."""
        self._check_open()
        try:
            encoded = self.language.encode(command)
        except (msgspec.MsgspecError, UnicodeError, OverflowError, NotImplementedError, TypeError) as error:
            raise Refused(Problem("NotKeepable", f"The command can not be kept: {error}.")) from None
        reply = await self._link.request(encoded)
        if isinstance(reply, Problem):
            raise Refused(reply)
        return reply

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
        self._check_open()
        body = await self._link.ask(self.language.encode(q.GetWorkflow(name, version)))
        problem = _problem_of(body)
        if problem is not None:
            raise Refused(problem)
        found: Workflow = self._decode_workflow(body)
        return found

    async def status(self) -> q.NodeStatus:
        """Return what the controller is and holds."""
        return await self._ask(q.GetStatus(), q.NodeStatus)

    async def _ask(self, query: q.AnyQuery, kind: type[Any]) -> Any:
        self._check_open()
        answer = self._decode[kind](await self._link.ask(self.language.encode(query)))
        if isinstance(answer, Problem):
            raise Refused(answer)
        return answer

    def _check_open(self) -> None:
        if self._closed is not None:
            raise EngineClosed(self._closed)

    # --- events -------------------------------------------------------------------------------------------------------

    def events(self, after: Cursor | None = None) -> "EventStream":
        """Return the controller's events behind a cursor (none given: from now on), as an async iterator."""
        self._check_open()
        stream = EventStream(self, self._tip() if after is None else after)
        self.streams[stream] = None
        return stream

    def _tip(self) -> Cursor:
        peer = self._link.peer
        if peer is None:
            raise LinkLost(Problem("NotCoupled", "the link to the controller is not open"), sent=False)
        return peer.tip

    async def ended(self, order: str) -> Order:
        """Wait until an order has ended and return it as it is then; raises Refused when there is none."""
        await self._watch()
        future: asyncio.Future[OrderState] = asyncio.get_running_loop().create_future()
        self._watchers.setdefault(OrderId(order), []).append(future)
        try:
            view = await self.order(order)
            if view.order.state in TERMINAL:
                return view.order
            await future
            return (await self.order(order)).order
        finally:
            waiting = self._watchers.get(OrderId(order), [])
            if future in waiting:
                waiting.remove(future)
                if not waiting:
                    self._watchers.pop(OrderId(order), None)

    async def _watch(self) -> None:
        """Follow the controller's events for those who wait for an order's end; begun before their first look."""
        self._check_open()
        if self._watch_link is None:
            seen = self._tip()

            def on_records(records: list[WireRecord]) -> None:
                nonlocal seen
                for record in records:
                    for event in self.language.decode_events(record.events):
                        if isinstance(event, _ENDING) and event.order in self._watchers:
                            self._tell_end(event.order)
                seen = Cursor(records[-1].index, records[-1].epoch)
                link.acknowledge(seen)

            link = self._watch_link = self.make_link(cursor=lambda: seen, on_records=on_records)
            link.start()
        await self._watch_link.until_coupled()

    def _tell_end(self, order: OrderId) -> None:
        for future in self._watchers.pop(order, []):
            if not future.done():
                future.set_result(OrderState.FINISHED)


class EventStream(AsyncIterator[Happening]):
    """Events in order, without gaps, each once; ends with EngineClosed when the client does."""

    def __init__(self, client: Client, after: Cursor) -> None:
        self._client = client
        self._after = after
        self._waiting: deque[tuple[WireRecord, list[Event]]] = deque()
        self._place = 0
        self._news = asyncio.Event()
        self._failure: Problem | None = None
        self._closed = False
        self._link = client.make_link(cursor=self._cursor, on_records=self._take, on_lost=self._lost)
        self._link.start()

    def _cursor(self) -> Cursor:
        return self._after

    def _take(self, records: list[WireRecord]) -> None:
        for record in records:
            self._waiting.append((record, self._client.language.decode_events(record.events)))
        self._after = Cursor(records[-1].index, records[-1].epoch)
        self._news.set()
        self._give_credit()

    def _give_credit(self) -> None:
        if len(self._waiting) < EVENTS_WAITING_MAX:
            self._link.acknowledge(self._after)

    def _lost(self, problem: Problem) -> None:
        if problem.code in ("Diverged", "TooOld"):
            self._failure = problem
            self._news.set()

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> Happening:
        while True:
            while self._waiting:
                record, found = self._waiting[0]
                if self._place < len(found):
                    self._place += 1
                    return Happening(EventId(record.index, self._place - 1), found[self._place - 1])
                self._waiting.popleft()
                self._place = 0
                self._give_credit()
            if self._failure is not None:
                raise Refused(self._failure)
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()

    async def aclose(self) -> None:
        """End the stream; an iteration under way ends too."""
        if not self._closed:
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
