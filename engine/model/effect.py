"""Effects: what the world must be told because of an event, once the event is durable. Floor 2."""

import msgspec

from engine.base.ids import AgentId, OrderId, SubagentId
from engine.model.command import ToAgent, ToSubagent


class Effect(msgspec.Struct, frozen=True):
    """What all effects share."""


class WakeAt(Effect, frozen=True):
    """Advance this order at an instant (wall clock)."""

    order: OrderId
    at_ms: int


class TellAgent(Effect, frozen=True):
    """Send a command to an agent, if its link is coupled; otherwise it is owed and sent at the next coupling."""

    agent: AgentId
    command: ToAgent


class TellSubagent(Effect, frozen=True):
    """Send a command to a subagent, under the same rule."""

    subagent: SubagentId
    command: ToSubagent


class LinksChanged(Effect, frozen=True):
    """These are all peers now, each with its urls (of a pair both); open and close links accordingly."""

    peers: dict[str, tuple[str, ...]]


AnyEffect = WakeAt | TellAgent | TellSubagent | LinksChanged
