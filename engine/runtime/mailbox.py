"""Mailbox: what a node is asked to do, in order, bounded, with a lane for what must not wait. Floor 5.

* Work is a command, a read (computed in the turn, delivered when durable), or keys to advance.
* The urgent lane overtakes: a command that says "the standby is gone" is decided even while the pipeline is full.
* Work of a session that has ended since is dropped when it is taken.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from engine.base.ids import Cursor
from engine.base.limits import MAILBOX_LENGTH_MAX


class Session(Protocol):
    """Where work came from: what a session sent is void once it is not live."""

    live: bool


class MailboxFull(Exception):
    """The node has MAILBOX_LENGTH_MAX pieces of work before it; send less, or later."""


class Work:
    """One piece of work. `done` is called once with the result, when everything it shows is durable."""

    __slots__ = ("command", "done", "keys", "mark", "read", "session")

    def __init__(
        self,
        command: Any = None,
        *,
        read: Callable[[Any, int], Any] | None = None,
        keys: tuple[str, ...] = (),
        done: Callable[[Any], None] | None = None,
        mark: tuple[str, Cursor] | None = None,
        session: Session | None = None,
    ) -> None:
        self.command = command
        self.read = read
        self.keys = keys
        self.done = done
        self.mark = mark
        self.session = session


class Mailbox:
    """A bounded queue with one reader."""

    def __init__(self, length_max: int = MAILBOX_LENGTH_MAX) -> None:
        self.length_max = length_max
        self._normal: deque[Work] = deque()
        self._urgent: deque[Work] = deque()
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._normal) + len(self._urgent)

    def put(self, work: Work, *, urgent: bool = False, bounded: bool = True) -> None:
        """Add work; raises MailboxFull. What our own turns leave over is not bounded here: its source is."""
        if bounded and len(self._normal) >= self.length_max and not urgent:
            raise MailboxFull
        (self._urgent if urgent else self._normal).append(work)
        self._news.set()

    def poke(self) -> None:
        """Let the reader look again, because the pipeline has room."""
        self._news.set()

    async def take(self, count_max: int, may_take_all: Callable[[], bool]) -> list[Work]:
        """Wait for work and return it: the urgent first, the rest only while `may_take_all` says so."""
        while True:
            taken: list[Work] = []
            while self._urgent and len(taken) < count_max:
                taken.append(self._urgent.popleft())
            if may_take_all():
                while self._normal and len(taken) < count_max:
                    taken.append(self._normal.popleft())
            taken = [work for work in taken if work.session is None or work.session.live]
            if taken:
                return taken
            if self._urgent or (self._normal and may_take_all()):
                continue
            self._news.clear()
            await self._news.wait()

    def drain(self) -> list[Work]:
        """Take everything out, because the node has ended."""
        left = [*self._urgent, *self._normal]
        self._urgent.clear()
        self._normal.clear()
        return left
