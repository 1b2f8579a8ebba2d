"""Items: what an administrator adds to a controller besides workflows: agents, subagents, bundles. Floor 2."""

import msgspec

from engine.base.ids import AgentId, BundleId, SubagentId
from engine.base.limits import PARALLEL_ATTEMPTS_MAX


class Item(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What all items share."""


class AgentItem(Item, frozen=True):
    """An agent and where it listens. `parallel_max` bounds its running attempts over all subagents.

    `standby_url`: where the other node of its director pair listens once it acts; None: it is no pair.
    """

    id: AgentId
    url: str
    parallel_max: int = 10_000
    standby_url: str | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """Where one of its nodes may be found."""
        return (self.url,) if self.standby_url is None else (self.url, self.standby_url)


class SubagentItem(Item, frozen=True):
    """A subagent of one agent. `parallel_max` bounds its running attempts."""

    id: SubagentId
    agent: AgentId
    url: str
    parallel_max: int = PARALLEL_ATTEMPTS_MAX
    disabled: bool = False


class BundleItem(Item, frozen=True):
    """A choice among an agent's subagents: the highest priority that is available; equal ones take turns."""

    id: BundleId
    agent: AgentId
    priorities: dict[SubagentId, int]


AnyItem = AgentItem | SubagentItem | BundleItem
