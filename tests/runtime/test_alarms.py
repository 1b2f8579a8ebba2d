"""Alarms by the wall clock, which may jump.

Tests: engine/runtime/alarms.py
"""

import asyncio

from engine.runtime.alarms import LOOK_AGAIN_MS, Alarms
from engine.simulation import loop as virtual


class WallClock:
    def __init__(self) -> None:
        self.ahead_ms = 0

    def now_ms(self) -> int:
        return round(asyncio.get_running_loop().time() * 1_000) + self.ahead_ms

    def monotonic_ms(self) -> int:
        return self.now_ms()


def test_keys_are_woken_in_order_and_at_their_time() -> None:
    async def main() -> list[tuple[int, tuple[str, ...]]]:
        clock = WallClock()
        woken: list[tuple[int, tuple[str, ...]]] = []
        alarms = Alarms(clock, lambda keys: woken.append((clock.now_ms(), keys)))
        start = clock.now_ms()
        for key, at_ms in (("late", 90_000), ("soon", 10), ("also soon", 10), ("past", -5)):
            alarms.set(key, start + at_ms)
        await asyncio.sleep(100)
        alarms.close()
        return [(at - start, keys) for at, keys in woken]

    assert virtual.run(main(), seed=1) == [(0, ("past",)), (10, ("also soon", "soon")), (90_000, ("late",))]


def test_a_wall_clock_that_jumps_ahead_is_noticed() -> None:
    async def main() -> int:
        clock = WallClock()
        woken = asyncio.Event()
        alarms = Alarms(clock, lambda _: woken.set())
        alarms.set("x", clock.now_ms() + 3_600_000)
        clock.ahead_ms = 3_600_000
        began = asyncio.get_running_loop().time()
        await woken.wait()
        alarms.close()
        return round((asyncio.get_running_loop().time() - began) * 1_000)

    assert virtual.run(main(), seed=1) <= LOOK_AGAIN_MS
