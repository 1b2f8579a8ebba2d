"""NodeLoop: the one durable loop of every node that has state. Floor 5.

* Three stages, each a task: decide (turns), keep (append, one fsync for many turns), show (wait for the standby, then
  feed, answers, effects). The next batch is decided while the one before is being written.
* Nothing becomes visible before it is durable and acknowledged; answers and reads are held back like effects.
* A failed append ends the node: its world is revoked and everyone who waits is told EngineClosed.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from engine.base.codec import encode
from engine.base.ids import Cursor
from engine.base.limits import BATCHES_IN_FLIGHT_MAX, COMMANDS_PER_TURN_MAX
from engine.base.log import logger
from engine.base.problem import EngineClosed
from engine.base.tasks import TaskScope
from engine.base.wire import Accepted
from engine.ports import Entry, Machine, Record, Replication, Store, World
from engine.runtime.alarms import Alarms
from engine.runtime.mailbox import Mailbox, Work
from engine.runtime.recovery import Recovered, recover
from engine.runtime.turn import Turns

S = TypeVar("S")
log = logger("node")


class Publisher(Protocol):
    """Where visible records go: the feed."""

    def publish(self, records: list[Record]) -> None: ...

    def close(self, reason: str) -> None: ...


class Batch:
    """The work of one pass of the decide stage.

    `visible`: answers and effects in the order of their turns, so that a read that says what is owed comes behind the
    effects of earlier turns, and before those of later ones.
    """

    __slots__ = ("entries", "index", "marks", "records", "visible")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.records: list[Record] = []
        self.visible: deque[tuple[Callable[[Any], None] | None, Any]] = deque()  # (answer to, answer), (None, effect)
        self.marks: dict[str, Cursor] = {}
        self.index = 0


class NodeLoop(Generic[S]):
    """A machine, its journal, and everything that makes the one the life of the other."""

    def __init__(
        self,
        *,
        machine: Machine[S, Any, Any, Any],
        store: Store,
        recovered: Recovered[S],
        feed: Publisher,
        replication: Replication,
        world: World,
        perform: Callable[[Any], None],
        on_closed: Callable[[BaseException], None],
        epoch: int,
    ) -> None:
        self.machine = machine
        self.world = world
        self.store = store
        self.shown_marks = recovered.marks  # where each stream stands, as far as it is durable and acknowledged
        self.alarms = Alarms(world.clock, self.wake)
        self.mailbox = Mailbox()
        self.closed_reason: str | None = None
        self.turns = Turns(machine, recovered.state, recovered.index, epoch)
        self.shown = recovered.index
        self.kept_bytes = 0  # of events, since the start
        self._feed = feed
        self._replication = replication
        self._perform = perform
        self._on_closed = on_closed
        self._scope = TaskScope(world.node, self._failed)
        self._to_decide: deque[Work] = deque()  # taken from the mailbox
        self._deciding: Batch | None = None
        self._to_keep: deque[Batch] = deque()
        self._keeping: list[Batch] = []  # being appended
        self._to_show: deque[Batch] = deque()  # the first may be waiting for the standby
        self._keep_news = asyncio.Event()
        self._show_news = asyncio.Event()
        self._in_flight = 0
        self._resting = False
        self._shown_all = asyncio.Event()

    @property
    def epoch(self) -> int:
        """The ownership in which this node acts; its next records carry it."""
        return self.turns.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.turns.epoch = epoch

    @property
    def state(self) -> S:
        """The state as decided so far; what it shows may not be durable, so only turns may look at it."""
        return self.turns.state

    def start(self) -> None:
        """Begin an activation: its first record, what recovery says is owed, and the three stages."""
        batch = Batch()
        turn = self.turns.begin(self.world.node, self.world.clock.now_ms())
        batch.visible.extend((None, one) for one in (*turn.effects, *self.machine.resume(self.turns.state)))
        self._add(batch, turn.entry)
        self._leave_over(turn.leftover)
        self._hand_on(batch)
        self._scope.start(self._decide(), "decide")
        self._scope.start(self._keep(), "keep")
        self._scope.start(self._show(), "show")

    def post(self, work: Work, *, urgent: bool = False) -> None:
        """Give the node work; raises MailboxFull, or EngineClosed when the node has ended."""
        if self.closed_reason is not None:
            raise EngineClosed(self.closed_reason)
        self.mailbox.put(work, urgent=urgent)

    def wake(self, keys: tuple[str, ...]) -> None:
        """Advance what the keys name, soon."""
        if self.closed_reason is None:
            self.mailbox.put(Work(keys=keys), bounded=False)

    async def settle(self) -> None:
        """Wait until everything decided so far is shown; raises EngineClosed."""
        shown: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def done(answer: Any) -> None:
            if not shown.done():
                shown.set_result(answer)

        self.post(Work(read=lambda _state, _now_ms: None, done=done), urgent=True)
        answer = await shown
        if isinstance(answer, EngineClosed):
            raise answer

    async def rest(self) -> None:
        """Decide nothing more, and return once everything decided is shown; what comes waits until `go_on`."""
        self._resting = True
        while self._in_flight:
            self._shown_all.clear()
            await self._shown_all.wait()

    def go_on(self) -> None:
        """End a rest."""
        self._resting = False
        self.mailbox.poke()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        """Run something beside the loop that ends with the node."""
        self._scope.start(work, name)

    def fail(self, error: BaseException) -> None:
        """End the node because a part of it failed."""
        self._failed(error)

    # --- decide -------------------------------------------------------------------------------------------------------

    async def _decide(self) -> None:
        while True:
            work = await self.mailbox.take(COMMANDS_PER_TURN_MAX, self._has_room)
            batch = Batch()
            now_ms = self.world.clock.now_ms()
            self._deciding, self._to_decide = batch, deque(work)
            while self._to_decide:
                self._take(self._to_decide[0], batch, now_ms)
                self._to_decide.popleft()
            self._deciding = None
            self._hand_on(batch)
            await asyncio.sleep(0)

    def _has_room(self) -> bool:
        return self._in_flight < BATCHES_IN_FLIGHT_MAX and not self._resting

    def _take(self, work: Work, batch: Batch, now_ms: int) -> None:
        if work.read is not None:
            answer: Any = work.read(self.turns.state, now_ms)
            if work.done is not None:
                batch.visible.append((work.done, answer))
            return
        if work.keys:
            turn = self.turns.advance(work.keys, now_ms)
        else:
            turn = self.turns.command(work.command, now_ms, _mark(work, batch))
        self._add(batch, turn.entry)
        self._leave_over(turn.leftover)
        if work.done is not None:
            place = -1 if turn.entry is None else 0
            batch.visible.append((work.done, turn.problem or Accepted(turn.index, place)))
        for effect in turn.effects:
            batch.visible.append((None, effect))

    def _add(self, batch: Batch, entry: Entry | None) -> None:
        if entry is not None:
            batch.entries.append(entry)
            batch.records.append(Record(entry.index, entry.epoch, entry.events, entry.marks, b""))

    def _leave_over(self, keys: list[str]) -> None:
        if keys:
            self.mailbox.put(Work(keys=tuple(keys)), bounded=False)

    def _hand_on(self, batch: Batch) -> None:
        batch.index = self.turns.index
        self._in_flight += 1
        self._to_keep.append(batch)
        self._keep_news.set()

    # --- keep ---------------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            while not self._to_keep:
                self._keep_news.clear()
                await self._keep_news.wait()
            self._keeping = list(self._to_keep)
            self._to_keep.clear()
            entries = [entry for batch in self._keeping for entry in batch.entries]
            if entries:
                self._replication.appending()
                await self.store.append(entries)
                self.kept_bytes += sum(len(entry.events) for entry in entries)
                self._replication.appended(entries)
            self._to_show.extend(self._keeping)
            self._keeping = []
            self._show_news.set()

    # --- show ---------------------------------------------------------------------------------------------------------

    async def _show(self) -> None:
        while True:
            while not self._to_show:
                self._show_news.clear()
                await self._show_news.wait()
            batch = self._to_show[0]
            await self._replication.acknowledged(batch.index)
            if not self._replication.may_act():
                await self._replication.acting()
            self.shown = batch.index
            self.shown_marks.update(batch.marks)
            if batch.records:
                self._feed.publish(batch.records)
            while batch.visible:
                if not self._replication.may_act():
                    await self._replication.acting()
                done, shown = batch.visible.popleft()
                (done or self._perform)(shown)
            self._to_show.popleft()
            self._in_flight -= 1
            if not self._in_flight:
                self._shown_all.set()
            if self._in_flight < BATCHES_IN_FLIGHT_MAX:
                self.mailbox.poke()

    # --- end ----------------------------------------------------------------------------------------------------------

    def _failed(self, error: BaseException) -> None:
        log.error("node ends", node=self.world.node, error=str(error), kind=type(error).__name__)
        if self._end(str(error) or type(error).__name__):
            self._on_closed(error)

    def _end(self, reason: str) -> bool:
        if self.closed_reason is not None:
            return False
        self.closed_reason = reason
        self.alarms.close()
        self.world.revoke(reason)
        self._feed.close(reason)
        batches = [*self._to_show, *self._keeping, *self._to_keep, *filter(None, [self._deciding])]
        waiting = [done for batch in batches for done, _ in batch.visible]
        for done in (*waiting, *(work.done for work in (*self._to_decide, *self.mailbox.drain()))):
            if done is not None:
                self._tell_end(done, reason)
        return True

    def _tell_end(self, done: Callable[[Any], None], reason: str) -> None:
        try:
            done(EngineClosed(reason))
        except Exception:  # one who can not be told must not keep the others waiting
            log.exception("an end could not be told", node=self.world.node)

    async def close(self, reason: str = "it was closed") -> None:
        """End the node: what is durable stays, whoever waits is told; the store is closed. Safe to call twice."""
        self._end(reason)
        await self._scope.close()
        await self.store.close()

    def statistics(self) -> dict[str, int]:
        """Return queue lengths and indexes, for metrics."""
        return {
            "mailbox": len(self.mailbox),
            "batches_in_flight": self._in_flight,
            "alarms": len(self.alarms),
            "index": self.turns.index,
            "shown": self.shown,
        }


def _mark(work: Work, batch: Batch) -> bytes:
    if work.mark is None:
        return b""
    stream, cursor = work.mark
    batch.marks[stream] = cursor
    return encode({stream: cursor})


async def open_node(
    *,
    machine: Machine[S, Any, Any, Any],
    store: Store,
    feed: Publisher,
    replication: Replication,
    world: World,
    perform: Callable[[Any], None],
    on_closed: Callable[[BaseException], None],
    epoch: int | None = None,
) -> NodeLoop[S]:
    """Recover a node's state from its store and return its loop, not yet started; raises StoreFault.

    `epoch`: of the activation that begins; None: the one behind the last (a node without a register raises it itself).
    """
    recovered = await recover(machine, store)
    return NodeLoop(
        machine=machine,
        store=store,
        recovered=recovered,
        feed=feed,
        replication=replication,
        world=world,
        perform=perform,
        on_closed=on_closed,
        epoch=recovered.epoch + 1 if epoch is None else epoch,
    )
