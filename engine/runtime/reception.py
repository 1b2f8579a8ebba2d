"""Reception: the listening side of links: handshakes, one session per node, commands in, records out. Floor 5.

* Nothing is done for a stranger but one Hello of bounded size within the handshake's time.
* One session per (role, node). A new Hello first makes the older session's undelivered commands void (`live`), then
  everything decided before is waited for (`settle`), and only then the tip is read and told. So what the dialling side
  adopts before it computes what it owes contains every command of older sessions that will ever take effect.
* An earlier incarnation of a node never replaces a later one.
* Bounded: sessions, handshakes under way, commands and queries unanswered, records unacknowledged, bytes of each.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from engine.base.ids import NAME_LENGTH_MAX, START, Cursor
from engine.base.problem import EngineClosed, Problem, problem
from engine.base.tasks import TaskScope
from engine.base.wire import (
    FEATURE_LEVEL,
    Ack,
    AnyMessage,
    Ask,
    Commands,
    Goodbye,
    Hello,
    Identity,
    Post,
    Raw,
    Welcome,
    encode_message,
)
from engine.ports import Connection, Listener
from engine.runtime.line import (
    FEATURE_LEVEL_MIN,
    PACE,
    FeatureTooOld,
    HandshakeTimedOut,
    Line,
    LineEnded,
    LinkWorld,
    MessageMalformed,
    Pace,
)
from engine.runtime.session import RecordReader, RecordSource, Session

SESSIONS_MAX = 10_000
HANDSHAKES_MAX = 10_000  # connections that have not shown who they are; more are closed at once
PEERS_KNOWN_MAX = 20_000  # nodes whose highest incarnation is remembered; the one heard longest ago is forgotten

NotMine = problem("NotMine", "This node belongs to cluster {mine}, not {asked}; correct the address or the cluster.")
NamesMissing = problem("NamesMissing", "A Hello names role, node and session, each with 1 to {most} characters.")
StaleIncarnation = problem(
    "StaleIncarnation", "Node {node} was here as incarnation {known}; {found} is an earlier one."
)
Superseded = problem(
    "Superseded", "Node {node} opened a newer session; if that happens again and again, two nodes have one name."
)
TooManySessions = problem(
    "TooManySessions", "There are {limit} sessions open, which is the most; close some, or try again later."
)
ReceptionClosing = problem("ReceptionClosing", "This node is closing.")
NoQueries = problem("NoQueries", "This node answers no queries.")

Admit = Callable[[Hello], Problem | None]
Respond = Callable[[bytes], None]
Deliver = Callable[[Session, int, Raw, Respond], Awaitable[None] | None]
Answering = Callable[[Session, int, Raw, Respond], None]


def _admit_all(_: Hello) -> Problem | None:
    return None


def _no_queries(_session: Session, _number: int, _query: Raw, answer: Respond) -> None:
    answer(encode_message(NoQueries()))


def _ignore(*_: object) -> None:
    pass


class Reception:
    """Listens for links and holds their sessions."""

    def __init__(
        self,
        world: LinkWorld,
        identity: Identity,
        *,
        deliver: Deliver,
        on_failure: Callable[[BaseException], None],
        admit: Admit = _admit_all,
        ask: Answering = _no_queries,
        source: RecordSource | None = None,
        settle: Callable[[], Awaitable[Cursor]] | None = None,
        refusals: tuple[type[Exception], ...] = (LookupError,),
        on_ack: Callable[[Session, Cursor], None] = _ignore,
        on_opened: Callable[[Session], None] = _ignore,
        on_ended: Callable[[Session, Problem], None] = _ignore,
        on_post: Callable[[Session, Raw], None] | None = None,
        sole: tuple[str, ...] = (),
        pace: Pace = PACE,
    ) -> None:
        """Prepare; `open` listens.

        `deliver(session, number, command, reply)`: takes a command into the mailbox; `reply` is called once with the
        encoded Accepted or Problem. It may return an awaitable (the mailbox is full): this session is not read until it
        is done. Whoever decides the command first looks at `session.live`.
        `settle`: returns the tip once everything decided before the call is published; without it the source's tip is
        taken as it is, which is right only where deciding and publishing are one step.
        `on_post`: takes messages outside of the streams; without it they are malformed.
        `sole`: roles of which only one node is obeyed at a time: the session of another of them replaces the older.
        `refusals`: exceptions by which the source says that a cursor cannot be served (Diverged, TooOld).
        """
        self.identity = identity
        self._world = world
        self._deliver = deliver
        self._on_failure = on_failure
        self._admit = admit
        self._ask = ask
        self._source = source
        self._settle = settle
        self._refusals = refusals
        self._on_ack = on_ack
        self._on_opened = on_opened
        self._on_ended = on_ended
        self._on_post = on_post
        self._sole = sole
        self._pace = pace
        self._listeners: list[Listener] = []
        self._sessions: dict[tuple[str, str], Session] = {}
        self._incarnations: dict[tuple[str, str], int] = {}
        self._lines: dict[Line, None] = {}
        self._handshakes = 0
        self._closing = False
        self._scope = TaskScope(f"reception of {identity.node}", on_failure)
        self._counts = dict.fromkeys(
            ("opened", "refused", "timed_out", "superseded", "ended", "malformed", "commands", "queries", "void"), 0
        )

    # --- what the owner calls

    async def open(self, url: str) -> Listener:
        """Listen at a url; may be called for several."""
        transport, address = self._world.transport(url)
        listener = await transport.listen(address, self._accept)
        self._listeners.append(listener)
        return listener

    def sessions(self) -> list[Session]:
        """The sessions that are connected, oldest first."""
        return [session for session in self._sessions.values() if session.connected]

    async def close(self) -> None:
        """Say goodbye to everyone and close; commands not yet decided become void. Safe to call twice."""
        self._closing = True
        for session in self._sessions.values():
            session.live = False
        closing = ReceptionClosing()
        lines = list(self._lines)
        for line in lines:
            line.finish(closing, encode_message(Goodbye(closing)))
        for line in lines:
            await line.finished()
        for listener in self._listeners:
            await listener.close()
        await self._scope.close()

    def statistics(self) -> dict[str, int]:
        """Counts since the start, and the sessions and handshakes of now."""
        return {**self._counts, "sessions": len(self.sessions()), "handshakes": self._handshakes}

    # --- one connection

    async def _accept(self, connection: Connection) -> None:
        if self._closing or self._handshakes >= HANDSHAKES_MAX:
            self._counts["refused"] += 1
            return
        try:
            await self._converse(connection)
        except EngineClosed:
            pass  # our World is gone
        except Exception as error:  # noqa: BLE001 - a mistake of ours, in a callback perhaps: the owner is told
            self._on_failure(error)

    async def _converse(self, connection: Connection) -> None:
        outlet = _Outlet()
        line = Line(
            connection, self._pace, self._world.clock, pull=outlet.pull, pull_bulk=outlet.pull_answer, echo=True
        )
        self._lines[line] = None
        try:
            opened = await self._handshake(line, outlet)
            if opened is not None:
                await self._hold(*opened)
        except LineEnded as ended:
            # A handshake that failed: the reason is told where there is somebody to tell.
            self._counts["malformed" if ended.problem.code == "MessageMalformed" else "refused"] += 1
            line.finish(ended.problem, encode_message(Goodbye(ended.problem)))
        finally:
            try:
                await line.close()
            finally:
                self._lines.pop(line, None)

    async def _handshake(
        self, line: Line, outlet: "_Outlet"
    ) -> tuple[Session, RecordReader | None, list[AnyMessage]] | None:
        limit_ms = self._pace.handshake_ms_max
        self._handshakes += 1
        session: Session | None = None
        try:
            async with asyncio.timeout(limit_ms / 1_000):
                messages: list[AnyMessage] = []
                while not messages:
                    messages = await line.receive()
                hello = messages.pop(0)
                if not isinstance(hello, Hello):
                    raise LineEnded(MessageMalformed(reason=f"{type(hello).__name__} where Hello was due"))
                session = outlet.session = self._register(hello, line)
                tip = await self._tip()
                reader = await self._reader(hello)
            if line.fault is not None:
                raise LineEnded(line.fault)  # a newer session came in between
        except TimeoutError:
            self._counts["timed_out"] += 1
            self._forget(session)
            raise LineEnded(HandshakeTimedOut(peer=line.peer, limit_ms=limit_ms)) from None
        except BaseException:
            self._forget(session)
            raise
        finally:
            self._handshakes -= 1
        me = self.identity
        welcome = Welcome(me.cluster, me.role, me.node, me.incarnation, session.id, FEATURE_LEVEL, tip)
        session.post(encode_message(welcome))
        return session, reader, messages

    def _register(self, hello: Hello, line: Line) -> Session:
        """Take a Hello's session in place of the node's older one; raises LineEnded with the refusal."""
        if hello.cluster != self.identity.cluster:
            raise LineEnded(NotMine(mine=self.identity.cluster, asked=hello.cluster[:NAME_LENGTH_MAX]))
        if not all(0 < len(text) <= NAME_LENGTH_MAX for text in (hello.role, hello.node, hello.session)):
            raise LineEnded(NamesMissing(most=NAME_LENGTH_MAX))
        if hello.feature < FEATURE_LEVEL_MIN:
            raise LineEnded(FeatureTooOld(peer=hello.node, level=hello.feature, lowest=FEATURE_LEVEL_MIN))
        speaker = (hello.role, hello.node)
        key = self._key(hello.role, hello.node)
        known = self._incarnations.get(speaker, hello.incarnation)
        if hello.incarnation < known:
            raise LineEnded(StaleIncarnation(node=hello.node, known=known, found=hello.incarnation))
        older = self._sessions.get(key)
        if older is None and len(self._sessions) >= SESSIONS_MAX:
            raise LineEnded(TooManySessions(limit=SESSIONS_MAX))
        refused = self._admit(hello)  # last: who is admitted gets its session, and the older one is over at once
        if refused is not None:
            raise LineEnded(refused)
        if older is not None:
            older.live = False
            self._counts["superseded"] += 1
            self._counts["void"] += older.undecided
            superseded = Superseded(node=hello.node)
            older.line.finish(superseded, encode_message(Goodbye(superseded)))
        self._incarnations.pop(speaker, None)
        self._incarnations[speaker] = hello.incarnation
        if len(self._incarnations) > PEERS_KNOWN_MAX:
            del self._incarnations[next(iter(self._incarnations))]
        session = self._sessions[key] = Session(hello, line)
        return session

    def _key(self, role: str, node: str) -> tuple[str, str]:
        return (role, "") if role in self._sole else (role, node)

    async def _tip(self) -> Cursor:
        if self._settle is not None:
            return await self._settle()
        return self._source.tip if self._source is not None else START

    async def _reader(self, hello: Hello) -> RecordReader | None:
        if self._source is None or hello.cursor is None:
            return None
        try:
            reader = self._source.reader(hello.cursor)
            # Before the Welcome: a peer whose cursor is not of this journal must not find itself caught up.
            confirm = getattr(reader, "confirm", None)
            if confirm is not None:
                await confirm()
            return reader
        except self._refusals as error:
            raise LineEnded(_refusal(error)) from None

    async def _hold(self, session: Session, reader: RecordReader | None, messages: list[AnyMessage]) -> None:
        """Hold an open session until it ends."""
        line = session.line
        line.start_beats()
        self._counts["opened"] += 1
        pump = self._scope.start(self._pump(session, reader), session.node) if reader is not None else None
        try:
            self._on_opened(session)
            while True:
                for message in messages:
                    if session.live:
                        await self._take(session, message)
                messages = await line.receive()
        except LineEnded as ended:
            line.finish(ended.problem, encode_message(Goodbye(ended.problem)))
        finally:
            session.connected = False
            self._forget(session)
            self._counts["ended"] += 1
            reason = line.fault or ReceptionClosing()
            if reason.code in ("MessageMalformed", "NumberMismatch", "CreditExceeded"):
                self._counts["malformed"] += 1
            if pump is not None:
                pump.cancel()
                await asyncio.wait([pump])
            self._on_ended(session, reason)

    async def _take(self, session: Session, message: AnyMessage) -> None:
        match message:
            case Commands():
                session.admit_commands(message)
                self._counts["commands"] += len(message.commands)
                for number, raw in enumerate(message.commands, message.first):
                    if not session.live:
                        return
                    waiting = self._deliver(session, number, raw, partial(self._reply, session, number))
                    if waiting is not None:
                        await waiting
            case Ack():
                session.acknowledged(message.cursor)
                self._on_ack(session, message.cursor)
            case Ask():
                session.admit_ask(message)
                self._counts["queries"] += 1
                self._ask(session, message.number, message.query, partial(session.answer, message.number))
            case Post() if self._on_post is not None:
                self._on_post(session, message.body)
            case _:
                raise LineEnded(MessageMalformed(reason=f"{type(message).__name__} is not for the listening side"))

    def _reply(self, session: Session, number: int, body: bytes) -> None:
        session.reply(number, body)
        if not session.connected:
            self._forget(session)

    def _forget(self, session: Session | None) -> None:
        """Drop a session that is over; one with undecided commands stays known, so that a new Hello makes them void."""
        if session is None or session.undecided:
            return
        key = self._key(session.role, session.node)
        if self._sessions.get(key) is session:
            del self._sessions[key]

    async def _pump(self, session: Session, reader: RecordReader) -> None:
        try:
            while True:
                await session.offer(await reader.next(await session.record_room()))
        except self._refusals as error:
            refused = _refusal(error)
            session.line.finish(refused, encode_message(Goodbye(refused)))
        except EngineClosed:
            closing = ReceptionClosing()
            session.line.finish(closing, encode_message(Goodbye(closing)))


class _Outlet:
    """What a line pulls from: nothing, until its session is known."""

    __slots__ = ("session",)

    def __init__(self) -> None:
        self.session: Session | None = None

    def pull(self) -> bytes | None:
        return self.session.pull() if self.session is not None else None

    def pull_answer(self) -> bytes | None:
        return self.session.pull_answer() if self.session is not None else None


def _refusal(error: Exception) -> Problem:
    """Say a source's refusal as a Problem: its own, or one with the exception's name as code."""
    own = getattr(error, "problem", None)
    return own if isinstance(own, Problem) else Problem(type(error).__name__, str(error))
