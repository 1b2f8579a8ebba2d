"""Queries: those of one session of a link, numbered apart from commands; a bounded number waits for an answer. Floor 5.

* Beyond QUERIES_UNANSWERED_MAX they wait here, beyond QUERIES_WAITING_MAX they are refused.
* A query whose asker has gone before it was sent is not sent.
"""

import asyncio
from collections import deque

from engine.base.problem import Refused, problem
from engine.base.wire import Ask, Raw, encode_message
from engine.runtime.line import BODY_BYTES_MAX, QUERIES_UNANSWERED_MAX

QUERIES_WAITING_MAX = 1_000

TooManyQueries = problem(
    "TooManyQueries", "There are {waiting} queries waiting for an answer already; try again later."
)


class Queries:
    """The queries of one session."""

    __slots__ = ("_last", "_unanswered", "_waiting")

    def __init__(self) -> None:
        self._last = 0
        self._unanswered: dict[int, asyncio.Future[bytes]] = {}
        self._waiting: deque[tuple[bytes, asyncio.Future[bytes]]] = deque()

    def add(self, query: bytes) -> asyncio.Future[bytes]:
        """Take a query; the future gets the answer. Raises Refused when too many wait, ValueError when too long."""
        if len(query) > BODY_BYTES_MAX:
            raise ValueError(f"a query of {len(query)} bytes; the most is {BODY_BYTES_MAX}")
        if len(self._waiting) >= QUERIES_WAITING_MAX:
            raise Refused(TooManyQueries(waiting=len(self._waiting)))
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append((query, future))
        return future

    def next_message(self) -> bytes | None:
        """Return the next query, encoded; None when there is none, or too many are unanswered."""
        while self._waiting and len(self._unanswered) < QUERIES_UNANSWERED_MAX:
            query, future = self._waiting.popleft()
            if not future.done():
                self._last += 1
                self._unanswered[self._last] = future
                return encode_message(Ask(self._last, Raw(query)))
        return None

    def answered(self, number: int, body: Raw) -> None:
        """Give an answer to whoever still waits for it."""
        future = self._unanswered.pop(number, None)
        if future is not None and not future.done():
            future.set_result(bytes(body))

    def fail(self, error: Exception) -> None:
        """Let everyone who waits have an error."""
        for future in [*self._unanswered.values(), *(future for _, future in self._waiting)]:
            if not future.done():
                future.set_exception(error)
        self._unanswered.clear()
        self._waiting.clear()
