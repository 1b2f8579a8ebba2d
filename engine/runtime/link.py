"""Link: the dialling side of a conversation: connect, catch up, send what is owed; again after every loss. Floor 5.

* The coupling law: a handshake opens a new session → the peer's records up to its tip are adopted (acknowledged by the
  owner) → only then the owed commands go out, numbered, in order, inside that session.
* A command is taken only while COUPLED; otherwise `send` says False, and what is owed is asked for at the next
  coupling. So there is no outbox, and a link holds nothing that its owner's state does not know.
* The next session is dialled when every record handed over was acknowledged. So none is handed over twice, and the
  cursor of a Hello counts everything that the owner has.
* What was sent and not answered when the link is lost has an unknown outcome (`LinkLost`).
* Bounded: commands unanswered (count, bytes) by credit, the backlog behind them; when that is full the session refuses
  further commands, drains, and couples anew (the owed ones are then recomputed).
* The owner's callbacks are called synchronously in the loop and must not block.
"""

import asyncio
import enum
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import msgspec

from engine.base.ids import START, Cursor
from engine.base.log import logger
from engine.base.problem import EngineClosed, Problem, problem
from engine.base.tasks import TaskScope
from engine.base.wire import (
    Ack,
    Answer,
    AnyMessage,
    CommandReply,
    Goodbye,
    Identity,
    Post,
    Raw,
    Records,
    Replies,
    Welcome,
    WireRecord,
    decode_command_reply,
    encode_message,
)
from engine.ports import ConnectionClosed
from engine.runtime.command_stream import CommandStream, OnReply
from engine.runtime.line import (
    PACE,
    RECORDS_UNACKNOWLEDGED_MAX,
    ConnectionBroken,
    HandshakeTimedOut,
    Line,
    LineEnded,
    LinkWorld,
    MessageMalformed,
    Pace,
)
from engine.runtime.posts import Posts
from engine.runtime.queries import Queries
from engine.runtime.welcome import FOR_A_PERSON, hello_of, welcome_fault

NotCoupled = problem("NotCoupled", "The link is not coupled ({state}); wait until it is.")
CouplingAnew = problem("CouplingAnew", "More commands were owed than the backlog holds; coupling anew for the rest.")
LinkClosed = problem("LinkClosed", "This side closed the link.")
log = logger("link")


class LinkState(enum.Enum):
    """Where a link is in its life."""

    DOWN = "down"
    OPENING = "opening"
    CATCHING_UP = "catching up"
    COUPLED = "coupled"


class LinkLost(Exception):
    """The link was lost before the answer came. `sent` False: surely never sent; True: the outcome is unknown."""

    def __init__(self, reason: Problem, *, sent: bool) -> None:
        super().__init__(reason.sentence)
        self.problem = reason
        self.sent = sent


def _no_cursor() -> Cursor | None:
    return None


def _nothing_owed() -> Iterable[bytes] | None:
    return ()


def _ignore(_: object) -> None:
    pass


class Link:
    """One end of a conversation, kept up until closed: controller → agent, director → subagent, client → controller."""

    def __init__(
        self,
        world: LinkWorld,
        urls: Sequence[str],
        identity: Identity,
        *,
        peer_role: str,
        on_failure: Callable[[BaseException], None],
        peer_node: str | None = None,
        cursor: Callable[[], Cursor | None] = _no_cursor,
        epoch: Callable[[], int] = lambda: 0,
        owed: Callable[[], Iterable[bytes] | None] = _nothing_owed,
        on_records: Callable[[list[WireRecord]], None] = _ignore,
        on_coupled: Callable[[Welcome], None] = _ignore,
        on_lost: Callable[[Problem], None] = _ignore,
        on_refused: Callable[[Problem], None] = _ignore,
        pace: Pace = PACE,
    ) -> None:
        """Prepare a link; `start` dials. Several urls are tried in turn (the nodes of a pair).

        `cursor`: from where records are wanted; asked at each handshake. None: none at all.
        `epoch`: of our ownership; asked at each handshake. Who has obeyed a higher one refuses us with Stale.
        `on_records`: the next records. The owner journals them and calls `acknowledge` once they are durable; it must
        do so in the end, also when the link is down by then.
        `owed`: called once per session when everything up to the peer's tip is acknowledged. It returns the commands
        owed, or None when the owner will call `couple` itself (from its own turn, so that nothing slips between).
        `on_coupled`, `on_lost`: `on_lost` follows every opened session that ended by itself, and every refusal.
        `on_refused`: Problems that answer commands sent without `on_reply`.
        """
        self.identity = identity
        self.session = ""
        self.problem: Problem | None = None  # why the last attempt or session ended
        self._world = world
        self._urls = tuple(urls)
        self._peer_role = peer_role
        self._peer_node = peer_node
        self._cursor = cursor
        self._epoch = epoch
        self._owed = owed
        self._on_records = on_records
        self._on_coupled = on_coupled
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._pace = pace
        self._scope = TaskScope(f"link {identity.node} to {peer_node or peer_role}", on_failure)
        self._state = LinkState.DOWN
        self._closed = False
        self._line: Line | None = None
        self._adopted: asyncio.Future[None] | None = None  # the next dialling waits for an acknowledgement
        self._requests: dict[asyncio.Future[CommandReply], None] = {}
        self._coupled_waiters: list[asyncio.Future[None]] = []
        self._counts = dict.fromkeys(("attempts", "sessions", "lost", "malformed", "records", "commands", "replies"), 0)
        self._reset()

    def _reset(self) -> None:
        self._hello: bytes | None = None
        self._welcome: Welcome | None = None
        self._goodbye = False
        self._commands = CommandStream()
        self._coupled_at: float | None = None
        self._caught_up = False
        self._acks: deque[tuple[int, Cursor]] = deque()  # each goes out behind the command with this number
        self._acknowledged = START
        self._received = START
        self._queries = Queries()
        self._posts = Posts()

    # --- what the owner calls

    @property
    def state(self) -> LinkState:
        """Where the link is in its life."""
        return self._state

    @property
    def peer(self) -> Welcome | None:
        """Who answered in the present session (node, incarnation, feature level, tip); None without one."""
        return self._welcome

    def start(self) -> None:
        """Begin to dial, and keep on until `close`."""
        self._scope.start(self._run(), "run")

    def send(self, command: bytes, on_reply: OnReply | None = None) -> bool:
        """Send an encoded command; False when it was not taken (not coupled, or the backlog is full).

        `on_reply` is called if the reply comes in this session, else never. Commands sent in one turn share a message.
        """
        if self._state is not LinkState.COUPLED or not self._commands.add(command, on_reply):
            return False
        assert self._line is not None
        self._counts["commands"] += 1
        self._line.wake()
        return True

    async def request(self, command: bytes) -> CommandReply:
        """Send a command and return its reply, Accepted or Problem; raises LinkLost when it cannot be known."""
        future: asyncio.Future[CommandReply] = asyncio.get_running_loop().create_future()

        def answer(reply: CommandReply) -> None:
            if not future.done():
                future.set_result(reply)

        if not self.send(command, answer):
            raise LinkLost(NotCoupled(state=self._state.value), sent=False)
        self._requests[future] = None
        try:
            return await future
        finally:
            self._requests.pop(future, None)

    async def ask(self, query: bytes) -> bytes:
        """Send an encoded query and return the answer's body; raises LinkLost, or Refused when too many wait.

        A query may be asked as soon as the session is open, also while catching up.
        """
        if self._welcome is None or self._line is None:
            raise LinkLost(NotCoupled(state=self._state.value), sent=False)
        answer = self._queries.add(query)
        self._line.wake()
        return await answer

    def post(self, body: bytes, *, now: bool = False) -> bool:
        """Send a message outside of the streams; False when it is lost at once: no session, or no room (see `room`).

        `now`: before everything else, for what is small and must not be late.
        """
        if self._welcome is None or self._line is None:
            return False
        message = encode_message(Post(Raw(body)))
        if now:
            return self._line.send_now(message)
        self._line.wake()
        return self._posts.add(message)

    async def room(self) -> None:
        """Wait until there is room for posts, or no session."""
        await self._posts.room()

    async def until_coupled(self) -> None:
        """Wait until the link is coupled; raises LinkLost when it is closed."""
        if self._closed:
            raise LinkLost(LinkClosed(), sent=False)
        if self._state is not LinkState.COUPLED:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._coupled_waiters.append(waiting)
            try:
                await waiting
            finally:
                if waiting in self._coupled_waiters:
                    self._coupled_waiters.remove(waiting)

    def acknowledge(self, cursor: Cursor) -> None:
        """Say that everything up to here is durable on our side. Without a session the next `cursor` will say it."""
        if cursor.index <= self._acknowledged.index:
            return
        self._acknowledged = cursor
        if self._adopted is not None and not self._adopted.done():
            self._adopted.set_result(None)
        if self._welcome is None or self._line is None:
            return
        taken = self._commands.taken
        if self._acks and self._acks[-1][0] == taken:
            self._acks.pop()
        self._acks.append((taken, cursor))
        self._line.wake()
        self._look_whether_caught_up()

    def couple(self, session: str, owed: Iterable[bytes]) -> bool:
        """Give the commands owed and become COUPLED; False when that session is over.

        For owners whose `owed` returned None. From here on `send` takes commands, so call it in the very turn in
        which `owed` was computed.
        """
        if session != self.session or not self._caught_up or self._state is not LinkState.CATCHING_UP:
            return False
        assert self._line is not None
        assert self._welcome is not None
        for command in owed:
            if not self._commands.add(command, None):
                break
            self._counts["commands"] += 1
        self._state = LinkState.COUPLED
        self._coupled_at = asyncio.get_running_loop().time()
        self._line.wake()
        waiters, self._coupled_waiters = self._coupled_waiters, []
        for waiting in waiters:
            if not waiting.done():
                waiting.set_result(None)
        self._on_coupled(self._welcome)
        return True

    def drop(self, reason: Problem) -> None:
        """End the present session, if any, and dial again."""
        if self._line is not None:
            self._line.break_off(reason)

    async def close(self) -> None:
        """End for good; those who wait for replies get LinkLost. Safe to call twice."""
        self._closed = True
        await self._scope.close()
        self._end(LinkClosed())

    def statistics(self) -> dict[str, int]:
        """Counts since the start; `unanswered`, `backlog` and `round_trip_ms` of the present session."""
        line = self._line
        return {
            **self._counts,
            "unanswered": self._commands.unanswered,
            "backlog": self._commands.waiting,
            "round_trip_ms": line.round_trip_ms if line is not None else -1,
        }

    # --- the life

    async def _run(self) -> None:
        try:
            await self._keep_up()
        except EngineClosed as closed:
            self._end(ConnectionBroken(reason=str(closed)))  # our World is gone: no further attempt
        except Exception as error:
            self._end(ConnectionBroken(reason=repr(error)))
            raise  # a mistake of ours, in a callback perhaps: the owner is told

    async def _keep_up(self) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            while self._acknowledged.index < self._received.index:
                self._adopted = loop.create_future()
                await self._adopted
            url = self._urls[self._counts["attempts"] % len(self._urls)]
            self._counts["attempts"] += 1
            reason = await self._converse(url)
            coupled_at = self._coupled_at
            if reason.code in FOR_A_PERSON and (self.problem is None or self.problem.code != reason.code):
                log.warning("this peer can not be coupled", peer=self._peer_node or url, problem=reason.sentence)
            tell = self._welcome is not None or self._goodbye
            self._end(reason)
            if tell:
                self._counts["lost"] += 1
                self._on_lost(reason)
            if reason.code == "CouplingAnew":
                continue
            steady = coupled_at is not None and (loop.time() - coupled_at) * 1_000 >= self._pace.reconnect_ms_max
            failures = 0 if steady else failures + 1
            await asyncio.sleep(self._backoff_ms(failures) / 1_000)

    def _backoff_ms(self, failures: int) -> int:
        doublings = min(failures // len(self._urls), 16)
        ceiling_ms = min(self._pace.reconnect_ms_min << doublings, self._pace.reconnect_ms_max)
        return ceiling_ms // 2 + self._world.jitter(ceiling_ms // 2 + 1)

    async def _converse(self, url: str) -> Problem:
        """Hold one session, from dialling to its end, and return why it ended."""
        self._reset()
        self._state = LinkState.OPENING
        self.session = self._world.new_id()
        limit_s = self._pace.handshake_ms_max / 1_000
        try:
            async with asyncio.timeout(limit_s):
                transport, address = self._world.transport(url)
                connection = await transport.connect(address)
        except TimeoutError:
            return HandshakeTimedOut(peer=url, limit_ms=self._pace.handshake_ms_max)
        except (ConnectionClosed, OSError, ValueError) as error:  # a url is a person's text: no reason to end
            return ConnectionBroken(reason=str(error))
        line = self._line = Line(connection, self._pace, self._world.clock, pull=self._pull, echo=False)
        try:
            cursor = self._cursor()
            self._hello = encode_message(hello_of(self.identity, self.session, cursor, self._epoch()))
            line.wake()
            messages: list[AnyMessage] = []
            async with asyncio.timeout(limit_s):
                while not messages:
                    messages = await line.receive()
            self._open(url, cursor, messages.pop(0))
            while True:
                for message in messages:
                    self._take(message)
                messages = await line.receive()
        except LineEnded as ended:
            return ended.problem
        except TimeoutError:
            return HandshakeTimedOut(peer=url, limit_ms=self._pace.handshake_ms_max)
        finally:
            self._state = LinkState.DOWN
            self._line = None
            await line.close()

    def _open(self, url: str, cursor: Cursor | None, message: AnyMessage) -> None:
        if isinstance(message, Goodbye):
            self._take(message)
        if not isinstance(message, Welcome) or message.session != self.session:
            raise LineEnded(MessageMalformed(reason=f"{type(message).__name__} where Welcome was due"))
        expected = (self.identity.cluster, self._peer_role, self._peer_node or message.node)
        fault = welcome_fault(message, url, expected, cursor)
        if fault is not None:
            raise LineEnded(fault)
        assert self._line is not None
        self._line.start_beats()
        self._counts["sessions"] += 1
        self._welcome = message
        self._received = self._acknowledged = message.tip if cursor is None else cursor
        self._state = LinkState.CATCHING_UP
        self._look_whether_caught_up()

    def _look_whether_caught_up(self) -> None:
        assert self._welcome is not None
        if self._caught_up or self._acknowledged.index < self._welcome.tip.index:
            return
        self._caught_up = True
        session = self.session
        owed = self._owed()
        if owed is not None:
            self.couple(session, owed)

    def _pull(self) -> bytes | None:
        """Give the line its next message. Acks and commands keep the order in which the owner gave them.

        Commands may rest on what an Ack before them lets go; and one that came first, such as a start that was owed
        when the peer's report of its end was adopted, must find what the Ack behind it lets the peer forget.
        """
        if self._hello is not None:
            hello, self._hello = self._hello, None
            return hello
        if self._acks and self._acks[0][0] <= self._commands.sent:
            _, cursor = self._acks.popleft()
            return encode_message(Ack(cursor))
        upto = self._acks[0][0] if self._acks else None
        return self._queries.next_message() or self._commands.next_message(upto) or self._posts.next_message()

    # --- what comes

    def _take(self, message: AnyMessage) -> None:
        match message:
            case Records():
                self._take_records(message)
            case Replies():
                self._take_replies(message)
            case Answer():
                self._queries.answered(message.number, message.body)
                assert self._line is not None
                self._line.wake()
            case Goodbye():
                self._goodbye = True
                raise LineEnded(message.problem)
            case _:
                raise LineEnded(MessageMalformed(reason=f"{type(message).__name__} is not for the dialling side"))

    def _take_records(self, message: Records) -> None:
        index = self._received.index
        for record in message.records:
            index += 1
            if record.index != index:
                raise LineEnded(MessageMalformed(reason=f"record {record.index} where {index} was due"))
        if index - self._acknowledged.index > RECORDS_UNACKNOWLEDGED_MAX:
            raise LineEnded(MessageMalformed(reason="more records than this side had acknowledged credit for"))
        if not message.records:
            return
        self._received = Cursor(index, message.records[-1].epoch)
        self._counts["records"] += len(message.records)
        self._on_records(list(message.records))

    def _take_replies(self, message: Replies) -> None:
        commands = self._commands
        for reply in message.replies:
            try:
                on_reply = commands.answered(reply.number)
                content = decode_command_reply(reply.body)
            except KeyError:
                reason = f"a reply to command {reply.number}, which waits for none"
                raise LineEnded(MessageMalformed(reason=reason)) from None
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise LineEnded(MessageMalformed(reason=f"a reply that cannot be read: {error}")) from None
            if on_reply is not None:
                on_reply(content)
            elif isinstance(content, Problem):
                self._on_refused(content)
        self._counts["replies"] += len(message.replies)
        if commands.refusing and commands.drained:
            raise LineEnded(CouplingAnew())
        if commands.waiting and self._line is not None:
            self._line.wake()

    def _end(self, reason: Problem) -> None:
        self.problem = reason
        self._state = LinkState.DOWN
        self._welcome = None
        if reason.code == "MessageMalformed":
            self._counts["malformed"] += 1
        lost = LinkLost(reason, sent=True)
        self._posts.end()
        self._queries.fail(lost)
        for future in self._requests:
            if not future.done():
                future.set_exception(lost)
        if self._closed:
            for one in self._coupled_waiters:
                if not one.done():
                    one.set_exception(LinkLost(reason, sent=False))
