"""What the tests of the virtual loop share: the running loop, and a task started in a node."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from engine.simulation.loop import VirtualLoop


def virtual_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def start(node: str, work: Coroutine[Any, Any, Any], name: str | None = None) -> asyncio.Task[Any]:
    loop = virtual_loop()
    return loop.create_task(work, name=name, context=loop.context_of(node))


async def wait_for_nobody() -> None:
    await asyncio.Event().wait()
