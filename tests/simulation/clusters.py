"""What the tests of simulated clusters share: virtual time, a workflow, a cluster that has started."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

from engine.base.ids import AgentId
from engine.jobs.shell import ShellJob
from engine.model.job import OnLost
from engine.model.workflow import Workflow
from engine.rules.instructions.job import Execute
from engine.simulation.audit import audit, unsettled
from engine.simulation.cluster import SimCluster
from engine.simulation.loop import VirtualLoop, run

VirtualTest = Callable[..., Awaitable[None]]


def virtual(test: VirtualTest) -> Callable[..., None]:
    """Run an async test in virtual time."""

    @functools.wraps(test)
    def in_virtual_time(*args: Any, **named: Any) -> None:
        async def main() -> None:
            await test(*args, **named)

        run(main(), seed=0)

    return in_virtual_time


def virtual_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def step(name: str, agent: str = "a", on_lost: OnLost = OnLost.HOLD, **fields: Any) -> Execute:
    """A process on an agent."""
    return Execute(name, ShellJob("work"), agent=AgentId(agent), on_lost=on_lost, **fields)


async def started(*steps: Any, seed: int = 0, **options: Any) -> SimCluster:
    """A cluster of one agent (unless told otherwise) that has started, with the workflow `w` of these steps."""
    options.setdefault("agents", {"a": 1})
    cluster = SimCluster(virtual_loop(), seed, **options)
    await cluster.start()
    await cluster.deploy(Workflow("w", "", tuple(steps) or (step("one"),)))
    return cluster


async def quiet(cluster: SimCluster, seconds: float = 600) -> None:
    """Wait until nothing is under way, and compare all accounts."""
    try:
        await cluster.until(lambda: not any(unsettled(cluster)), "all is quiet", seconds=seconds)
    except TimeoutError:
        raise AssertionError("\n".join(unsettled(cluster))) from None
    assert list(audit(cluster)) == []


async def closed(cluster: SimCluster) -> None:
    """Close it; nothing may have been found."""
    await cluster.close()
    cluster.raise_breaches()


def journaled(cluster: SimCluster, node: str) -> list[Any]:
    """Every durable event of a node."""
    records = cluster.nodes[node].disk.image.records
    return [event for record in records for event in cluster.language.decode_events(record.events)]


def kinds(cluster: SimCluster, node: str, order: str) -> list[str]:
    """The names of a node's durable events of one order."""
    return [type(event).__name__ for event in journaled(cluster, node) if getattr(event, "order", None) == order]
