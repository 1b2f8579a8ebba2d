"""The controller as a register: who may ask for what, and what stays unknown after it was forced.

What it means as a register is tested with all others: tests/journal/test_register.py.
"""

import pytest

from engine.base.ids import AgentId
from engine.base.pair import Member, Ownership
from engine.base.problem import Problem
from engine.base.register import (
    AnyRegisterQuery,
    CasOwnership,
    CreateOwnership,
    ReadOwnership,
    RegisterStatus,
    SeedOwnership,
)
from engine.language import standard_language
from engine.model.event import ItemChanged, OwnershipChanged
from engine.model.item import AgentItem
from engine.rules.controller import ControllerMachine
from engine.rules.controller_state import ControllerState
from engine.rules.register import RegisterAsked, owner_of

MACHINE = ControllerMachine(standard_language())


def owned(epoch: int = 1, owner: str = "one", pair: str = "a") -> Ownership:
    return Ownership(pair, epoch, owner, (Member(owner, f"disk of {owner}"),), 1)


@pytest.fixture
def state() -> ControllerState:
    """A controller that knows agent `a`."""
    made = MACHINE.blank()
    MACHINE.apply(made, ItemChanged(0, AgentItem(AgentId("a"), "memory://a", standby_url="memory://a.2")), 1)
    return made


def ask(state: ControllerState, query: AnyRegisterQuery, role: str = "client", node: str = "night") -> str:
    """Ask, apply what follows; the code of a refusal, or what was changed to."""
    found = MACHINE.decide(state, RegisterAsked(query, role, node), 7)
    if isinstance(found, Problem):
        return found.code
    for event in found:
        MACHINE.apply(state, event, 2)
    return " ".join(f"epoch {event.ownership.epoch}" for event in found if isinstance(event, OwnershipChanged))


def test_a_person_creates_a_pair_whose_agent_is_known_and_directors_go_on_from_there(state: ControllerState) -> None:
    assert ask(state, CreateOwnership(owned(pair="b"))) == "UnknownPair"
    assert ask(state, CreateOwnership(owned(0))) == "OwnershipUnfit"
    assert ask(state, CreateOwnership(owned())) == "epoch 1"
    assert ask(state, CreateOwnership(owned(9))) == ""
    assert ask(state, ReadOwnership("a"), "agent", "two") == ""
    assert ask(state, CasOwnership(owned(), owned(2, "two")), "agent", "two") == "epoch 2"
    assert owner_of(state, ReadOwnership("a")) == owned(2, "two")
    assert owner_of(state, RegisterStatus()) is None


@pytest.mark.parametrize("query", [CreateOwnership(owned()), SeedOwnership(owned(9))])
def test_no_director_creates_or_seeds_a_register(state: ControllerState, query: AnyRegisterQuery) -> None:
    assert ask(state, query, "agent", "one") == "PersonsOnly"
    assert state.ownerships == {}


def test_a_director_asks_for_itself_only(state: ControllerState) -> None:
    ask(state, CreateOwnership(owned()))
    assert ask(state, CasOwnership(owned(), owned(2, "two")), "agent", "one") == "NotTheAsker"
    assert ask(state, CasOwnership(owned(), owned(2, "two")), "client", "night") == "epoch 2"


def test_what_a_forced_controller_may_not_know_no_director_changes_until_a_person_has_seeded_it(
    state: ControllerState,
) -> None:
    ask(state, CreateOwnership(owned()))
    state.unconfirmed["a"] = None
    assert ask(state, CasOwnership(owned(), owned(2, "two")), "agent", "two") == "RegisterUnconfirmed"
    assert ask(state, SeedOwnership(owned(1))) == ""
    assert list(state.unconfirmed) == ["a"], "what was not above confirms nothing"
    assert ask(state, SeedOwnership(owned(50))) == "epoch 50"
    assert ask(state, CasOwnership(owned(50), owned(51, "two")), "agent", "two") == "epoch 51"


def test_a_snapshot_keeps_the_owners_and_what_is_unconfirmed(state: ControllerState) -> None:
    ask(state, CreateOwnership(owned()))
    state.unconfirmed["a"] = None
    again = MACHINE.decode_state(MACHINE.encode_state(state))
    assert again.ownerships == {"a": owned()}
    assert again.unconfirmed == {"a": None}
