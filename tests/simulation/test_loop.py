"""What the virtual loop refuses, and how `run` ends.

Tests: engine/simulation/loop_refusals.py
"""

import asyncio
import contextlib
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from engine.simulation.loop import NODE, Deadlock, Escape, VirtualLoop, run
from engine.simulation.loop_refusals import Refusals
from tests.simulation.loops import start, virtual_loop, wait_for_nobody


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop(1)
    yield made
    made.close()


# --- the world outside ------------------------------------------------------------------------------------------------


def test_threads_are_refused() -> None:
    async def main() -> None:
        with pytest.raises(Escape, match=r"run_in_executor\(len\) needs a thread"):
            virtual_loop().run_in_executor(None, len, "abc")
        with pytest.raises(Escape, match="inline_executor"):
            await asyncio.to_thread(len, "abc")
        assert len(virtual_loop().escapes) == 2

    run(main(), seed=1)


def test_an_inline_executor_runs_functions_at_a_later_turn() -> None:
    def function(word: str) -> str:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return word * 2

    def failing() -> None:
        raise OSError("disk")

    def stopping() -> None:
        raise StopIteration

    async def main() -> None:
        loop = virtual_loop()
        waiting = loop.run_in_executor(None, function, "ab")
        assert not waiting.done()
        assert await waiting == "abab"
        assert asyncio.get_running_loop() is loop
        assert await asyncio.to_thread(function, "c") == "cc"
        with pytest.raises(OSError, match="disk"):
            await loop.run_in_executor(None, failing)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await loop.run_in_executor(None, stopping)
        ran: list[int] = []
        loop.run_in_executor(None, ran.append, 1).cancel()
        await asyncio.sleep(1)
        assert ran == []

    run(main(), seed=1, inline_executor=True)


def test_every_method_of_asyncios_loop_is_either_there_or_refused() -> None:
    for name in dir(asyncio.AbstractEventLoop):
        if not name.startswith("_"):
            assert getattr(VirtualLoop, name) is not getattr(asyncio.AbstractEventLoop, name), name
    touching = {name for name in dir(asyncio.SelectorEventLoop) if name.startswith(("sock_", "create_", "connect_"))}
    assert touching - {"create_task", "create_future"} <= set(vars(Refusals))


REFUSED = [
    name for name, value in vars(Refusals).items() if not name.startswith("_") and name != "escape" and callable(value)
]


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_the_real_world_is_refused_with_a_word_on_what_to_use(loop: VirtualLoop, name: str) -> None:
    with pytest.raises(Escape, match=rf"loop\.{name} leaves the simulation: \w+"):
        getattr(loop, name)()
    assert len(loop.escapes) == 1


def test_asyncios_own_openers_end_in_a_refusal_that_is_kept() -> None:
    async def main() -> list[str]:
        for opening in (
            asyncio.open_connection("127.0.0.1", 1),
            asyncio.start_server(lambda reader, writer: None, port=0),
            asyncio.create_subprocess_exec("true"),
        ):
            with contextlib.suppress(Exception):
                await opening
        return virtual_loop().escapes

    escapes = run(main(), seed=1)
    assert [text.split()[0] for text in escapes] == [
        "loop.create_connection",
        "loop.create_server",
        "loop.subprocess_exec",
    ]


def test_another_thread_may_not_call_in(loop: VirtualLoop) -> None:
    caught: list[BaseException] = []

    def call() -> None:
        try:
            loop.call_soon_threadsafe(print)
        except Escape as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert "another thread" in str(caught[0])
    seen: list[int] = []
    loop.call_soon_threadsafe(seen.append, 1)
    loop.run_until_complete(asyncio.sleep(0))
    assert seen == [1]


# --- run --------------------------------------------------------------------------------------------------------------


def test_run_cancels_what_is_left_and_lets_it_finish_in_virtual_time() -> None:
    seen: list[str] = []

    async def background(node: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(30)
            seen.append(f"{node} closed at {virtual_loop().time():g}")

    async def main() -> str:
        for node in ("a", "b", "parked"):
            start(node, background(node))
        await asyncio.sleep(1)
        virtual_loop().pause("parked")
        return "result"

    assert run(main(), seed=1) == "result"
    assert sorted(seen) == ["a closed at 31", "b closed at 31"]


def test_run_raises_what_main_raises() -> None:
    async def main() -> None:
        start("a", wait_for_nobody())
        raise ValueError("of main")

    with pytest.raises(ValueError, match="of main"):
        run(main(), seed=1)


def test_run_does_not_wait_for_ever_for_a_task_that_ignores_its_end() -> None:
    async def deaf() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async def main() -> None:
        start("a", deaf(), name="deaf")
        await asyncio.sleep(1)

    with pytest.raises(Deadlock, match=r"deaf \[a\]"):
        run(main(), seed=1)


def test_a_node_that_crashes_while_everything_ends_holds_nothing_up() -> None:
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(60)

    async def main() -> int:
        start("a", slow())
        start("b", slow())
        await asyncio.sleep(1)
        virtual_loop().call_later(5, virtual_loop().crash, "a")
        return 7

    assert run(main(), seed=1) == 7


def test_run_closes_async_generators_of_the_living() -> None:
    seen: list[str] = []

    async def stream() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(1)
            seen.append(NODE.get() or "environment")

    held: list[AsyncIterator[int]] = []

    async def reader() -> None:
        held.append(stream())
        await anext(held[-1])

    async def main() -> None:
        await reader()
        await start("a", reader())
        await start("b", reader())
        virtual_loop().crash("a")

    run(main(), seed=1)
    held.clear()
    gc.collect()
    assert seen == ["environment", "environment"]  # its own and that of b, closed by the loop as asyncio does


def test_a_dropped_async_generator_is_closed_in_its_own_node() -> None:
    seen: list[str] = []

    async def stream() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(1)
            seen.append(NODE.get())

    held: list[AsyncIterator[int]] = []

    async def reader() -> None:
        held.append(stream())
        await anext(held[-1])

    async def main() -> None:
        await start("a", reader())
        held.clear()  # here, by the environment
        await asyncio.sleep(2)

    run(main(), seed=1)
    assert seen == ["a"]


def test_an_async_generator_dropped_after_the_crash_starts_nothing() -> None:
    async def stream() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            pytest.fail("closed")

    held: list[AsyncIterator[int]] = []

    async def reader() -> None:
        held.append(stream())
        await anext(held[-1])

    async def main() -> None:
        loop = virtual_loop()
        await start("a", reader())
        loop.crash("a")
        held.clear()
        assert not loop._lane("a").ready
        await asyncio.sleep(1)

    run(main(), seed=1)


def test_run_puts_the_garbage_collector_back_and_leaves_no_loop() -> None:
    assert gc.isenabled()

    async def main() -> None:
        assert not gc.isenabled()
        for _ in range(20_000):  # far enough for a collection of our own
            await asyncio.sleep(0)

    run(main(), seed=1)
    assert gc.isenabled()
    with pytest.raises(Deadlock):
        run(wait_for_nobody(), seed=1)
    assert gc.isenabled()


async def test_run_is_refused_inside_a_running_loop() -> None:
    with pytest.raises(RuntimeError, match="within a running event loop"):
        run(wait_for_nobody(), seed=1)


def test_run_wants_a_coroutine() -> None:
    not_one: Any = wait_for_nobody
    with pytest.raises(ValueError, match="coroutine"):
        run(not_one, seed=1)


def test_debug_mode_works_too() -> None:
    async def main() -> float:
        start("a", asyncio.sleep(5))
        await asyncio.sleep(1)
        return virtual_loop().time()

    assert run(main(), seed=1, debug=True) == 1.0


def test_a_runner_of_asyncio_can_use_the_loop() -> None:
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(3)) as runner:
        assert runner.run(asyncio.sleep(1, "result")) == "result"
