"""Session: one `run` on the embedded engine: it begins or resumes the order, follows it, and obeys Ctrl-C. Floor 11.

* Which orders are unfinished is what the journal said before the engine went on: such an order is followed to its end,
  also when it has ended by the time we look.
* What is shown comes from the controller's events alone; for a resumed order they are read from the journal's start,
  and everything before the engine was opened is past.
* What a command of ours does is told once the command is accepted, which means durable.
* It ends when the order has ended, or when nothing of it can go on by itself.
"""

import asyncio
import contextlib
import os
from collections.abc import Mapping

import msgspec

from engine.base.codec import Value
from engine.base.ids import START, Cursor, OrderId
from engine.base.problem import EngineClosed, Refused
from engine.base.tasks import TaskScope
from engine.cli.choice import agents_needed, bundles_needed, chosen_order
from engine.cli.exits import Ended, ExitCode
from engine.cli.face import Face
from engine.cli.lines import Screen
from engine.cli.log import Logging
from engine.cli.output import day_text
from engine.cli.presses import KILL, SUSPEND, Presses
from engine.cli.recall import RecallingEngine
from engine.cli.request import Request
from engine.cli.steps import StepTable, Strand
from engine.cli.values import complete_values
from engine.client.client import EventStream, Happening
from engine.journal.lock import holder_of
from engine.model.event import OrderCommandDropped
from engine.model.job import OnLost
from engine.model.order import Mark, Order, OrderState
from engine.model.workflow import Workflow
from engine.ports import StoreFault
from engine.rules.commands.cancel_order import CancelOrder
from engine.rules.commands.change_item import ChangeItem
from engine.rules.commands.release_attempt import ReleaseAttempt
from engine.rules.commands.resume_order import ResumeOrder
from engine.rules.commands.suspend_order import SuspendOrder
from engine.rules.operator_command import OperatorCommand
from engine.runtime.link import LinkLost
from engine.runtime.real_clock import RealClock

TICK_S = 0.25  # while nothing happens: how often a picture is drawn anew and the engine asked whether it lives
NEWS_MAX = 1_000  # events read ahead of the picture, and of the past until others may run

_CODES = {
    OrderState.FINISHED: ExitCode.FINISHED,
    OrderState.FAILED: ExitCode.FAILED,
    OrderState.BROKEN: ExitCode.FAILED,
    OrderState.CANCELLED: ExitCode.CANCELLED,
}


class Ending(msgspec.Struct, frozen=True):
    """How a run ended: the code, and all that is to be said of it."""

    code: ExitCode
    table: StepTable
    order: Order


class Session:
    """One run."""

    def __init__(
        self, request: Request, workflow: Workflow, given: Mapping[str, Value], face: Face, screen: Screen, log: Logging
    ) -> None:
        self._request = request
        self._workflow = workflow
        self._given = given
        self._face = face
        self._screen = screen
        self._log = log
        self._clock = RealClock()
        self._engine = RecallingEngine(request.state, agents=agents_needed(workflow, request))
        self._presses = Presses(self._wake, self._last_words)
        self._acted = 0  # how many presses have been acted on
        self._table: StepTable
        self._streams: list[EventStream] = []
        self._news: asyncio.Queue[Happening | None] = asyncio.Queue(NEWS_MAX)
        self._scope = TaskScope("run", self._failed)
        self._failure: BaseException | None = None
        self._seen = 0  # index of the last record shown
        self._owed = 0  # index of a record, such as a command of ours made: before it is seen nothing is judged
        self._past: set[tuple[OrderId, int]] = set()  # attempts that began before the engine was opened
        self._tried: set[tuple[OrderId, int]] = set()  # those of them that were released
        self._excused: set[tuple[OrderId, int]] = set()  # what a command of ours is about to set in motion

    async def run(self) -> Ending:
        """Run the order; raises Ended for what keeps it from running."""
        with self._presses:
            try:
                return await self._run()
            except StoreFault as fault:
                raise Ended(self._store_code(), str(fault)) from None
            except Refused as refused:
                raise Ended(ExitCode.USAGE, refused.problem.sentence) from None
            except (EngineClosed, LinkLost) as closed:
                reason = getattr(closed, "reason", str(closed)).rstrip(".")
                sentence = f"The engine ended: {reason}. `{self._request.again()}` goes on where it was."
                raise Ended(self._closed_code(), sentence) from None

    async def _run(self) -> Ending:
        state = self._request.state
        try:
            await self._engine.open()
            self._face.state = state
            self._log.file.open(state)
            client = self._engine.client
            left = self._engine.unfinished
            news = self._events(left.cursor)
            self._owed = left.cursor.index + 1  # the record with which this opening begins
            order = await chosen_order(client, self._workflow, self._request, left.roots)
            self._mention([one for one in left.roots if order is None or one.id != order.id])
            if order is None:
                await self._begin()
            else:
                await self._go_on(order)
            self._scope.start(self._read(news), "events")
            code = await self._follow()
            order = (await client.order(self._table.root.order)).order
            return Ending(code, self._table, order)
        finally:
            self._screen.end(self._clock.now_ms())
            await self._scope.close()
            for stream in self._streams:
                await stream.aclose()
            await self._engine.close()

    # --- the beginning ------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        complete_values(self._workflow, self._given)
        for item in bundles_needed(self._workflow):
            await self._engine.client.command(ChangeItem(item))
        try:
            await self._engine.deploy(self._workflow)
        except Refused as refused:
            raise Ended(ExitCode.DOCUMENT, f"{self._request.file}: {refused.problem.sentence}") from None
        if self._presses.count:
            raise Ended(ExitCode.INTERRUPTED, "Interrupted before an order began; nothing was run.")
        added = await self._engine.add_order(self._workflow, self._given, order_id=self._request.order)
        self._table = StepTable(OrderId(added.id), self._workflow)
        self._screen.begin(self._table, self._heading(added.id, self._workflow, "begins"))

    async def _go_on(self, order: Order) -> None:
        """Follow an order that is there already; one that has ended is only looked at."""
        name, _, version = order.workflow.partition("@")
        began_with = await self._engine.client.workflow(name, version)
        self._table = StepTable(order.id, began_with)
        await self._catch_up(order)
        if order.is_terminal:
            self._screen.note(f"Order {order.id} ended before, {order.state}; nothing was run.")
            return
        if began_with != self._workflow:
            self._screen.note(
                f"{self._request.file} has changed since order {order.id} began; it goes on with the version it began"
                f" with ({version}). --new begins another order with the changed file."
            )
        steps = [step for step in self._table.steps() if not step.is_open]
        is_ending = order.mark in (Mark.CANCEL, Mark.KILL)
        told = f"{len(steps)} {'step has' if len(steps) == 1 else 'steps have'} ended before"
        what = "is being cancelled" if is_ending else "goes on"
        self._screen.begin(self._table, self._heading(order.id, began_with, f"{what}; {told}"))
        failed = self._table.stays_failed()
        suspended = any(one.state is OrderState.SUSPENDED for one in self._table.strands.values())
        if not is_ending and (failed or suspended or order.mark is Mark.SUSPEND):
            self._excused.update((strand.order, strand.attempt) for strand in failed)
            await self._command(ResumeOrder(order.id))

    async def _catch_up(self, order: Order) -> None:
        """Apply all events up to where the engine was opened; where they were trimmed, take the state of that place."""
        left = self._engine.unfinished
        try:
            number = 0
            async for happening in self._events(START):
                if happening.id.index > left.cursor.index:
                    break
                self._table.apply(happening.event, happening.id.index)
                number += 1
                if number % NEWS_MAX == 0:
                    await asyncio.sleep(0)
        except Refused:
            self._table = StepTable(order.id, self._table.workflow)
            self._table.seed(left.family(order.id) or [order])
        self._past = {(step.order, step.attempt) for step in self._table.steps() if step.kind == "job"}

    def _heading(self, order: str, workflow: Workflow, what: str) -> str:
        at = day_text(self._clock.now_ms())
        where = f"state in {self._request.state}, process {os.getpid()}"
        return f"{at}  order {order} of workflow {workflow.name}, version {workflow.version}, {what} ({where})"

    def _mention(self, others: list[Order]) -> None:
        moving = [order.id for order in others if order.mark is not Mark.SUSPEND]
        if moving:
            names = ", ".join(moving[:3]) + (", …" if len(moving) > 3 else "")
            self._screen.note(f"Unfinished too in {self._request.state}, and going on meanwhile: {names}")

    # --- the following ------------------------------------------------------------------------------------------------

    async def _follow(self) -> ExitCode:
        """Show what happens until the order has ended or stands still."""
        while not self._table.root.is_terminal:
            happening = await self._next()
            while happening is not None:
                strand = self._apply(happening)
                if strand is not None:
                    self._screen.happened(strand, happening.event)
                happening = None if self._news.empty() else self._news.get_nowait()
            self._screen.draw(self._clock.now_ms())
            if self._face.is_cut:
                self._presses.ask()
            await self._release()
            await self._obey()
            if self._seen >= self._owed and self._table.is_still(self._excused):
                return self._still_code()
        return _CODES[self._table.root.state]

    def _still_code(self) -> ExitCode:
        if self._acted:
            return ExitCode.SUSPENDED
        return ExitCode.HELD if self._table.held() or self._table.stays_failed() else ExitCode.SUSPENDED

    async def _release(self) -> None:
        """Release what was lost before this run began; what is lost in it is for the next decision of a person."""
        if self._request.release is None:
            return
        for strand in self._table.held():
            key = (strand.order, strand.attempt)
            if key in self._past and key not in self._tried:
                self._tried.add(key)
                self._excused.add(key)
                if not await self._command(ReleaseAttempt(strand.order, OnLost(self._request.release))):
                    self._excused.discard(key)

    async def _obey(self) -> None:
        """Act on the presses of Ctrl-C that have come since."""
        order = self._table.root.order
        if self._presses.count >= SUSPEND and self._acted < SUSPEND:
            self._acted = SUSPEND
            if await self._command(SuspendOrder(order)) and not self._face.is_cut:
                self._screen.note(
                    "Suspending: running attempts are let run to their end. Ctrl-C again cancels and kills."
                )
        if self._presses.count >= KILL and self._acted < KILL:
            self._acted = KILL
            if await self._command(CancelOrder(order, kill=True)):
                self._screen.note("Cancelling: running attempts are killed. Ctrl-C again gives up waiting for them.")

    async def _command(self, command: OperatorCommand) -> bool:
        """Send a command and remember its record; one that is pointless by now is refused, which is no harm."""
        try:
            accepted = await self._engine.client.command(command)
        except Refused as refused:
            self._screen.note(refused.problem.sentence)
            return False
        self._owed = max(self._owed, accepted.index)
        return True

    def _apply(self, happening: Happening | None) -> Strand | None:
        if happening is None:
            return None
        self._seen = happening.id.index
        strand = self._table.apply(happening.event, happening.id.index)
        if strand is not None and isinstance(happening.event, OrderCommandDropped):
            self._excused.discard((strand.order, strand.attempt))
        return strand

    # --- news ---------------------------------------------------------------------------------------------------------

    def _events(self, after: Cursor) -> EventStream:
        stream = self._engine.events(after)
        self._streams.append(stream)
        return stream

    async def _read(self, stream: EventStream) -> None:
        async for happening in stream:
            await self._news.put(happening)

    async def _next(self) -> Happening | None:
        """Return the next event, or None after a tick or a press; raises what ended the stream or the engine."""
        if self._news.empty() and self._failure is not None:
            raise self._failure
        try:
            async with asyncio.timeout(TICK_S):
                return await self._news.get()
        except TimeoutError:
            await self._engine.client.status()  # a stream of a dead engine is silent; a query is refused
            return None

    def _wake(self) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self._news.put_nowait(None)

    def _failed(self, error: BaseException) -> None:
        self._failure = error
        self._wake()

    def _last_words(self) -> None:
        self._screen.end(self._clock.now_ms())
        self._face.err(f"Gave up waiting. `{self._request.again()}` tells what became of the order.")

    # --- codes --------------------------------------------------------------------------------------------------------

    def _store_code(self) -> ExitCode:
        with contextlib.suppress(OSError):
            if holder_of(str(self._request.state)) is not None:
                return ExitCode.IN_USE
        return ExitCode.STATE

    def _closed_code(self) -> ExitCode:
        failure = getattr(self._engine, "failure", None)
        return ExitCode.STATE if failure is None or isinstance(failure, StoreFault) else ExitCode.MISTAKE
