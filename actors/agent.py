"""The agent: its loop, its listener for the controller; the director shares the loop. Floor 8.

* It goes on alone while the controller is away; its feed tells everything when the controller is back.
* It obeys one controller's cluster only.
"""

import contextlib
from collections.abc import Callable
from typing import Any

from engine.base.codec import encode
from engine.base.ids import Cursor
from engine.base.problem import EngineClosed, Problem, problem
from engine.base.wire import Hello, Identity, Raw
from engine.journal.feed import Diverged, Feed, TooOld
from engine.journal.retention import Hold
from engine.model.effect import LinksChanged, TellSubagent, WakeAt
from engine.model.language import UNREADABLE
from engine.ports import Replication, Store, World
from engine.rules.agent import AgentMachine, ControllerAcknowledged, ControllerSeen, stale_epoch
from engine.rules.agent_state import AgentState
from engine.runtime.mailbox import Work
from engine.runtime.node_loop import NodeLoop, open_node
from engine.runtime.reception import Reception, Respond
from engine.runtime.session import Session

NotAController = problem(
    "NotAController", "Node {node} of role {role} is no controller; an agent obeys its controller only."
)
OrderUnreadable = problem("OrderUnreadable", "A command of the controller can not be read: {fault}.")


class Agent:
    """The agent actor. `director` is joined to it by `boot`."""

    role = "agent"

    def __init__(
        self, world: World, machine: AgentMachine, cluster: str, on_closed: Callable[[BaseException], None]
    ) -> None:
        self.world = world
        self.machine = machine
        # The two nodes of a director pair speak for one agent, so its name is that of both.
        self.identity = Identity(cluster, self.role, machine.agent, world.incarnation)
        self.loop: NodeLoop[AgentState]
        self.feed: Feed
        self._on_closed = on_closed
        self._tell_subagent: Callable[[TellSubagent], None]
        self._relink: Callable[[LinksChanged], None]
        self.reception: Reception
        self._listening = False
        self._recovered = False
        self._controller_has = 0
        self._epoch_heard = 0  # the highest of a controller that was let in; it may not be decided yet

    async def recover(
        self, store: Store, feed: Feed, replication: Replication, epoch: int | None = None
    ) -> NodeLoop[AgentState]:
        """Recover the state; raises StoreFault. `epoch`: the one that begins, None: the next."""
        self.feed = feed
        self.loop = await open_node(
            machine=self.machine,
            store=store,
            feed=feed,
            replication=replication,
            world=self.world,
            perform=self._perform,
            on_closed=self._on_closed,
            epoch=epoch,
        )
        self._recovered = True
        return self.loop

    async def start(
        self,
        url: str,
        tell_subagent: Callable[[TellSubagent], None],
        relink: Callable[[LinksChanged], None],
    ) -> None:
        """Begin an activation and listen for the controller."""
        self._tell_subagent = tell_subagent
        self._relink = relink
        self._listening = True
        self.reception = Reception(
            self.world,
            self.identity,
            deliver=self._deliver,
            admit=self._admit,
            sole=("controller",),
            on_failure=self.loop.fail,
            on_ack=self._acknowledged,
            on_opened=self._opened,
            settle=self._settle,
            source=self.feed,
            refusals=(Diverged, TooOld),
        )
        self.loop.start()
        await self.reception.open(url)

    async def close(self, reason: str = "it was closed") -> None:
        """End: listener, loop, store; safe to call twice."""
        if self._listening:
            await self.reception.close()
        if self._recovered:
            await self.loop.close(reason)

    def _perform(self, effect: Any) -> None:
        if isinstance(effect, TellSubagent):
            self._tell_subagent(effect)
        elif isinstance(effect, WakeAt):
            self.loop.alarms.set(effect.order, effect.at_ms)
        elif isinstance(effect, LinksChanged):
            self._relink(effect)

    def _deliver(self, session: Session, _number: int, raw: Raw, reply: Respond) -> None:
        try:
            command = self.machine.language.decode_to_agent(raw)
        except UNREADABLE as error:
            reply(encode(OrderUnreadable(fault=str(error))))
            return

        def done(answer: Any) -> None:
            if not isinstance(answer, EngineClosed):
                reply(encode(answer))

        # Bounded by the session's credit; a refusal here would end an order for nothing but our being busy.
        if self.loop.closed_reason is None:
            self.loop.mailbox.put(Work(command, done=done, session=session), bounded=False)

    def holds(self) -> list[Hold]:
        """Return what the controller has read: the journal is kept from there on, within bounds."""
        return [Hold("controller", self._controller_has)]

    def _opened(self, session: Session) -> None:
        """Take the cursor of a new session as an acknowledgement: the last Ack of the one before may have been lost."""
        if session.cursor is not None:
            self._controller_has = session.cursor.index
            if self.loop.closed_reason is None and self.loop.state.detached:
                self.loop.spawn(self._confirm(session, session.cursor), "confirm the controller's cursor")

    def _acknowledged(self, _session: Session, cursor: Cursor) -> None:
        self._controller_has = cursor.index
        if self.loop.closed_reason is None and self.loop.state.detached:
            self.loop.mailbox.put(Work(ControllerAcknowledged(cursor.index)), bounded=False)

    async def _confirm(self, session: Session, cursor: Cursor) -> None:
        with contextlib.suppress(Diverged, TooOld, EngineClosed):
            await self.feed.reader(cursor).confirm()
            self._acknowledged(session, cursor)

    def _admit(self, hello: Hello) -> Problem | None:
        """Obey one controller: that of the highest epoch heard of; a higher one is durable before it is answered."""
        if hello.role != "controller":
            return NotAController(node=hello.node, role=hello.role)
        refused = stale_epoch(max(self.loop.state.controller_epoch, self._epoch_heard), hello.epoch)
        if refused is None:
            self._epoch_heard = hello.epoch
            if hello.epoch > self.loop.state.controller_epoch and self.loop.closed_reason is None:
                # Urgent, as `settle` is: else the answer could overtake it when much else waits.
                self.loop.post(Work(ControllerSeen(hello.node, hello.epoch)), urgent=True)
        return refused

    async def _settle(self) -> Cursor:
        await self.loop.settle()
        return self.feed.tip
