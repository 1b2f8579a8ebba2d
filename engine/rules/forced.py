"""What a node journals that was forced to act (R14), at the controller and at an agent alike. Floor 3."""

import msgspec

from engine.model.event import Event, PairForced
from engine.rules.state import NodeState


class TakenOverByForce(msgspec.Struct, frozen=True):
    """This node owns an epoch by an operator's word; its journal ended at `own_last`, the other's at `peer_last`."""

    node: str
    epoch: int
    own_last: int
    peer_last: int


def decide_forced(state: NodeState, command: TakenOverByForce, now_ms: int) -> list[Event]:
    """Return the event that says so, once."""
    if command.epoch <= state.forced_epoch:
        return []
    return [PairForced(now_ms, command.node, command.epoch, command.own_last, command.peer_last)]


def apply_forced(state: NodeState, event: PairForced) -> None:
    """Remember the forced takeover."""
    state.forced_epoch = event.epoch
