"""The supervisor: one word of a node is one restart, and no closing is broken off.

Tests: engine/runtime/supervisor.py
"""

import asyncio
from collections.abc import Callable

from engine.runtime.real_clock import RealClock
from engine.runtime.supervisor import Supervisor


class Node:
    """A node whose closing takes as long as the test wants, and can not be repeated when it was broken off."""

    def __init__(self, told: Callable[[BaseException], None], gate: asyncio.Event) -> None:
        self.told = told
        self.gate = gate
        self.closing = 0
        self.closed = 0

    async def close(self, reason: str = "") -> None:
        self.closing += 1
        await self.gate.wait()
        self.closed += 1


class Bench:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.gate = asyncio.Event()
        self.booting: asyncio.Event | None = None
        self.given_up: list[BaseException] = []
        self.supervisor = Supervisor("n", self.boot, RealClock(), self.given_up.append)

    async def boot(self, told: Callable[[BaseException], None]) -> Node:
        if self.booting is not None:
            await self.booting.wait()
        self.nodes.append(Node(told, self.gate))
        return self.nodes[-1]


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_a_node_says_twice_or_later_ends_no_other_node() -> None:
    bench = Bench()
    bench.gate.set()
    await bench.supervisor.start()
    first = bench.nodes[0]
    first.told(RuntimeError("one"))
    first.told(RuntimeError("two"))
    await settled()
    first.told(RuntimeError("late"))
    await settled()
    assert (len(bench.nodes), bench.supervisor.restarts, bench.nodes[1].closing) == (2, 1, 0)
    await bench.supervisor.close()


async def test_a_closing_under_way_is_waited_for_and_not_begun_again() -> None:
    bench = Bench()
    await bench.supervisor.start()
    bench.nodes[0].told(RuntimeError("one"))
    await settled()
    closing = asyncio.ensure_future(bench.supervisor.close())
    await settled()
    assert not closing.done()
    bench.gate.set()
    await closing
    assert (bench.nodes[0].closing, bench.nodes[0].closed, len(bench.nodes)) == (1, 1, 1)
    await bench.supervisor.close()


async def test_a_boot_under_way_is_broken_off_by_the_close() -> None:
    bench = Bench()
    bench.gate.set()
    await bench.supervisor.start()
    bench.booting = asyncio.Event()
    bench.nodes[0].told(RuntimeError("one"))
    await settled()
    await bench.supervisor.close()
    assert (len(bench.nodes), bench.given_up) == (1, [])


async def test_a_boot_that_fails_counts_as_a_restart() -> None:
    bench = Bench()
    bench.gate.set()
    await bench.supervisor.start()

    async def fails(told: Callable[[BaseException], None]) -> Node:
        told(RuntimeError("said while booting"))
        raise OSError("no")

    bench.supervisor._boot = fails
    bench.nodes[0].told(RuntimeError("one"))
    await settled()
    await settled()
    assert bench.supervisor.restarts == 5
    assert len(bench.given_up) == 1
    await bench.supervisor.close()
