"""Posts: what waits to be sent outside of the streams, bounded in count and bytes. Floor 5.

* They go behind everything else of their link. What finds no room is refused at once; `room` waits for some.
"""

import asyncio
from collections import deque

POSTS_WAITING_MAX = 1_000
POSTS_WAITING_BYTES_MAX = 16 << 20  # a single larger one goes alone


class Posts:
    """Those of one session."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._ended = False
        self._room: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, message: bytes) -> bool:
        """Take an encoded message; False when there is no room for it."""
        if self._ended or (self._waiting and not self._has_room(len(message))):
            return False
        self._waiting.append(message)
        self._waiting_bytes += len(message)
        return True

    def _has_room(self, size_bytes: int) -> bool:
        return len(self._waiting) < POSTS_WAITING_MAX and self._waiting_bytes + size_bytes <= POSTS_WAITING_BYTES_MAX

    def next_message(self) -> bytes | None:
        """Give the next message to be sent."""
        if not self._waiting:
            return None
        message = self._waiting.popleft()
        self._waiting_bytes -= len(message)
        if not self._is_busy():
            self._tell()
        return message

    def _is_busy(self) -> bool:
        return not self._ended and (
            len(self._waiting) > POSTS_WAITING_MAX // 2 or self._waiting_bytes > POSTS_WAITING_BYTES_MAX // 2
        )

    async def room(self) -> None:
        """Wait until at most half of the room is taken, or the session is over."""
        while self._is_busy():
            if self._room is None or self._room.done():
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)

    def end(self) -> None:
        """The session is over: what waits is lost, and nobody waits for room any more."""
        self._ended = True
        self._waiting.clear()
        self._waiting_bytes = 0
        self._tell()

    def _tell(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
