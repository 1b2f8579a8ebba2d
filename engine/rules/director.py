"""Director: the choice of a subagent, and who stands in line when there is none. Floor 3.

* Pure, and part of the agent's decision: the choice is the event AttemptAssigned, durable before anything starts.
* A bundle's highest priority that has a free subagent is taken; equal priorities take turns, beginning behind the
  last one taken. Without a bundle all subagents of the agent take turns.
"""

from collections.abc import Iterator
from itertools import islice

import msgspec

from engine.base.ids import AgentId, BundleId, OrderId, SubagentId
from engine.model.item import BundleItem, SubagentItem
from engine.model.obstacle import (
    AgentLimitReached,
    AnyObstacle,
    JobLimitReached,
    NoFreeSubagent,
    NoSubagent,
)

ALL = BundleId("")


class SubagentState(msgspec.Struct, array_like=True):
    """A subagent as its agent sees it."""

    item: SubagentItem
    incarnation: int = 0
    is_coupled: bool = False


class Slots:
    """What runs where: derived from the orders, never stored."""

    def __init__(self) -> None:
        self.by_subagent: dict[SubagentId, dict[OrderId, None]] = {}
        self.by_job: dict[str, int] = {}
        self.total = 0

    def take(self, order: OrderId, subagent: SubagentId, job: str) -> None:
        """Count an attempt that was assigned."""
        self.by_subagent.setdefault(subagent, {})[order] = None
        self.by_job[job] = self.by_job.get(job, 0) + 1
        self.total += 1

    def release(self, order: OrderId, subagent: SubagentId, job: str) -> None:
        """Count an attempt that ended."""
        del self.by_subagent[subagent][order]
        self.total -= 1
        if self.by_job[job] == 1:
            del self.by_job[job]
        else:
            self.by_job[job] -= 1

    def running(self, subagent: SubagentId) -> int:
        """Return how many attempts a subagent runs."""
        return len(self.by_subagent.get(subagent, ()))


class Lines:
    """Orders standing in line, by what they expect; in each line by priority, then first come first served."""

    def __init__(self) -> None:
        self._lines: dict[str, dict[int, dict[OrderId, None]]] = {}
        self._places: dict[OrderId, tuple[str, int]] = {}

    def join(self, order: OrderId, line: str, priority: int) -> None:
        """Put an order at the end of a line, leaving another one it stood in."""
        self.leave(order)
        self._lines.setdefault(line, {}).setdefault(priority, {})[order] = None
        self._places[order] = (line, priority)

    def leave(self, order: OrderId) -> bool:
        """Take an order out of its line; tell whether it stood in one."""
        place = self._places.pop(order, None)
        if place is None:
            return False
        line, priority = place
        ranks = self._lines[line]
        del ranks[priority][order]
        if not ranks[priority]:
            del ranks[priority]
            if not ranks:
                del self._lines[line]
        return True

    def heads(self, count: int = 1) -> Iterator[OrderId]:
        """Yield the first `count` orders of each line."""
        for ranks in list(self._lines.values()):
            orders = (order for priority in sorted(ranks, reverse=True) for order in ranks[priority])
            yield from list(islice(orders, count))

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[OrderId]:
        return iter(self._places)


def line_of(obstacle: AnyObstacle | None) -> str | None:
    """Return the line in which an obstacle makes an order stand, None for what no free slot can end."""
    if isinstance(obstacle, JobLimitReached):
        return f"job {obstacle.job}"
    if isinstance(obstacle, NoSubagent | NoFreeSubagent):
        return f"bundle {obstacle.bundle}"
    if isinstance(obstacle, AgentLimitReached):
        return "agent"
    return None


def choose(
    subagents: dict[SubagentId, SubagentState],
    bundle: BundleItem | None,
    slots: Slots,
    last: SubagentId | None,
) -> SubagentId | AnyObstacle:
    """Return the subagent for the next attempt of a bundle (None: of all), or why there is none."""
    name = "" if bundle is None else bundle.id
    usable = [
        (-priority, subagent)
        for subagent, priority in _members(subagents, bundle)
        if subagents[subagent].is_coupled and not subagents[subagent].item.disabled
    ]
    if not usable:
        return NoSubagent(name)
    free = [(rank, one) for rank, one in usable if slots.running(one) < subagents[one].item.parallel_max]
    if not free:
        return NoFreeSubagent(name)
    best = min(rank for rank, _ in free)
    return _turn([one for rank, one in free if rank == best], list(subagents), last)


def limit_obstacle(
    agent: AgentId, slots: Slots, job: str, job_limit: int | None, agent_limit: int | None
) -> JobLimitReached | AgentLimitReached | None:
    """Return which limit of parallel attempts is reached, None when there is room."""
    if agent_limit is not None and slots.total >= agent_limit:
        return AgentLimitReached(agent, agent_limit)
    if job_limit is not None and slots.by_job.get(job, 0) >= job_limit:
        return JobLimitReached(job, job_limit)
    return None


def _members(
    subagents: dict[SubagentId, SubagentState], bundle: BundleItem | None
) -> list[tuple[SubagentId, int]]:
    if bundle is None:
        return [(subagent, 0) for subagent in subagents]
    return [(subagent, priority) for subagent, priority in bundle.priorities.items() if subagent in subagents]


def _turn(candidates: list[SubagentId], ring: list[SubagentId], last: SubagentId | None) -> SubagentId:
    if len(candidates) == 1 or last not in ring:
        return candidates[0]
    place = {subagent: number for number, subagent in enumerate(ring)}
    behind = place[last]
    return min(candidates, key=lambda one: (place[one] - behind - 1) % len(ring))
