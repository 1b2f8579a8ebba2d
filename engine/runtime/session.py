"""Session: one handshake of a link as the listening side holds it: what it owes: replies, answers, records. Floor 5.

* `live` says whether commands of this session may still be decided. A newer session of the same node makes it False
  at once; whoever takes a command from a mailbox looks at it first and drops the command when it is False.
* Commands and queries are consecutive from 1; a gap, a repetition or more than the credit ends the session.
* Records wait in the source: at most one batch of them is held here, and only while the reader has credit left.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from engine.base.ids import START, Cursor
from engine.base.limits import COMMANDS_UNANSWERED_MAX, FRAME_BYTES_MAX, MESSAGE_ITEMS_MAX
from engine.base.problem import problem
from engine.base.wire import (
    FEATURE_LEVEL,
    Answer,
    Ask,
    Commands,
    Hello,
    Raw,
    Records,
    Replies,
    Reply,
    WireRecord,
    encode_message,
)
from engine.runtime.line import (
    BODY_BYTES_MAX,
    COMMANDS_UNANSWERED_BYTES_MAX,
    MESSAGE_BYTES_AIM,
    QUERIES_UNANSWERED_MAX,
    RECORDS_UNACKNOWLEDGED_BYTES_MAX,
    RECORDS_UNACKNOWLEDGED_MAX,
    Line,
    LineEnded,
)

NumberMismatch = problem("NumberMismatch", "The other side sent {what} {found} where {expected} was due.")
CreditExceeded = problem(
    "CreditExceeded", "The other side sent more {what} than the {limit} that may wait for an answer."
)


class SourceRecord(Protocol):
    """A record as a source gives it; a journal's Record is one."""

    @property
    def index(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def events(self) -> bytes: ...


class RecordReader(Protocol):
    """One reader's place in a source. An async `confirm`, if it has one, is awaited first and may refuse the cursor."""

    async def next(self, records_max: int) -> Sequence[SourceRecord]:
        """The next published records, at least one, in order and without gaps; waits for them."""


class RecordSource(Protocol):
    """Where records come from: a journal's feed, or an outbox."""

    @property
    def tip(self) -> Cursor:
        """The last published record."""

    def reader(self, cursor: Cursor) -> RecordReader:
        """Read behind a cursor. It, or its `next`, raises when that cursor cannot be served."""


class Session:
    """One handshake. The owner sees its names, `live`, and `reply`; the rest belongs to reception."""

    __slots__ = (
        "_acknowledged",
        "_answers",
        "_asks_next",
        "_asks_open",
        "_control",
        "_numbers_next",
        "_open",
        "_open_bytes",
        "_record_turn",
        "_records",
        "_records_bytes",
        "_records_sent",
        "_replies",
        "_room",
        "_taken",
        "_unacknowledged",
        "connected",
        "cursor",
        "feature",
        "id",
        "incarnation",
        "line",
        "live",
        "node",
        "role",
    )  # fmt: skip

    def __init__(self, hello: Hello, line: Line) -> None:
        self.id = hello.session
        self.role = hello.role
        self.node = hello.node
        self.incarnation = hello.incarnation
        self.feature = min(hello.feature, FEATURE_LEVEL)  # what both sides understand
        self.cursor = hello.cursor
        self.live = True
        self.connected = True
        self.line = line
        self._control: deque[bytes] = deque()
        self._numbers_next = 1
        self._open: dict[int, int] = {}  # commands delivered and not replied to, with their sizes
        self._open_bytes = 0
        self._replies: deque[Reply] = deque()
        self._asks_next = 1
        self._asks_open = 0  # queries whose answer has not gone out
        self._answers: deque[bytes] = deque()
        start = hello.cursor or START
        self._records: deque[SourceRecord] = deque()
        self._records_sent = start.index
        self._records_bytes = 0  # sent and not acknowledged
        self._acknowledged = start.index
        self._unacknowledged: deque[tuple[int, int]] = deque()  # last index and bytes of each message under way
        self._room: asyncio.Future[None] | None = None  # the pump waits for an Ack
        self._taken: asyncio.Future[None] | None = None  # the pump waits until its batch has gone out
        self._record_turn = False

    @property
    def undecided(self) -> int:
        """How many commands were delivered and not replied to."""
        return len(self._open)

    # --- commands and queries

    def admit_commands(self, message: Commands) -> None:
        """Check numbers and credit of a batch; raises LineEnded."""
        if message.first != self._numbers_next:
            raise LineEnded(NumberMismatch(what="command", found=message.first, expected=self._numbers_next))
        for number, raw in enumerate(message.commands, message.first):
            size = len(memoryview(raw))
            self._open[number] = size
            self._open_bytes += size
        self._numbers_next += len(message.commands)
        if len(self._open) + len(self._replies) > COMMANDS_UNANSWERED_MAX:
            raise LineEnded(CreditExceeded(what="commands", limit=COMMANDS_UNANSWERED_MAX))
        if self._open_bytes > COMMANDS_UNANSWERED_BYTES_MAX + FRAME_BYTES_MAX:
            raise LineEnded(CreditExceeded(what="bytes of commands", limit=COMMANDS_UNANSWERED_BYTES_MAX))

    def reply(self, number: int, body: bytes) -> None:
        """Answer a command with an encoded Accepted or Problem, once; without effect when the session is over."""
        self._open_bytes -= self._open.pop(number)
        if self.connected:
            self._replies.append(Reply(number, Raw(body)))
            self.line.wake()

    def admit_ask(self, message: Ask) -> None:
        """Check number and credit of a query; raises LineEnded."""
        if message.number != self._asks_next:
            raise LineEnded(NumberMismatch(what="query", found=message.number, expected=self._asks_next))
        self._asks_next += 1
        self._asks_open += 1
        if self._asks_open > QUERIES_UNANSWERED_MAX:
            raise LineEnded(CreditExceeded(what="queries", limit=QUERIES_UNANSWERED_MAX))

    def answer(self, number: int, body: bytes) -> None:
        """Answer a query, once; raises ValueError for a body that fits into no message."""
        if len(body) > BODY_BYTES_MAX:
            raise ValueError(f"an answer of {len(body)} bytes; the most is {BODY_BYTES_MAX}")
        if self.connected:
            self._answers.append(encode_message(Answer(number, Raw(body))))
            self.line.wake()

    # --- records

    async def record_room(self) -> int:
        """Wait until the reader has credit and return for how many records."""
        while (
            self._records_sent - self._acknowledged >= RECORDS_UNACKNOWLEDGED_MAX
            or self._records_bytes >= RECORDS_UNACKNOWLEDGED_BYTES_MAX
        ):
            self._room = asyncio.get_running_loop().create_future()
            await self._room
        return min(MESSAGE_ITEMS_MAX, RECORDS_UNACKNOWLEDGED_MAX - (self._records_sent - self._acknowledged))

    async def offer(self, records: Sequence[SourceRecord]) -> None:
        """Send records and wait until they have gone out."""
        self._records.extend(records)
        self.line.wake()
        while self._records:
            self._taken = asyncio.get_running_loop().create_future()
            await self._taken

    def acknowledged(self, cursor: Cursor) -> None:
        """Give the credit back of everything up to a cursor."""
        self._acknowledged = max(self._acknowledged, min(cursor.index, self._records_sent))
        while self._unacknowledged and self._unacknowledged[0][0] <= self._acknowledged:
            self._records_bytes -= self._unacknowledged.popleft()[1]
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    # --- out

    def post(self, message: bytes) -> None:
        """Send an encoded message before replies and records."""
        self._control.append(message)
        self.line.wake()

    def pull(self) -> bytes | None:
        """Give the line its next message; replies and records take turns."""
        if self._control:
            return self._control.popleft()
        self._record_turn = bool(self._records) and (self._record_turn or not self._replies)
        if self._record_turn:
            self._record_turn = False
            return self._next_records()
        if self._replies:
            self._record_turn = True
            return self._next_replies()
        return None

    def pull_answer(self) -> bytes | None:
        """Give the line its next answer to a query."""
        if not self._answers:
            return None
        self._asks_open -= 1
        return self._answers.popleft()

    def _next_replies(self) -> bytes:
        replies = self._replies
        batch: list[Reply] = []
        size_bytes = 0
        while replies and len(batch) < MESSAGE_ITEMS_MAX and (size_bytes < MESSAGE_BYTES_AIM or not batch):
            reply = replies.popleft()
            size_bytes += len(memoryview(reply.body))
            batch.append(reply)
        return encode_message(Replies(tuple(batch)))

    def _next_records(self) -> bytes:
        records = self._records
        batch: list[WireRecord] = []
        size_bytes = 0
        while records and len(batch) < MESSAGE_ITEMS_MAX:
            size = len(records[0].events)
            if batch and size_bytes + size > MESSAGE_BYTES_AIM:
                break
            record = records.popleft()
            size_bytes += size
            batch.append(WireRecord(record.index, record.epoch, record.events))
        self._records_sent = batch[-1].index
        self._records_bytes += size_bytes
        self._unacknowledged.append((self._records_sent, size_bytes))
        if not records and self._taken is not None and not self._taken.done():
            self._taken.set_result(None)
        return encode_message(Records(tuple(batch)))
