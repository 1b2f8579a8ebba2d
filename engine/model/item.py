"""Items: what an administrator adds to a controller besides workflows: agents, subagents, bundles. Floor 2."""

import msgspec

from engine.base.ids import AgentId, BundleId, SubagentId
from engine.base.limits import PARALLEL_ATTEMPTS_MAX


class Item(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What all items share."""


class AgentItem(Item, frozen=True):
    """An agent and where it listens. `parallel_max` bounds its running attempts over all subagents."""

    id: AgentId
    url: str
    parallel_max: int = 10_000


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
