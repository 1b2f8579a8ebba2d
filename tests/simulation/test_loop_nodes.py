"""Nodes that pause, and nodes whose clocks drift."""

import asyncio
from collections.abc import Iterator

import pytest

from engine.simulation.loop import NODE, START_MS, VirtualLoop, run
from tests.simulation.loops import start, virtual_loop


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop(1)
    yield made
    made.close()


def test_a_paused_node_goes_on_where_it_was_in_the_same_order() -> None:
    async def main() -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
        loop = virtual_loop()
        seen: list[tuple[str, float]] = []
        context = loop.context_of("a")

        def note(name: str) -> None:
            seen.append((name, loop.time()))

        loop.call_later(3, note, "timer 3", context=context)
        loop.call_later(2, note, "timer 2", context=context)
        loop.call_later(20, note, "timer 20", context=context)
        loop.call_soon(note, "ready 1", context=context)
        loop.pause("a")
        loop.call_soon(note, "ready 2", context=context)
        await asyncio.sleep(10)
        before = list(seen)
        loop.resume("a")
        await asyncio.sleep(20)
        return before, seen

    before, after = run(main(), seed=1)
    assert before == []
    assert after == [("ready 1", 10.0), ("ready 2", 10.0), ("timer 2", 10.0), ("timer 3", 10.0), ("timer 20", 20.0)]


def test_a_node_may_pause_itself_in_the_middle_of_its_batch() -> None:
    async def main() -> list[int]:
        loop = virtual_loop()
        seen: list[int] = []
        for number in range(4):
            loop.call_soon(seen.append, number, context=loop.context_of("a"))
            if number == 1:
                loop.call_soon(loop.pause, "a", context=loop.context_of("a"))
        await asyncio.sleep(1)
        assert seen == [0, 1]
        loop.resume("a")
        loop.resume("a")
        await asyncio.sleep(1)
        return seen

    assert run(main(), seed=1) == [0, 1, 2, 3]


def test_a_crashed_node_is_not_brought_back_by_resume() -> None:
    async def main() -> list[int]:
        loop = virtual_loop()
        seen: list[int] = []
        loop.pause("a")
        loop.call_soon(seen.append, 1, context=loop.context_of("a"))
        loop.crash("a")
        loop.resume("a")
        await asyncio.sleep(1)
        return seen

    assert run(main(), seed=1) == []


def test_a_drifting_clock_runs_at_its_own_rate_and_its_timers_with_it() -> None:
    async def sleeper(seen: list[tuple[str, float, int]]) -> None:
        await asyncio.sleep(100)
        seen.append((NODE.get(), virtual_loop().time(), virtual_loop().now_ns - START_MS * 1_000_000))

    async def main() -> list[tuple[str, float, int]]:
        loop = virtual_loop()
        seen: list[tuple[str, float, int]] = []
        loop.drift("fast", 250_000)
        loop.drift("slow", -200_000)
        for node in ("fast", "slow", "true"):
            start(node, sleeper(seen))
        await asyncio.sleep(200)
        return seen

    assert run(main(), seed=1) == [
        ("fast", 100.0, 80 * 10**9),
        ("true", 100.0, 100 * 10**9),
        ("slow", 100.0, 125 * 10**9),
    ]


def test_a_change_of_drift_moves_timers_already_set_but_not_the_clock() -> None:
    async def main() -> list[float]:
        loop = virtual_loop()
        seen: list[float] = []
        loop.call_later(100, lambda: seen.append(loop.time()), context=loop.context_of("a"))
        read = loop.context_of("a").run
        await asyncio.sleep(50)
        loop.drift("a", 250_000)
        seen.append(read(loop.time))
        await asyncio.sleep(41)  # due at 50 + 50 / 1.25 = 90
        assert len(seen) == 2
        loop.drift("a", 0)
        seen.append(read(loop.time))
        assert read(loop.clock_ns) - loop.now_ns == 10_250_000_000
        assert loop.clock_ns() == loop.now_ns
        await asyncio.sleep(10)
        seen.append(read(loop.time))
        return seen

    assert run(main(), seed=1) == [50.0, 100.0, 101.25, 111.25]


def test_an_instant_is_read_on_the_clock_of_who_names_it() -> None:
    async def main() -> float:
        loop = virtual_loop()
        loop.drift("a", 500_000)
        await asyncio.sleep(100)
        came: asyncio.Future[int] = loop.create_future()
        loop.call_at(loop.time() + 1, lambda: came.set_result(loop.now_ns), context=loop.context_of("a"))
        return (await came - START_MS * 1_000_000) / 10**9

    assert run(main(), seed=1) == pytest.approx(101.0)


def test_a_clock_off_by_more_than_half_is_refused(loop: VirtualLoop) -> None:
    with pytest.raises(ValueError, match="ppm"):
        loop.drift("a", 600_000)
