"""What tests of the embedded engine share: workflows in one line, and waiting for events instead of for time."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from engine import Engine, Workflow, job
from engine.client.client import EventStream, Happening
from engine.model.event import OrderEvent
from engine.model.order import Order
from engine.model.workflow import Workflow as Model

WAIT_S_MAX = 60.0  # a bound for a broken test; nothing is measured against it

E = TypeVar("E")


def shell(text: str, name: str = "shell", **options: Any) -> Model:
    """A workflow of one shell job, called `job`."""
    return Workflow(name, job("job", shell=text, **options))


def call(function: Callable[..., Any], name: str = "call", **options: Any) -> Model:
    """A workflow of one callable, called `job`."""
    return Workflow(name, job("job", python=function, **options))


async def seen(stream: EventStream, kind: type[E], order: str | None = None) -> E:
    """Read events until one of this kind (of this order) comes, and return it."""
    async with asyncio.timeout(WAIT_S_MAX):
        async for happening in stream:
            event = happening.event
            if isinstance(event, kind) and (order is None or (isinstance(event, OrderEvent) and event.order == order)):
                return event
    raise AssertionError(f"no {kind.__name__} came")


async def read(stream: EventStream, until: Callable[[Happening], bool]) -> list[Happening]:
    """Read events up to and with the first that fits."""
    found: list[Happening] = []
    async with asyncio.timeout(WAIT_S_MAX):
        async for happening in stream:
            found.append(happening)
            if until(happening):
                return found
    raise AssertionError(f"it did not come; the last of {len(found)} was {found[-1:]}")


async def true(condition: Callable[[], bool]) -> None:
    """Wait until something that nobody announces is so."""
    async with asyncio.timeout(WAIT_S_MAX):
        while not condition():
            await asyncio.sleep(0)


async def run(state: Path, workflow: Model, variables: dict[str, Any] | None = None, **options: Any) -> Order:
    """Open an engine, run one order to its end, whatever it is, and close again."""
    async with asyncio.timeout(WAIT_S_MAX), Engine(state=state, **options) as engine:
        order = await engine.add_order(workflow, variables)
        ended = await order.ended()
        assert restarts(engine) == 0, "no node may end for what a job does"
        return ended


def restarts(engine: Engine) -> int:
    """How often a node of this engine was booted again."""
    return sum(one.restarts for one in engine._supervisors)


def node(engine: Engine, name: str) -> Any:
    """A node of an engine, to look inside or to end it."""
    return next(one for one in engine._supervisors if one.name == name).node
