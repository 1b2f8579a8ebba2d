"""Schedule: instants at a fixed distance from a beginning, whatever comes between. Floor 6.

* Lateness moves no later instant; what was slept through altogether is left out, but the one that is due is still done.
"""

from engine.rules.pair.times import Times

TICKS_PER_BEAT = 4


class Schedule:
    """One row of instants, in milliseconds of a monotonic clock."""

    def __init__(self, every_ms: int, begin_ms: int) -> None:
        self.due_ms = begin_ms  # the next instant
        self._every_ms = every_ms

    def take(self, now_ms: int) -> int | None:
        """Return by how much the instant that is due comes late, and go on to the next; None when none is due."""
        late_ms = now_ms - self.due_ms
        if late_ms < 0:
            return None
        self.due_ms += (late_ms // self._every_ms + 1) * self._every_ms
        return late_ms


def tick_ms(times: Times) -> int:
    """Return the distance of ticks: so short that no stop longer than J passes unseen, since J/2 of it shows."""
    return max(1, min(times.beat_ms // TICKS_PER_BEAT, times.lateness_ms // 2))
