"""The controller as the register of director pairs: who owns a pair is a fact of its journal. Floor 3.

* A pair is known by its agent's name, and created by a person only, once its agent is there.
* A value counts once its event is acknowledged, so that of two controllers both have it before anybody hears of it.
* A controller that was forced to act may lack the last of these facts (R14): each is unconfirmed then, and no director
  changes it, until a person has seeded it.
"""

import msgspec

from engine.base.pair import Ownership
from engine.base.problem import Problem, problem
from engine.base.register import (
    AnyRegisterQuery,
    CasOwnership,
    CreateOwnership,
    OwnershipUnfit,
    ReadOwnership,
    SeedOwnership,
    ownership_fault,
)
from engine.model.event import Event, OwnershipChanged
from engine.rules.controller_state import ControllerState

UnknownPair = problem(
    "UnknownPair", "There is no agent {pair!r} whose directors could be a pair; add the agent first, or correct it."
)
NotTheAsker = problem("NotTheAsker", "{asker} asks for pair {pair} in the name of {owner}; each asks for itself.")
PersonsOnly = problem("PersonsOnly", "{asker} of role {role} may not create or seed a register; a person does that.")
RegisterUnconfirmed = problem(
    "RegisterUnconfirmed",
    "This controller was forced to act, and may not know the last owner of pair {pair}. Ask both directors for the"
    " highest epoch they know, and seed the register above it.",
)

PAIR_ROLE = "agent"  # what a director calls itself when it asks


class RegisterAsked(msgspec.Struct, frozen=True):
    """A question that may change the register, and who asks."""

    query: AnyRegisterQuery
    role: str
    node: str


def decide_register(state: ControllerState, command: RegisterAsked, now_ms: int) -> list[Event] | Problem:
    """Return the change that a question makes, [] for none; the answer is the value that stands there afterwards."""
    query = command.query
    if isinstance(query, CasOwnership):
        return _cas(state, query, command, now_ms)
    if isinstance(query, CreateOwnership | SeedOwnership):
        return _by_person(state, query, command, now_ms)
    return []


def owner_of(state: ControllerState, query: AnyRegisterQuery) -> Ownership | None:
    """Return the value that the question is about."""
    return state.ownerships.get(pair_of(query))


def pair_of(query: AnyRegisterQuery) -> str:
    """Return which pair a question is about."""
    match query:
        case ReadOwnership():
            return query.cluster
        case CasOwnership():
            return query.expected.cluster
        case CreateOwnership():
            return query.first.cluster
        case SeedOwnership():
            return query.value.cluster
    return ""


def _cas(state: ControllerState, query: CasOwnership, command: RegisterAsked, now_ms: int) -> list[Event] | Problem:
    expected, new = query.expected, query.new
    if fault := ownership_fault(new):
        return OwnershipUnfit(fault=fault)
    if command.role == PAIR_ROLE and new.owner != command.node:
        return NotTheAsker(asker=command.node, pair=expected.cluster, owner=new.owner)
    if expected.cluster in state.unconfirmed:
        return RegisterUnconfirmed(pair=expected.cluster)
    wins = new.cluster == expected.cluster and new.epoch > expected.epoch
    if not wins or state.ownerships.get(expected.cluster) != expected:
        return []
    return [OwnershipChanged(now_ms, new)]


def _by_person(
    state: ControllerState, query: CreateOwnership | SeedOwnership, command: RegisterAsked, now_ms: int
) -> list[Event] | Problem:
    value = query.first if isinstance(query, CreateOwnership) else query.value
    if command.role == PAIR_ROLE:
        return PersonsOnly(asker=command.node, role=command.role)
    if fault := ownership_fault(value):
        return OwnershipUnfit(fault=fault)
    if value.cluster not in state.agents:
        return UnknownPair(pair=value.cluster)
    known = state.ownerships.get(value.cluster)
    stays = known is not None and (isinstance(query, CreateOwnership) or value.epoch <= known.epoch)
    return [] if stays else [OwnershipChanged(now_ms, value, seeded=True)]
