"""Same seed, same trace; and what a loop says that cannot go on, or does not end."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.simulation.loop import Deadlock, Runaway, VirtualLoop, run
from tests.simulation.loops import start, virtual_loop, wait_for_nobody

ROOT = Path(__file__).parents[2]


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop(1)
    yield made
    made.close()


# --- determinism ------------------------------------------------------------------------------------------------------


MESSY = """
import asyncio, sys
from engine.simulation.loop import VirtualLoop, run

async def spin(number):
    for turn in range(number % 7):
        await asyncio.sleep((number % 3) / 1000)
    return number

async def stream(number):
    try:
        for turn in range(number):
            yield turn
            await asyncio.sleep(0.001)
    finally:
        await asyncio.sleep(0.002)

async def node(number):
    queue = asyncio.Queue()
    async with asyncio.TaskGroup() as group:
        for one in range(10):
            group.create_task(spin(number + one))
    pending = {asyncio.ensure_future(spin(number * one)) for one in range(10)}
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for one in done:  # a set: its order is that of the hashes
            queue.put_nowait(one.result())
            await asyncio.sleep(0)
    async for turn in stream(5):
        break
    for word in sorted({"a", "b", "c"}):
        await asyncio.sleep(0)
    if number == 3:
        asyncio.get_running_loop().crash("n5")
    await asyncio.wait({asyncio.ensure_future(asyncio.sleep(one / 100)) for one in range(5)}, timeout=0.03)

async def main():
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(node(number), context=loop.context_of(f"n{number}")) for number in range(8)]
    await asyncio.wait(tasks, timeout=5)
    return loop.digest(), loop.steps

print(*run(main(), seed=int(sys.argv[1])))
"""


def messy(seed: int, hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", MESSY, str(seed)], env=environment, capture_output=True, text=True, check=True
    )
    return ended.stdout


def test_same_seed_same_trace_under_every_hash_seed() -> None:
    traces = {messy(11, hash_seed) for hash_seed in ("0", "1", "4242", "random")}
    assert len(traces) == 1
    assert messy(12, "0") not in traces


def test_the_digest_sees_time_node_and_callback() -> None:
    async def sleeper(delay: float) -> None:
        await asyncio.sleep(delay)

    async def other(delay: float) -> None:
        await asyncio.sleep(delay)

    def digest(work: Callable[[float], Coroutine[Any, Any, None]], node: str, delay: float) -> str:
        async def main() -> str:
            await start(node, work(delay))
            return virtual_loop().digest()

        return run(main(), seed=1)

    assert digest(sleeper, "a", 1) == digest(sleeper, "a", 1)
    assert len({digest(sleeper, "a", 1), digest(sleeper, "a", 2), digest(sleeper, "b", 1), digest(other, "a", 1)}) == 4


def test_each_step_can_be_watched() -> None:
    seen: list[tuple[int, str, str]] = []

    async def main() -> int:
        virtual_loop().on_step = lambda at_ns, node, name: seen.append((at_ns, node, name))
        await start("a", asyncio.sleep(2))
        return virtual_loop().steps

    steps = run(main(), seed=1)
    assert steps == next(number for number, (at_ns, _, name) in enumerate(seen, 2) if at_ns and name.endswith("main"))
    assert any(at_ns == 2 * 10**9 and node == "a" and name.endswith("sleep") for at_ns, node, name in seen)


def test_tasks_and_futures_are_hashed_by_number() -> None:
    async def main() -> None:
        loop = virtual_loop()
        future = loop.create_future()
        tasks = [loop.create_task(asyncio.sleep(0)) for _ in range(5)]
        hashes = [hash(one) for one in (future, *tasks)]
        assert hashes == list(range(hashes[0], hashes[0] + 6))
        assert list(set(tasks)) == sorted(tasks, key=hash)
        await asyncio.wait(tasks)

    run(main(), seed=1)


def test_unnamed_tasks_have_the_same_names_every_time() -> None:
    async def main() -> list[str]:
        tasks = [virtual_loop().create_task(asyncio.sleep(0)) for _ in range(3)]
        await asyncio.wait(tasks)
        return [task.get_name() for task in tasks]

    assert run(main(), seed=1) == run(main(), seed=2)


# --- deadlock and runaway ---------------------------------------------------------------------------------------------


def test_a_deadlock_says_who_waits_where() -> None:
    async def main() -> None:
        start("agent#1", wait_for_nobody(), name="reader")
        start("agent#2", wait_for_nobody(), name="sleeper")
        start("agent#3", wait_for_nobody(), name="victim")
        virtual_loop().call_later(1, virtual_loop().pause, "agent#2")
        virtual_loop().call_later(1, virtual_loop().crash, "agent#3")
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock) as caught:
        run(main(), seed=1)
    text = str(caught.value)
    assert "1.000000 s" in text
    assert "3 waiting" in text
    assert "reader [agent#1] wait_for_nobody (simulation/loops.py:" in text
    assert "→ Event.wait (asyncio/locks.py:" in text
    assert "[environment] test_a_deadlock_says_who_waits_where" in text
    assert "agent#2 is paused" in text
    assert "agent#3 has crashed" in text
    assert "victim" not in text


def test_a_deadlock_names_a_bounded_number() -> None:
    async def main() -> None:
        for _ in range(100):
            start("a", wait_for_nobody())
        await wait_for_nobody()

    with pytest.raises(Deadlock, match="101 waiting") as caught:
        run(main(), seed=1)
    assert "… and 61 more" in str(caught.value)
    assert str(caught.value).count("\n") < 50


def test_a_loop_left_running_with_no_work_is_a_deadlock(loop: VirtualLoop) -> None:
    with pytest.raises(Deadlock, match="no task waits"):
        loop.run_forever()


def test_a_loop_without_end_is_a_runaway() -> None:
    async def main() -> None:
        await asyncio.sleep(3)
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Runaway, match=r"1,000 steps .* time has stood at 3\.000000 s for 9\d\d steps.*main"):
        run(main(), seed=1, max_steps=1_000)


def test_virtual_time_is_bounded() -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(60)

    with pytest.raises(Runaway, match="3600 virtual seconds"):
        run(main(), seed=1, max_virtual_seconds=3_600)
