"""Obstacle: why an order waits, and what would release it. Floor 2.

* Each is a value; `str()` is the one sentence an operator reads.
"""

import msgspec

from engine.base.clock import instant_text
from engine.base.ids import AgentId


class Obstacle(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What all obstacles share."""


class JobLimitReached(Obstacle, frozen=True):
    job: str
    limit: int

    def __str__(self) -> str:
        return f"job {self.job} already runs {self.limit} times, which is its limit"


class AgentLimitReached(Obstacle, frozen=True):
    agent: AgentId
    limit: int

    def __str__(self) -> str:
        return f"agent {self.agent!r} already runs {self.limit} attempts, which is its limit"


class BranchesFailed(Obstacle, frozen=True):
    branches: str

    def __str__(self) -> str:
        return f"branch {self.branches} failed and stays; resume the branch or cancel the order"


class NoFreeSubagent(Obstacle, frozen=True):
    bundle: str

    def __str__(self) -> str:
        return f"every subagent of {_of(self.bundle)} runs as many processes as it may"


class NoSubagent(Obstacle, frozen=True):
    bundle: str

    def __str__(self) -> str:
        return f"no subagent of {_of(self.bundle)} is connected and enabled"


class AgentMissing(Obstacle, frozen=True):
    agent: AgentId

    def __str__(self) -> str:
        return f"there is no agent {self.agent!r}; add it or deploy a workflow that names another"


class AgentUnreachable(Obstacle, frozen=True):
    agent: AgentId

    def __str__(self) -> str:
        return f"agent {self.agent!r} is not connected"


class AttemptLost(Obstacle, frozen=True):
    attempt: int
    message: str

    def __str__(self) -> str:
        return f"nobody saw how attempt {self.attempt} ended ({self.message}); a person must release it: rerun or fail"


class WaitingUntil(Obstacle, frozen=True):
    at_ms: int
    cause: str

    def __str__(self) -> str:
        try:
            at = instant_text(self.at_ms)
        except (ValueError, OverflowError, OSError):  # before the year 1 or after 9999
            at = f"a time that no calendar shows ({self.at_ms} ms after 1970)"
        return f"{self.cause} until {at}"


class WaitingForBranches(Obstacle, frozen=True):
    count: int

    def __str__(self) -> str:
        return f"{self.count} of its branches {'has' if self.count == 1 else 'have'} not ended"


class Running(Obstacle, frozen=True):
    attempt: int
    subagent: str

    def __str__(self) -> str:
        return f"attempt {self.attempt} runs on {self.subagent}"


class Suspended(Obstacle, frozen=True):
    def __str__(self) -> str:
        return "it is suspended; resume it to go on"


AnyObstacle = (
    JobLimitReached
    | AgentLimitReached
    | BranchesFailed
    | NoFreeSubagent
    | NoSubagent
    | AgentMissing
    | AgentUnreachable
    | AttemptLost
    | WaitingUntil
    | WaitingForBranches
    | Running
    | Suspended
)


def _of(bundle: str) -> str:
    return f"bundle {bundle!r}" if bundle else "this agent"
