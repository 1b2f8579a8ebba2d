"""Lane: the callbacks, timers and clock of one node on the virtual loop. Floor 10.

* A node name is one incarnation (`agent#3`); the empty name is the environment, which is not a node.
* A lane is what a process's own event loop would be: one FIFO of ready callbacks, worked off in batches, its due timers
  joining behind each batch. So asyncio's documented order holds inside a node, whatever the other nodes do.
* Two times: true nanoseconds (the loop's), and local ones (what the node's clock shows). Timers are kept in local time,
  so a changed rate moves those already set.
"""

import heapq
import math
from asyncio import Handle, TimerHandle
from collections import deque
from contextvars import ContextVar

NODE: ContextVar[str] = ContextVar("NODE", default="")
"""The node whose code is running, copied into every callback; empty in the environment."""

NS_PER_SECOND = 1_000_000_000
NEVER_NS = 2**62  # a timer this far away (146 years) is kept but never comes: infinite delays, not a number
PPM_ONE = 1_000_000
DRIFT_PPM_MAX = 500_000  # a clock wrong by more than half is no clock; beyond it ValueError
TIMERS_CANCELLED_MAX = 100  # as many cancelled timers may lie in a lane before they are swept out


def delay_ns(delay: float) -> int:
    """Nanoseconds of a delay: the nearest whole number, but at least one for a delay above zero.

    At least one, because `while clock() < deadline: await sleep(rest)` would otherwise never end in virtual time.
    """
    span = delay * NS_PER_SECOND
    if not span < NEVER_NS:
        return NEVER_NS
    return 1 if 0 < span < 1 else round(span)


def instant_ns(when: float) -> int:
    """The first whole nanosecond at which a clock read as float seconds shows `when` or later.

    Never earlier: code that compares its clock with the deadline after the timer would wait again, for zero time.
    """
    if not when * NS_PER_SECOND < NEVER_NS:
        return NEVER_NS
    nearest = math.floor(when * NS_PER_SECOND)
    while nearest / NS_PER_SECOND < when:
        nearest += 1
    return nearest


class Lane:
    """One node's part of the loop."""

    __slots__ = (
        "_local_ns",
        "_rate",
        "_true_ns",
        "batch",
        "cancelled",
        "crashed",
        "name",
        "paused",
        "queued",
        "ready",
        "timers",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready: deque[Handle] = deque()
        self.batch = 0  # how many of `ready` belong to the turn under way
        self.timers: list[tuple[int, int, TimerHandle]] = []  # heap of (local ns, number, timer); equal times are FIFO
        self.cancelled = 0  # timers in the heap that were cancelled
        self.queued = False  # the loop has it among the lanes it chooses from
        self.paused = False
        self.crashed = False
        self._rate = PPM_ONE
        self._true_ns = 0  # the instant at which the rate was set, in both times
        self._local_ns = 0

    def clock_ns(self, true_ns: int) -> int:
        """What this node's clock shows at a true time."""
        if self._rate == PPM_ONE:
            return true_ns - self._true_ns + self._local_ns
        return self._local_ns + (true_ns - self._true_ns) * self._rate // PPM_ONE

    def true_ns(self, local_ns: int) -> int:
        """The first true time at which this node's clock shows `local_ns` or later."""
        return self._true_ns - (self._local_ns - local_ns) * PPM_ONE // self._rate

    def drift(self, true_ns: int, ppm: int) -> None:
        """Let the clock run `ppm` millionths too fast (negative: too slow) from now on; it does not jump."""
        if not -DRIFT_PPM_MAX <= ppm <= DRIFT_PPM_MAX:
            raise ValueError(f"a drift of {ppm} ppm is outside ±{DRIFT_PPM_MAX}")
        self._local_ns = self.clock_ns(true_ns)
        self._true_ns = true_ns
        self._rate = PPM_ONE + ppm

    def push(self, when_ns: int, number: int, timer: TimerHandle) -> None:
        """Set a timer for a local time; when most of those set before were cancelled, sweep them out first."""
        if self.cancelled > TIMERS_CANCELLED_MAX and self.cancelled * 2 > len(self.timers):
            self.timers = [entry for entry in self.timers if not entry[2].cancelled()]
            heapq.heapify(self.timers)
            self.cancelled = 0
        timer._scheduled = True  # type: ignore[attr-defined]  # as asyncio does; from here a cancel is counted
        heapq.heappush(self.timers, (when_ns, number, timer))

    def next_timer_ns(self) -> int | None:
        """The local time of the first timer that will ever come, or None."""
        timers = self.timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
            self.cancelled -= 1
        return timers[0][0] if timers and timers[0][0] < NEVER_NS else None

    def is_due(self, true_ns: int) -> bool:
        """Say whether a timer's time has come."""
        when_ns = self.next_timer_ns()
        return when_ns is not None and when_ns <= self.clock_ns(true_ns)

    def begin_batch(self, true_ns: int) -> None:
        """Begin a turn: due timers join behind what is ready, and all of that is the batch."""
        if self.timers:
            local_ns = self.clock_ns(true_ns)
            while (when_ns := self.next_timer_ns()) is not None and when_ns <= local_ns:
                timer = heapq.heappop(self.timers)[2]
                timer._scheduled = False  # type: ignore[attr-defined]  # as asyncio does; a cancel no longer counts
                self.ready.append(timer)
        self.batch = len(self.ready)
