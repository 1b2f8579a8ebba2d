"""Time and order on the virtual loop."""

import asyncio
from collections.abc import Iterator

import pytest

from engine.simulation.loop import START_MS, Deadlock, VirtualLoop, run
from tests.simulation.loops import virtual_loop


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop(1)
    yield made
    made.close()


# --- time -------------------------------------------------------------------------------------------------------------


def test_time_jumps_to_the_next_timer() -> None:
    async def main() -> tuple[float, int]:
        await asyncio.sleep(3_600)
        return virtual_loop().time(), virtual_loop().now_ns

    assert run(main(), seed=1) == (3_600.0, START_MS * 1_000_000 + 3_600 * 10**9)


def test_time_stands_still_while_anything_is_ready() -> None:
    async def main() -> float:
        virtual_loop().call_later(0.000_001, lambda: None)
        for _ in range(1_000):
            await asyncio.sleep(0)
        return virtual_loop().time()

    assert run(main(), seed=1) == 0.0


def test_the_beginning_can_be_chosen() -> None:
    async def main() -> int:
        return virtual_loop().now_ns

    assert run(main(), seed=1, start_ms=5_000) == 5_000_000_000


def test_small_delays_add_up_exactly() -> None:
    async def main() -> int:
        for _ in range(3):
            await asyncio.sleep(0.1)
        return virtual_loop().now_ns - START_MS * 1_000_000

    assert run(main(), seed=1) == 300_000_000


@pytest.mark.parametrize("when", [0.1 + 0.2, 1 / 3, 1e-10, 123_456_789.123_456_78])
def test_a_timer_set_for_an_instant_never_comes_early(when: float) -> None:
    """Else code that compares the clock with its deadline would wait again for zero time, for ever."""

    async def main() -> float:
        seen: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        loop = virtual_loop()
        loop.call_at(when, lambda: seen.set_result(loop.time()))
        return await seen

    shown = run(main(), seed=1, max_virtual_seconds=1e9)
    assert when <= shown <= when + 3e-8


def test_a_wait_for_the_rest_of_a_deadline_ends() -> None:
    async def main() -> None:
        deadline = virtual_loop().time() + 1 / 3
        while (rest := deadline - virtual_loop().time()) > 0:
            await asyncio.sleep(rest / 2)

    run(main(), seed=1, max_steps=1_000)


def test_equal_timers_come_in_the_order_they_were_set() -> None:
    async def main() -> list[int]:
        seen: list[int] = []
        for number in range(50):
            virtual_loop().call_later(1, seen.append, number)
        await asyncio.sleep(2)
        return seen

    assert run(main(), seed=1) == list(range(50))


def test_a_cancelled_timer_does_not_move_time() -> None:
    async def main() -> float:
        timers = [virtual_loop().call_later(100 + number, lambda: None) for number in range(1_000)]
        for timer in timers:
            timer.cancel()
        virtual_loop().call_later(3, lambda: None)  # sweeps the cancelled ones out
        await asyncio.sleep(5)
        return virtual_loop().time()

    assert run(main(), seed=1) == 5.0


def test_sweeping_out_cancelled_timers_keeps_the_order_of_the_others() -> None:
    async def main() -> list[int]:
        seen: list[int] = []
        loop = virtual_loop()
        timers = [
            loop.call_later(1 + number * 7919 % 1_000, seen.append, number * 7919 % 1_000) for number in range(1_000)
        ]
        for number, timer in enumerate(timers):
            if number % 4:
                timer.cancel()
        for number in range(1_000, 1_100):
            timer = loop.call_later(1 + number, seen.append, number)
            if number % 2:
                timer.cancel()  # too few to be swept out
        await asyncio.sleep(5_000)
        assert loop._environment.cancelled == 0
        return seen

    seen = run(main(), seed=1)
    assert len(seen) == 300
    assert seen == sorted(seen)


def test_a_timer_that_is_infinitely_far_is_none() -> None:
    with pytest.raises(Deadlock):
        run(asyncio.sleep(float("inf")), seed=1)


def test_timeouts_work_in_virtual_time() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(90):
                await asyncio.Event().wait()
        return virtual_loop().time()

    assert run(main(), seed=1) == 90.0


# --- order ------------------------------------------------------------------------------------------------------------


def race(seed: int, nodes: int = 4, turns: int = 20) -> list[tuple[str, int]]:
    async def main() -> list[tuple[str, int]]:
        seen: list[tuple[str, int]] = []
        for number in range(turns):
            for node in range(nodes):
                context = virtual_loop().context_of(f"n{node}")
                virtual_loop().call_soon(seen.append, (f"n{node}", number), context=context)
        await asyncio.sleep(1)
        return seen

    return run(main(), seed=seed)


def test_a_node_runs_its_callbacks_first_in_first_out() -> None:
    for seed in range(20):
        seen = race(seed)
        for node in ("n0", "n1", "n2", "n3"):
            assert [number for name, number in seen if name == node] == list(range(20))


def test_the_order_between_nodes_is_the_seeds() -> None:
    orders = {tuple(name for name, _ in race(seed)) for seed in range(20)}
    assert len(orders) == 20
    assert race(7) == race(7)


def test_one_node_alone_has_the_order_of_asyncio() -> None:
    """Zero-delay timers join behind what is ready when their turn begins; the same program on asyncio's own loop."""

    async def main() -> list[str]:
        seen: list[str] = []
        loop = asyncio.get_running_loop()

        def first() -> None:
            seen.append("first")
            loop.call_later(0, seen.append, "timer of first")
            loop.call_soon(second)

        def second() -> None:
            seen.append("second")
            loop.call_soon(seen.append, "soon of second")
            loop.call_later(0, seen.append, "timer of second")

        loop.call_soon(first)
        loop.call_soon(second)
        for _ in range(6):
            await asyncio.sleep(0)
            seen.append("turn")
        return seen

    with asyncio.Runner() as runner:
        expected = runner.run(main())
    assert run(main(), seed=1) == expected


def test_a_timer_that_is_due_does_not_wait_until_everybody_is_quiet() -> None:
    async def main() -> list[str]:
        loop = virtual_loop()
        seen: list[str] = []
        loop.call_later(1, seen.append, "came due while paused", context=loop.context_of("a"))
        loop.pause("a")
        await asyncio.sleep(2)
        loop.resume("a")
        loop.call_later(0, seen.append, "due at once", context=loop.context_of("b"))
        for _ in range(100):
            await asyncio.sleep(0)
        return seen

    assert sorted(run(main(), seed=1)) == ["came due while paused", "due at once"]


def test_a_failed_task_nobody_holds_is_reported_at_once() -> None:
    """The loop's own frames, which the traceback keeps, must not keep the task."""
    told: list[str] = []

    async def failing() -> None:
        raise ValueError("unheard")

    async def main() -> list[str]:
        virtual_loop().set_exception_handler(lambda loop, context: told.append(context["message"]))
        virtual_loop().create_task(failing())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return list(told)

    assert run(main(), seed=1) == ["Task exception was never retrieved"]


def test_stop_lets_the_batch_end_and_no_more(loop: VirtualLoop) -> None:
    seen: list[str] = []
    loop.call_soon(loop.stop)
    loop.call_soon(loop.call_soon, seen.append, "next turn")
    loop.call_soon(seen.append, "this turn")
    loop.run_forever()
    assert seen == ["this turn"]
    loop.stop()
    loop.run_forever()
    assert seen == ["this turn", "next turn"]


def test_an_interrupt_leaves_the_rest_for_later(loop: VirtualLoop) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    seen: list[str] = []
    loop.call_soon(interrupted)
    loop.call_soon(seen.append, "later")
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == ["later"]
