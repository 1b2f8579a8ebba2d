"""A node that steps down is booted again, and that is nobody's failure.

Tests: engine/runtime/supervisor.py
"""

import asyncio
from collections.abc import Callable

from engine.ports import StoreFault
from engine.runtime.supervisor import RESTARTS_MAX, SteppedDown, Supervisor
from tests.runtime.linked import LoopClock, until, virtual


class Node:
    def __init__(self, told: Callable[[BaseException], None]) -> None:
        self.told = told

    async def close(self, reason: str = "") -> None:
        await asyncio.sleep(0)


@virtual
async def test_it_is_counted_by_none_of_the_limits() -> None:
    nodes: list[Node] = []
    given_up: list[BaseException] = []

    async def boot(told: Callable[[BaseException], None]) -> Node:
        nodes.append(Node(told))
        return nodes[-1]

    supervisor = Supervisor("n", boot, LoopClock(), given_up.append)
    await supervisor.start()

    async def ends(error: BaseException) -> None:
        count = len(nodes)
        nodes[-1].told(error)
        await until(lambda: len(nodes) > count or given_up != [])

    for _ in range(3 * RESTARTS_MAX):
        await ends(SteppedDown("another owns the pair"))
    for _ in range(RESTARTS_MAX):
        await ends(RuntimeError("a mistake"))
    assert given_up == []
    await ends(SteppedDown("another owns the pair"))
    assert given_up == []
    await ends(StoreFault("the disk"))
    assert [str(one) for one in given_up] == ["the disk"]
    await supervisor.close()
