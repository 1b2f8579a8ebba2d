"""Alarms: wakes keys at instants of the wall clock. Floor 5.

* The wall clock may jump: the next look is at most LOOK_AGAIN_MS away, and whoever is woken too early just waits on.
* One timer for all alarms; a million of them are a million small tuples in a heap.
"""

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush

from engine.ports import Clock

LOOK_AGAIN_MS = 5_000
WAKE_AT_ONCE = 1_000


class Alarms:
    """A heap of (instant, key)."""

    def __init__(self, clock: Clock, wake: Callable[[tuple[str, ...]], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._heap: list[tuple[int, str]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_ms = 0

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, key: str, at_ms: int) -> None:
        """Wake a key at an instant; earlier alarms of the same key stay and do no harm."""
        heappush(self._heap, (at_ms, key))
        if self._timer is None or at_ms < self._timer_at_ms:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._heap:
            return
        now_ms = self._clock.now_ms()
        delay_ms = min(max(self._heap[0][0] - now_ms, 0), LOOK_AGAIN_MS)
        self._timer_at_ms = now_ms + delay_ms
        self._timer = asyncio.get_running_loop().call_later(delay_ms / 1_000, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now_ms = self._clock.now_ms()
        due: list[str] = []
        while self._heap and self._heap[0][0] <= now_ms and len(due) < WAKE_AT_ONCE:
            due.append(heappop(self._heap)[1])
        if due:
            self._wake(tuple(due))
        self._arm()

    def close(self) -> None:
        """Stop; nothing is woken any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._heap.clear()
