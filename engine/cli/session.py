"""Session: one `run` on the embedded engine: which order, how it is followed, what Ctrl-C does. Floor 11.

* What is shown comes from the controller's events alone; for a resumed order they are read from the journal's start,
  and everything before the present activation is past.
* It ends when the order has ended, or when nothing of it can go on by itself.
* Signals are taken here, in the role `run`, and given back at the end; the library never touches them.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping

import msgspec

from engine.base.codec import Value
from engine.base.ids import START, AgentId, BundleId, OrderId, SubagentId, is_name
from engine.base.problem import EngineClosed, Refused
from engine.base.tasks import TaskScope
from engine.cli.exits import Ended, ExitCode
from engine.cli.face import Face
from engine.cli.lines import Screen
from engine.cli.log import Logging
from engine.cli.output import day_text
from engine.cli.request import Request
from engine.cli.steps import StepTable
from engine.cli.values import complete_values
from engine.client.client import EventStream, Happening
from engine.embed import Engine
from engine.journal.lock import holder_of
from engine.model.event import AttemptAssigned, EpochBegan, OrderCommandDropped, OrderHeld
from engine.model.item import BundleItem
from engine.model.job import OnLost
from engine.model.order import LIVE, Mark, Order, OrderState
from engine.model.query import ListOrders
from engine.model.workflow import DEFAULT_AGENT, Workflow
from engine.ports import StoreFault
from engine.rules.commands.cancel_order import CancelOrder
from engine.rules.commands.change_item import ChangeItem
from engine.rules.commands.release_attempt import ReleaseAttempt
from engine.rules.commands.resume_order import ResumeOrder
from engine.rules.commands.suspend_order import SuspendOrder
from engine.rules.instructions.job import Execute
from engine.rules.statement import CONTROLLER, agents_of
from engine.runtime.link import LinkLost
from engine.runtime.real_clock import RealClock

TICK_S = 0.25  # how often a live picture is drawn anew and the engine is asked whether it lives
NEWS_MAX = 1_000  # events read ahead of the picture
AGENT_FOLDER = "agent-"

SUSPEND, KILL, LEAVE = 1, 2, 3  # what so many Ctrl-C mean


class Ending(msgspec.Struct, kw_only=True):
    """How a run ended, with all that is to be said of it."""

    code: ExitCode
    table: StepTable
    order: Order | None  # as it is now; None when it is gone
    workflow: Workflow
    state: str  # the directory, as a path to be shown


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
        self._engine: Engine
        self._table: StepTable
        self._stream: EventStream
        self._news: asyncio.Queue[Happening | None] = asyncio.Queue(NEWS_MAX)
        self._scope = TaskScope("run", self._failed)
        self._failure: BaseException | None = None
        self._presses = 0  # of Ctrl-C
        self._done = 0  # how many of them have been acted on
        self._past: set[tuple[OrderId, int]] = set()  # attempts that began before this activation
        self._released: set[tuple[OrderId, int]] = set()

    async def run(self) -> Ending:
        """Run the order; raises Ended for what keeps it from running."""
        with self._signals():
            try:
                return await self._run()
            except StoreFault as fault:
                raise Ended(self._store_code(), f"{fault}") from None
            except Refused as refused:
                raise Ended(ExitCode.USAGE, refused.problem.sentence) from None
            except (EngineClosed, LinkLost) as closed:
                again = f"Run `{self._request.again()}` to go on with the order."
                raise Ended(self._closed_code(), f"The engine ended: {_reason(closed)}. {again}") from None

    async def _run(self) -> Ending:
        request = self._request
        self._engine = Engine(request.state, agents=_agents(self._workflow, request))
        await self._engine.open()
        try:
            self._face.state = request.state
            self._log.file.open(request.state)
            self._interrupted()
            known = await self._known()
            if known is None:
                await self._begin()
            elif known.is_terminal:
                return await self._told_already(known)
            else:
                await self._go_on(known)
            code = await self._follow()
            self._screen.end(self._clock.now_ms())
            return await self._ending(code)
        finally:
            self._screen.end(self._clock.now_ms())
            await self._scope.close()
            if hasattr(self, "_stream"):
                await self._stream.aclose()
            await self._engine.close()

    # --- which order --------------------------------------------------------------------------------------------------

    async def _known(self) -> Order | None:
        """Return the order that is meant, None when a new one is to begin."""
        request = self._request
        unfinished = await self._unfinished()
        own = [order for order in unfinished if order.workflow.partition("@")[0] == self._workflow.name]
        found = await self._named(request.order) if request.order else (own[-1] if own else None)
        if request.new:
            if found is not None and request.order:
                raise Ended(ExitCode.USAGE, f"Order {found.id} exists already; give --new another id, or none.")
            found = None
        live = found is not None and not found.is_terminal
        if live and found is not None and request.words:
            sentence = f"Order {found.id} is unfinished and keeps the parameters it began with: go on with it without -p"
            raise Ended(ExitCode.USAGE, f"{sentence}, or add --new to begin another one.")
        if request.release and not live:
            sentence = f"No order of workflow {self._workflow.name} in {request.state} is unfinished"
            raise Ended(ExitCode.USAGE, f"{sentence}; there is nothing to release.")
        others = [order for order in unfinished if found is None or order.id != found.id]
        self._mention(others)
        return found

    async def _named(self, order_id: str) -> Order | None:
        try:
            order = (await self._engine.client.order(order_id)).order
        except Refused:
            return None
        name = order.workflow.partition("@")[0]
        if name != self._workflow.name or order.parent is not None:
            raise Ended(ExitCode.USAGE, f"Order {order_id} is one of workflow {name}; choose another id.")
        return order

    async def _unfinished(self) -> list[Order]:
        found: list[Order] = []
        after = None
        while True:
            page = await self._engine.client.orders(ListOrders(after, LIVE))
            found.extend(view.order for view in page.orders)
            if not page.more:
                return found
            after = page.orders[-1].order.id

    def _mention(self, others: list[Order]) -> None:
        moving = [order for order in others if order.mark is not Mark.SUSPEND]
        if moving:
            names = ", ".join(f"{order.id}" for order in moving[:3]) + (", …" if len(moving) > 3 else "")
            self._screen.note(f"Unfinished too in {self._request.state}, and going on meanwhile: {names}.")

    # --- a new one, or one that goes on -------------------------------------------------------------------------------

    async def _begin(self) -> None:
        complete_values(self._workflow, self._given)
        await self._add_bundles()
        try:
            await self._engine.deploy(self._workflow)
        except Refused as refused:
            raise Ended(ExitCode.DOCUMENT, f"{self._request.file}: {refused.problem.sentence}") from None
        self._stream = self._engine.events()
        order = await self._engine.add_order(self._workflow, self._given, id=self._request.order)
        self._table = StepTable(OrderId(order.id), self._workflow)
        self._head(order.id, self._workflow, "")
        self._screen.begin(self._table)
        self._scope.start(self._read(), "events")

    async def _go_on(self, order: Order) -> None:
        name, _, version = order.workflow.partition("@")
        began_with = await self._engine.client.workflow(name, version)
        self._table = StepTable(order.id, began_with)
        if began_with != self._workflow:
            self._screen.note(
                f"{self._request.file} has changed since order {order.id} began; it goes on with the version it began"
                f" with, {version}. (--new begins another order with the changed file.)"
            )
            self._workflow = began_with
        self._stream = self._engine.events(START)
        self._scope.start(self._read(), "events")
        await self._catch_up(order)
        self._head(order.id, began_with, f" goes on, with {_count(len(self._table.steps()), 'step')} behind it")
        self._screen.begin(self._table)
        strands = self._table.strands.values()
        if order.mark is Mark.SUSPEND or any(strand.state is OrderState.SUSPENDED for strand in strands) or self._failed_branches():
            with contextlib.suppress(Refused):  # NotSuspended: what looked so has been resumed by an earlier run
                await self._engine.client.command(ResumeOrder(order.id))

    async def _catch_up(self, order: Order) -> None:
        """Apply all events from before this activation; where the journal no longer has them, begin with the state."""
        epoch = (await self._engine.client.status()).counts["epoch"]
        try:
            while True:
                happening = await self._next()
                if happening is None:
                    continue
                if isinstance(happening.event, EpochBegan) and happening.event.epoch == epoch:
                    break
                self._table.apply(happening.event, happening.id.index)
        except Refused:
            self._failure = None
            await self._stream.aclose()
            self._stream = self._engine.events()
            self._scope.start(self._read(), "events")
            self._table.seed(await self._family(order))
        self._past = {(step.order, step.attempt) for step in self._table.steps() if step.kind == "job"}

    async def _family(self, order: Order) -> list[Order]:
        """Return an order and its branches, parents first."""
        found = {order.id: order}
        after = None
        while True:
            page = await self._engine.client.orders(ListOrders(after, roots_only=False))
            found.update((view.order.id, view.order) for view in page.orders if view.order.parent in found)
            if not page.more:
                return list(found.values())
            after = page.orders[-1].order.id

    async def _told_already(self, order: Order) -> Ending:
        """An order that was named has ended before: say how."""
        name, _, version = order.workflow.partition("@")
        self._workflow = await self._engine.client.workflow(name, version)
        self._table = StepTable(order.id, self._workflow)
        self._screen.note(f"Order {order.id} ended before, {order.state}; nothing was run.")
        self._stream = self._engine.events(START)
        self._scope.start(self._read(), "events")
        await self._catch_up(order)
        return await self._ending(_code_of(order))

    async def _add_bundles(self) -> None:
        """Give every bundle that the workflow names the one subagent there is of its agent here."""
        for _, step in self._workflow.instructions():
            if isinstance(step, Execute) and step.bundle:
                agent = AgentId(step.place(self._workflow))
                item = BundleItem(BundleId(step.bundle), agent, {SubagentId(f"subagent-{agent}"): 1})
                await self._engine.client.command(ChangeItem(item))

    def _head(self, order: str, workflow: Workflow, what: str) -> None:
        if not self._is_live():
            at = day_text(self._clock.now_ms())
            self._screen.head(f"{at}  order {order} of workflow {workflow.name}, version {workflow.version}{what}")
