"""What a crash leaves: tasks that never end, and `finally` blocks that run only when the loop is closed.

Tests: engine/simulation/loop_tasks.py
"""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator

import pytest

from engine.simulation.loop import NODE, VirtualLoop, run
from tests.simulation.loops import start, virtual_loop


def test_a_crash_leaves_finally_unrun_and_nothing_runs_again() -> None:
    seen: list[str] = []

    async def victim() -> None:
        try:
            while True:
                await asyncio.sleep(1)
                seen.append("beat")
        finally:
            seen.append(f"finally of {NODE.get()}")

    async def main() -> list[str]:
        loop = virtual_loop()
        start("a#1", victim())
        await asyncio.sleep(2.5)
        loop.call_soon(seen.append, "ready at the crash", context=loop.context_of("a#1"))
        loop.crash("a#1")
        loop.call_soon(seen.append, "after the crash", context=loop.context_of("a#1"))
        loop.call_later(1, seen.append, "timer after the crash", context=loop.context_of("a#1"))
        late = start("a#1", victim())
        await asyncio.sleep(10)
        gc.collect()
        assert not late.done()
        assert late not in asyncio.all_tasks()
        assert loop.is_crashed("a#1")
        return list(seen)

    assert run(main(), seed=1) == ["beat", "beat"]
    assert seen == ["beat", "beat", "finally of a#1"]  # only when the loop was closed


def test_the_tasks_of_a_crashed_node_are_kept_but_not_counted() -> None:
    async def main() -> None:
        loop = virtual_loop()
        victim = start("a", asyncio.Event().wait())
        await asyncio.sleep(0)
        kept = weakref.ref(victim)
        loop.crash("a")
        del victim
        gc.collect()
        assert kept() is not None
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main(), seed=1)


def test_a_crashed_node_closes_nothing_before_the_end() -> None:
    """Its context managers, async generators and unstarted coroutines all stay, and no warning comes of them."""
    seen: list[str] = []

    async def stream() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            seen.append("stream")

    @contextlib.asynccontextmanager
    async def guarded() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.sleep(1)
            seen.append("guarded")

    async def victim() -> None:
        async with guarded(), asyncio.TaskGroup() as group:
            group.create_task(asyncio.Event().wait())
            async for _ in stream():
                await asyncio.Event().wait()

    async def main() -> None:
        start("a", victim())
        await asyncio.sleep(1)
        dropped = stream()
        await anext(dropped)
        start("a", victim())  # never begins
        virtual_loop().crash("a")
        gc.collect()
        await asyncio.sleep(1)
        assert seen == []
        await dropped.aclose()  # type: ignore[attr-defined]

    run(main(), seed=1)
    gc.collect()
    assert seen == ["stream"]  # that of the environment


def test_a_coroutine_that_waits_again_while_it_is_buried_is_closed_all_the_same() -> None:
    async def stubborn() -> None:
        for _ in range(3):
            with contextlib.suppress(GeneratorExit):
                await asyncio.Event().wait()

    is_over = asyncio.Event()

    async def endless() -> None:
        while not is_over.is_set():
            with contextlib.suppress(GeneratorExit):
                await asyncio.Event().wait()

    loop = VirtualLoop(1)
    for work in (stubborn(), endless()):
        loop.create_task(work, context=loop.context_of("a"))
    loop.call_later(1, loop.crash, "a")
    loop.run_until_complete(asyncio.sleep(2))
    loop.close()
    gc.collect()
    assert len(loop.complaints) > 3
    assert all("ignored GeneratorExit" in line for line in loop.complaints)
    is_over.set()  # else it would complain once more when Python ends


def test_a_node_may_crash_from_within() -> None:
    seen: list[str] = []

    async def victim() -> None:
        virtual_loop().crash("a")
        seen.append("the rest of the callback")
        await asyncio.sleep(0)
        seen.append("never")

    async def main() -> None:
        start("a", victim())
        await asyncio.sleep(1)

    run(main(), seed=1)
    assert seen == ["the rest of the callback"]


def test_a_failure_nobody_asked_about_dies_with_its_node(caplog: pytest.LogCaptureFixture) -> None:
    async def failing() -> None:
        raise ValueError("lost with the machine")

    async def main() -> None:
        failed = start("a", failing())
        await asyncio.sleep(1)
        virtual_loop().crash("a")
        assert failed.done()

    run(main(), seed=1)
    gc.collect()
    assert caplog.records == []


def test_the_environment_is_not_a_node() -> None:
    async def main() -> None:
        for act in (virtual_loop().crash, virtual_loop().pause, virtual_loop().resume):
            with pytest.raises(ValueError, match="not a node"):
                act("")
        with pytest.raises(ValueError, match="not a node"):
            virtual_loop().drift("", 5)

    run(main(), seed=1)
