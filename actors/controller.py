"""The controller: its loop, its listener for clients, its links to agents. Floor 8.

* Clients' commands and queries come in through the reception, answers and the feed go out through it.
* A link to each agent: its records become commands of ours, acknowledged once they are durable here; what is owed is
  computed inside a turn and sent when that turn is shown, so that nothing slips between the owed and the new.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from engine.base.codec import encode
from engine.base.ids import START, AgentId, Cursor
from engine.base.problem import EngineClosed, Problem, problem
from engine.base.register import AnyRegisterQuery, OwnershipNow, RegisterCounts, RegisterQuery, RegisterStatus
from engine.base.wire import Hello, Identity, Raw, WireRecord
from engine.journal.feed import Diverged, Feed, TooOld
from engine.model.command import AttachOrder, AttachWorkflow, ToAgent
from engine.model.effect import LinksChanged, TellAgent, WakeAt
from engine.model.language import UNREADABLE
from engine.model.query import AnyQuery, OrderPage
from engine.model.workflow import WorkflowId
from engine.ports import Replication, Store, World
from engine.rules.controller import AgentDown, AgentRefused, AgentReported, AgentUp, ControllerMachine
from engine.rules.controller_state import ControllerState
from engine.rules.register import PAIR_ROLE, RegisterAsked, owner_of
from engine.runtime.line import BODY_BYTES_MAX, pace_to
from engine.runtime.link import Link, LinkState
from engine.runtime.mailbox import MailboxFull, Work
from engine.runtime.node_loop import NodeLoop, open_node
from engine.runtime.reception import Reception, Respond
from engine.runtime.session import Session
from engine.runtime.turn import TooLarge

NotAClient = problem(
    "NotAClient",
    "Node {node} of role {role} is no client; a controller is dialled by clients, and by directors of pairs.",
)
RegisterOnly = problem("RegisterOnly", "Director {node} may ask this controller who owns its pair, and nothing else.")
CommandUnreadable = problem("CommandUnreadable", "The command can not be read: {fault}.")
AnswerTooLarge = problem(
    "AnswerTooLarge", "The answer takes {size_bytes} bytes; {size_bytes_max} is the most that a message holds."
)
SwitchingOver = problem(
    "SwitchingOver", "{node} is handing over to the other node of its pair; send the command again in a second."
)
Overloaded = problem("Overloaded", "The node has {length} commands before it; try again later.")


PAGE_BYTES_AIM = 1 << 20  # with the order that passes it a page is full


class NotAdopted(Exception):
    """A mistake of ours keeps what a peer reported from being journaled; it will report it again."""

    def __init__(self, reason: Problem) -> None:
        super().__init__(f"what a peer reported can not be adopted: {reason.sentence}")


class AgentLink:
    """The link to one agent, with the workflows it was sent in the present session."""

    def __init__(self, urls: tuple[str, ...]) -> None:
        self.urls = urls
        self.link: Link | None = None
        self.sent: dict[WorkflowId, None] = {}


class Controller:
    """The controller actor."""

    role = "controller"

    def __init__(
        self, world: World, machine: ControllerMachine, cluster: str, on_closed: Callable[[BaseException], None]
    ) -> None:
        self.world = world
        self.machine = machine
        self.identity = Identity(cluster, self.role, world.node, world.incarnation)
        self.agents: dict[AgentId, AgentLink] = {}
        self.is_draining = False  # it is about to hand over: commands are refused, for they would not be decided here
        self.on_stale: Callable[[int], None] = _ignore  # called with the higher epoch that an agent obeys
        self.loop: NodeLoop[ControllerState]
        self.feed: Feed
        self._on_closed = on_closed
        self._retired: list[Link] = []
        self._recovered = False
        self._encode = machine.language.encode
        self._decode_query = machine.language.decoder(AnyQuery | AnyRegisterQuery).decode
        self.reception = Reception(
            world,
            self.identity,
            deliver=self._deliver,
            ask=self._ask,
            admit=_admit,
            on_failure=self._failed,
            settle=self._settle,
            source=_LateFeed(lambda: self.feed),
            refusals=(Diverged, TooOld),
        )

    async def recover(self, store: Store, feed: Feed, replication: Replication, epoch: int | None = None) -> None:
        """Read the journal; nothing goes on yet. Raises StoreFault. `epoch`: the one that begins, None: the next."""
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

    async def start(self, url: str) -> None:
        """Begin an activation, listen for clients."""
        self.loop.start()
        await self.reception.open(url)

    async def close(self, reason: str = "it was closed") -> None:
        """End: links, listener, loop, store; safe to call twice."""
        for agent in self.agents.values():
            if agent.link is not None:
                await agent.link.close()
        for link in self._retired:
            await link.close()
        await self.reception.close()
        if self._recovered:
            await self.loop.close(reason)

    # --- clients ------------------------------------------------------------------------------------------------------

    def _deliver(self, session: Session, _number: int, raw: Raw, reply: Respond) -> None:
        if session.role == PAIR_ROLE:
            reply(encode(RegisterOnly(node=session.node)))
            return
        try:
            command = self.machine.language.decode_command(raw)
        except UNREADABLE as error:
            reply(encode(CommandUnreadable(fault=str(error))))
            return

        if self.is_draining:
            reply(encode(SwitchingOver(node=self.world.node)))
            return

        def done(answer: Any) -> None:
            if not isinstance(answer, EngineClosed):
                reply(encode(answer))

        try:
            self.loop.post(Work(command, done=done, session=session))
        except MailboxFull:
            reply(encode(Overloaded(length=len(self.loop.mailbox))))

    def _ask(self, session: Session, _number: int, raw: Raw, answer: Respond) -> None:
        try:
            query = self._decode_query(raw)
        except UNREADABLE as error:
            answer(self._encode(CommandUnreadable(fault=str(error))))
            return

        if isinstance(query, RegisterQuery):
            self._ask_register(session, query, answer)
            return
        if session.role == PAIR_ROLE:
            answer(self._encode(RegisterOnly(node=session.node)))
            return

        def read(_state: ControllerState, now_ms: int) -> bytes:
            return self._page(self.loop.turns.query(query, now_ms))

        def done(body: Any) -> None:
            if not isinstance(body, EngineClosed):
                answer(body)

        try:
            self.loop.post(Work(read=read, done=done, session=session))
        except MailboxFull:
            answer(self._encode(Overloaded(length=len(self.loop.mailbox))))

    def _ask_register(self, session: Session, query: Any, answer: Respond) -> None:
        """Change the register as asked, and answer with what it holds once everybody has that (ports.Register)."""

        def asked(outcome: Any) -> None:
            if isinstance(outcome, Problem):
                answer(encode(outcome))
            elif not isinstance(outcome, EngineClosed) and self.loop.closed_reason is None:
                read = lambda state, _: encode(OwnershipNow(owner_of(state, query)))
                self.loop.post(Work(read=read, done=answered), urgent=True)

        def answered(body: Any) -> None:
            if not isinstance(body, EngineClosed):
                answer(body)

        if isinstance(query, RegisterStatus):
            peers = tuple(f"{one.role}/{one.node}" for one in self.reception.sessions())
            answer(encode(RegisterCounts(self.world.node, self.reception.statistics(), peers)))
        elif self.loop.closed_reason is None:
            # Urgent: a takeover must not wait behind a crowd of orders.
            self.loop.post(Work(RegisterAsked(query, session.role, session.node), done=asked), urgent=True)

    def _page(self, page: Any) -> bytes:
        """Encode an answer: a page of orders is cut where it gets long, what fits into no message is refused."""
        if not isinstance(page, OrderPage):
            encoded = self._encode(page)
        else:
            views: list[Raw] = []
            size_bytes = 0
            for view in page.orders:
                if size_bytes >= PAGE_BYTES_AIM:
                    break
                views.append(Raw(self._encode(view)))
                size_bytes += len(views[-1])
            encoded = self._encode((type(page).__name__, views, page.more or len(views) < len(page.orders)))
        if len(encoded) > BODY_BYTES_MAX:
            return self._encode(AnswerTooLarge(size_bytes=len(encoded), size_bytes_max=BODY_BYTES_MAX))
        return encoded

    async def _settle(self) -> Cursor:
        await self.loop.settle()
        return self.feed.tip

    # --- agents -------------------------------------------------------------------------------------------------------

    def _perform(self, effect: Any) -> None:
        if isinstance(effect, TellAgent):
            self._tell(effect.agent, effect.command)
        elif isinstance(effect, WakeAt):
            self.loop.alarms.set(effect.order, effect.at_ms)
        elif isinstance(effect, LinksChanged):
            self._relink(effect.peers)

    def _tell(self, agent: AgentId, command: ToAgent) -> None:
        entry = self.agents.get(agent)
        if entry is None or entry.link is None or entry.link.state is not LinkState.COUPLED:
            return
        for one, encoded in self._sendable(entry, agent, [command]):
            entry.link.send(encoded, self._on_reply(agent, one))

    def _sendable(self, entry: AgentLink, agent: AgentId, commands: Iterable[ToAgent]) -> list[tuple[ToAgent, bytes]]:
        """Encode commands, a workflow before the first order that needs it; what fits into no message is refused."""
        found: list[tuple[ToAgent, bytes]] = []
        for one in (one for command in commands for one in self._with_workflow(entry, command)):
            encoded = self._encode(one)
            if len(encoded) <= BODY_BYTES_MAX:
                found.append((one, encoded))
            else:
                refused = TooLarge(size_bytes=len(encoded), size_bytes_max=BODY_BYTES_MAX)
                self._post(Work(AgentRefused(agent, one, refused)))
        return found

    def _with_workflow(self, entry: AgentLink, command: ToAgent) -> list[ToAgent]:
        """Put the workflow before the first order that needs it in a session."""
        if not isinstance(command, AttachOrder) or command.order.workflow in entry.sent:
            return [command]
        entry.sent[command.order.workflow] = None
        return [AttachWorkflow(self.loop.state.workflows[command.order.workflow]), command]

    def _on_reply(self, agent: AgentId, command: ToAgent) -> Callable[[Any], None]:
        def on_reply(reply: Any) -> None:
            if isinstance(reply, Problem):
                self._post(Work(AgentRefused(agent, command, reply)))

        return on_reply

    def _relink(self, peers: Mapping[str, tuple[str, ...]]) -> None:
        wanted = {AgentId(agent): urls for agent, urls in peers.items()}
        for agent in [one for one, entry in self.agents.items() if wanted.get(one) != entry.urls]:
            link = self.agents.pop(agent).link
            if link is not None:
                self._retired.append(link)
                self.loop.spawn(self._retire(link), f"close link to {agent}")
        for agent, urls in wanted.items():
            if agent not in self.agents:
                self._open_link(agent, urls)

    async def _retire(self, link: Link) -> None:
        await link.close()
        self._retired.remove(link)

    def _open_link(self, agent: AgentId, urls: tuple[str, ...]) -> None:
        entry = self.agents[agent] = AgentLink(urls)
        stream = f"agent {agent}"

        def cursor() -> Cursor:
            return self.loop.shown_marks.get(stream, START)

        def on_records(records: list[WireRecord]) -> None:
            last = Cursor(records[-1].index, records[-1].epoch)
            command = AgentReported(agent, tuple(record.events for record in records))
            self._post(Work(command, mark=(stream, last), done=lambda answer: self._acknowledge(link, last, answer)))

        def owed() -> None:
            session = link.session
            entry.sent = {}
            self._post(Work(AgentUp(agent, 0 if link.peer is None else link.peer.incarnation)))
            self._post(
                Work(
                    read=lambda state, _: self.machine.owed_to_agent(state, agent),
                    done=lambda commands: self._couple(entry, agent, link, session, commands),
                )
            )

        def on_lost(reason: Problem) -> None:
            if reason.code == "StaleEpoch":
                known = reason.arguments.get("known")
                self.on_stale(known if isinstance(known, int) else 0)
            self._post(Work(AgentDown(agent, reason.sentence)))

        link = entry.link = Link(
            self.world,
            urls,
            self.identity,
            peer_role="agent",
            peer_node=agent,
            on_failure=self._failed,
            cursor=cursor,
            epoch=lambda: self.loop.epoch,
            owed=owed,
            on_records=on_records,
            on_lost=on_lost,
            on_refused=lambda refused: None,
            pace=pace_to(urls),
        )
        link.start()

    def _acknowledge(self, link: Link, cursor: Cursor, answer: Any) -> None:
        """Tell the agent what is durable here; when the node has ended instead, nothing is known to be."""
        if isinstance(answer, Problem):
            self.loop.fail(NotAdopted(answer))  # to acknowledge would be to lose the agent's events without a word
        elif not isinstance(answer, EngineClosed):
            link.acknowledge(cursor)

    def _couple(self, entry: AgentLink, agent: AgentId, link: Link, session: str, commands: Any) -> None:
        if isinstance(commands, EngineClosed) or session != link.session:
            return
        if link.couple(session, ()):  # and then one by one, for who owes a command wants to hear of its refusal
            for one, encoded in self._sendable(entry, agent, commands):
                link.send(encoded, self._on_reply(agent, one))

    def _post(self, work: Work) -> None:
        """Post what must not be lost: when the node has ended there is nobody to tell, and nothing to lose."""
        if self.loop.closed_reason is None:
            self.loop.mailbox.put(work, bounded=False)

    def _failed(self, error: BaseException) -> None:
        self.loop.fail(error)


class _LateFeed:
    """The feed as a record source, looked up when it is used (it is there once the node has started)."""

    def __init__(self, feed: Callable[[], Feed]) -> None:
        self._feed = feed

    @property
    def tip(self) -> Cursor:
        return self._feed().tip

    def reader(self, cursor: Cursor) -> Any:
        return self._feed().reader(cursor)


def _admit(hello: Hello) -> Problem | None:
    if hello.role == PAIR_ROLE and hello.cursor is not None:  # it would be sent our whole journal
        return RegisterOnly(node=hello.node)
    return None if hello.role in ("client", PAIR_ROLE) else NotAClient(node=hello.node, role=hello.role)


def _ignore(_epoch: int) -> None:
    pass
