"""The real clocks of this machine. Floor 5.

* Monotonic time counts suspend where the system can tell (CLOCK_BOOTTIME on Linux), since leases are bounded by it.
"""

import time

_MONOTONIC = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class RealClock:
    """Implements ports.Clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.clock_gettime_ns(_MONOTONIC) // 1_000_000
