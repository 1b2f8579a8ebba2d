"""change_item: add or change an agent, a subagent or a bundle. Floor 3."""

import re
from typing import ClassVar

import msgspec

from engine.base.ids import is_name
from engine.base.problem import Problem, problem
from engine.model.event import Event, ItemChanged
from engine.model.item import AgentItem, AnyItem, BundleItem, SubagentItem
from engine.rules.controller_state import ControllerState
from engine.rules.operator_command import OperatorCommand

BadItemName = problem(
    "BadItemName", "{name!r} can not be a name: a letter or _, then letters, digits, _ . - and 100 at most."
)
UnknownAgent = problem("UnknownAgent", "There is no agent {agent!r}; add it first.")
ForeignSubagent = problem(
    "ForeignSubagent",
    "Subagent {subagent!r} belongs to agent {agent!r}; remove it there before you give it to another.",
)
BadUrl = problem(
    "BadUrl", "{name!r} can not be reached at {url!r}; write scheme://address, such as memory://agent-local."
)
BadLimit = problem("BadLimit", "{name!r} can not run {parallel_max} attempts at once; give 0 (none for now) or more.")
UnknownSubagent = problem("UnknownSubagent", "Agent {agent!r} has no subagent {subagent!r}; add it first.")

URL_LENGTH_MAX = 2_000
URL_CHARS_SHOWN_MAX = 200

# Which schemes there are, only the node knows that dials; one it does not know is told there.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\x00-\x1f\x7f]+\Z")


class ChangeItem(msgspec.Struct, OperatorCommand, frozen=True, array_like=True, tag="change_item"):
    """Add or change an item; the same again changes nothing."""

    keyword: ClassVar[str] = "change_item"
    right: ClassVar[str] = "item.change"

    item: AnyItem

    def decide(self, state: ControllerState, now_ms: int) -> list[Event] | Problem:
        item = self.item
        refusal = _refusal(state, item)
        if refusal is not None:
            return refusal
        return [] if _known(state, item) == item else [ItemChanged(now_ms, item)]


def _refusal(state: ControllerState, item: AnyItem) -> Problem | None:
    if not is_name(item.id):
        return BadItemName(name=item.id)
    if not isinstance(item, BundleItem):
        if item.parallel_max < 0:
            return BadLimit(name=item.id, parallel_max=item.parallel_max)
        if len(item.url) > URL_LENGTH_MAX or not _URL.match(item.url):
            return BadUrl(name=item.id, url=item.url[:URL_CHARS_SHOWN_MAX])
    if isinstance(item, AgentItem):
        return None
    if item.agent not in state.agents:
        return UnknownAgent(agent=item.agent)
    if isinstance(item, SubagentItem):
        known = state.subagents.get(item.id)
        if known is not None and known.agent != item.agent:
            return ForeignSubagent(subagent=item.id, agent=known.agent)
        return None
    for subagent in item.priorities:
        member = state.subagents.get(subagent)
        if member is None or member.agent != item.agent:
            return UnknownSubagent(agent=item.agent, subagent=subagent)
    return None


def _known(state: ControllerState, item: AnyItem) -> AnyItem | None:
    if isinstance(item, AgentItem):
        entry = state.agents.get(item.id)
        return None if entry is None else entry.item
    if isinstance(item, BundleItem):
        return state.bundles.get(item.id)
    return state.subagents.get(item.id)
