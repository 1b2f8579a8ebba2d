"""Director: the choice of a subagent, and who stands in line when there is none. Floor 3.

* Pure, and part of the agent's decision: the choice is the event AttemptAssigned, durable before anything starts.
* A bundle's highest priority that has a free subagent is taken; equal priorities take turns, beginning behind the
  last one taken. Without a bundle all subagents of the agent take turns.
* A line is of orders that need the very same, so when its head can not go nobody in it can, and an order keeps its
  line and its place whatever the obstacle of the moment is. Whoever frees a place wakes heads; a head that has left
  wakes the next.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator

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

Need = tuple[str, int | None, str]  # the job whose limit counts ("" without a limit), the limit, the bundle


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


class Line:
    """Orders that need the same: by priority, then first come first served."""

    __slots__ = ("priorities", "ranks")

    def __init__(self) -> None:
        self.ranks: dict[int, OrderedDict[OrderId, None]] = {}  # ordered: a plain dict is slow to give its first
        self.priorities: list[int] = []  # of the ranks, the lowest first

    @property
    def head(self) -> OrderId:
        """The order that goes first."""
        return next(iter(self.ranks[self.priorities[-1]]))


class Lines:
    """All lines of an agent."""

    def __init__(self) -> None:
        self.left: Need | None = None  # the line somebody left by the event that was applied last
        self._lines: dict[Need, Line] = {}
        self._places: dict[OrderId, tuple[Need, int, int]] = {}  # order → its line, its priority, its number
        self._number = 0

    def join(self, order: OrderId, need: Need, priority: int) -> None:
        """Put an order at the end of a line; one that stands there keeps its place."""
        known = self._places.get(order)
        if known is not None:
            if known[:2] == (need, priority):
                return
            self.leave(order)
        line = self._lines.setdefault(need, Line())
        rank = line.ranks.get(priority)
        if rank is None:
            rank = line.ranks[priority] = OrderedDict()
            insort(line.priorities, priority)
        rank[order] = None
        self._number += 1
        self._places[order] = (need, priority, self._number)

    def leave(self, order: OrderId) -> bool:
        """Take an order out of its line; tell whether it stood in one."""
        place = self._places.pop(order, None)
        if place is None:
            return False
        need, priority, _ = place
        line = self._lines[need]
        del line.ranks[priority][order]
        if not line.ranks[priority]:
            del line.ranks[priority]
            del line.priorities[bisect_left(line.priorities, priority)]
            if not line.ranks:
                del self._lines[need]
        self.left = need
        return True

    def head(self, need: Need) -> OrderId | None:
        """Return the order that goes first in a line, None when nobody stands there."""
        line = self._lines.get(need)
        return None if line is None else line.head

    def ahead_of(self, order: OrderId, need: Need, priority: int) -> OrderId | None:
        """Return the head of a line if it goes before this order, which stands there or has just come."""
        line = self._lines.get(need)
        if line is None:
            return None
        head = line.head
        return None if head == order or line.priorities[-1] < priority else head

    def heads(self) -> list[OrderId]:
        """Return the head of each line, by priority, then who came first."""
        found = [line.head for line in self._lines.values()]
        if len(found) > 1:
            found.sort(key=lambda one: (-self._places[one][1], self._places[one][2]))
        return found

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[OrderId]:
        return iter(self._places)


def is_scarcity(obstacle: AnyObstacle | None) -> bool:
    """Tell whether an obstacle ends by itself once there is a free place: then its order stands in line."""
    return isinstance(obstacle, JobLimitReached | AgentLimitReached | NoSubagent | NoFreeSubagent)


def may_end_with(obstacle: AnyObstacle | None, job: str) -> bool:
    """Tell whether the end of an attempt of this job may have ended an obstacle."""
    if isinstance(obstacle, JobLimitReached):
        return obstacle.job == job
    return isinstance(obstacle, AgentLimitReached | NoFreeSubagent)


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


def _members(subagents: dict[SubagentId, SubagentState], bundle: BundleItem | None) -> list[tuple[SubagentId, int]]:
    if bundle is None:
        return [(subagent, 0) for subagent in subagents]
    return [(subagent, priority) for subagent, priority in bundle.priorities.items() if subagent in subagents]


def _turn(candidates: list[SubagentId], ring: list[SubagentId], last: SubagentId | None) -> SubagentId:
    if len(candidates) == 1 or last not in ring:
        return candidates[0]
    place = {subagent: number for number, subagent in enumerate(ring)}
    behind = place[last]
    return min(candidates, key=lambda one: (place[one] - behind - 1) % len(ring))
