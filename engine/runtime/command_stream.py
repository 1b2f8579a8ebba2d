"""CommandStream: the commands of one session: numbered from 1, sent in batches as far as the credit goes. Floor 5.

* Without asyncio: the link adds, the line pulls encoded batches, replies take commands off.
* Bounded: unanswered by credit (count and bytes), the backlog behind them by count and bytes. Once the backlog was
  full nothing more is taken in this session, so that what was taken is a beginning of what was owed, in order.
"""

from collections import deque
from collections.abc import Callable

from engine.base.limits import COMMANDS_UNANSWERED_MAX, MESSAGE_ITEMS_MAX
from engine.base.wire import CommandReply, Commands, Raw, encode_message
from engine.runtime.line import BODY_BYTES_MAX, COMMANDS_UNANSWERED_BYTES_MAX, MESSAGE_BYTES_AIM

BACKLOG_COMMANDS_MAX = 100_000  # waiting for credit; beyond it the link couples anew once these are answered
BACKLOG_BYTES_MAX = 64 << 20

OnReply = Callable[[CommandReply], None]


class CommandStream:
    """The commands of one session."""

    __slots__ = ("_backlog", "_backlog_bytes", "_next", "_unanswered", "_unanswered_bytes", "refusing")

    def __init__(self) -> None:
        self._next = 1
        self._backlog: deque[tuple[bytes, OnReply | None]] = deque()
        self._backlog_bytes = 0
        self._unanswered: dict[int, tuple[OnReply | None, int]] = {}
        self._unanswered_bytes = 0
        self.refusing = False  # the backlog was full once

    @property
    def unanswered(self) -> int:
        """How many commands were sent and are not answered."""
        return len(self._unanswered)

    @property
    def waiting(self) -> int:
        """How many commands wait for credit."""
        return len(self._backlog)

    @property
    def sent(self) -> int:
        """The number of the last command that went out."""
        return self._next - 1

    @property
    def taken(self) -> int:
        """The number that the last command taken has, or will have."""
        return self._next - 1 + len(self._backlog)

    @property
    def drained(self) -> bool:
        """Whether every command taken was answered."""
        return not self._backlog and not self._unanswered

    def add(self, command: bytes, on_reply: OnReply | None) -> bool:
        """Take a command, or say False: the backlog is, or was, full. Raises ValueError for one that never fits."""
        if self.refusing or len(self._backlog) >= BACKLOG_COMMANDS_MAX or self._backlog_bytes >= BACKLOG_BYTES_MAX:
            self.refusing = True
            return False
        if len(command) > BODY_BYTES_MAX:
            raise ValueError(f"a command of {len(command)} bytes; the most is {BODY_BYTES_MAX}")
        self._backlog.append((command, on_reply))
        self._backlog_bytes += len(command)
        return True

    def next_message(self, upto: int | None = None) -> bytes | None:
        """Return the next batch, encoded, with numbers up to `upto`; None when there is no command or no credit."""
        backlog, unanswered, number = self._backlog, self._unanswered, self._next
        count_max = min(len(backlog), MESSAGE_ITEMS_MAX, COMMANDS_UNANSWERED_MAX - len(unanswered))
        if upto is not None:
            count_max = min(count_max, upto - number + 1)
        credit_bytes = COMMANDS_UNANSWERED_BYTES_MAX - self._unanswered_bytes
        batch: list[Raw] = []
        size_bytes = 0
        while len(batch) < count_max:
            size = len(backlog[0][0])
            if (batch and size_bytes + size > MESSAGE_BYTES_AIM) or (unanswered and size_bytes + size > credit_bytes):
                break
            command, on_reply = backlog.popleft()
            unanswered[number] = (on_reply, size)
            number += 1
            size_bytes += size
            batch.append(Raw(command))
        if not batch:
            return None
        first, self._next = self._next, number
        self._backlog_bytes -= size_bytes
        self._unanswered_bytes += size_bytes
        return encode_message(Commands(first, tuple(batch)))

    def answered(self, number: int) -> OnReply | None:
        """Take a command off as answered; raises KeyError for a number that was not waiting."""
        on_reply, size = self._unanswered.pop(number)
        self._unanswered_bytes -= size
        return on_reply
