"""R15: an agent obeys nobody below the highest epoch it has ever obeyed.

Tests: engine/rules/agent.py
"""

from hypothesis import given
from hypothesis import strategies as st

from engine.base.ids import AgentId
from engine.base.problem import Problem
from engine.language import standard_language
from engine.model.event import ControllerObeyed
from engine.rules.agent import AgentMachine, ControllerSeen, stale_epoch
from engine.rules.agent_state import AgentState

LANGUAGE = standard_language()


def machine() -> AgentMachine:
    return AgentMachine(LANGUAGE, AgentId("a"))


def seen(one: AgentMachine, state: AgentState, epoch: int, node: str = "c") -> Problem | list[object]:
    """Decide and apply, as a turn does."""
    decision = one.decide(state, ControllerSeen(node, epoch), 5)
    if not isinstance(decision, Problem):
        for event in decision:
            one.apply(state, event, 1)
    return decision  # type: ignore[return-value]  # events are objects


def test_a_higher_epoch_is_an_event_and_the_same_one_is_none() -> None:
    one, state = machine(), machine().blank()
    assert seen(one, state, 3, "north") == [ControllerObeyed(5, "north", 3)]
    assert seen(one, state, 3, "north") == []
    assert state.controller_epoch == 3


def test_a_lower_epoch_is_refused_with_what_a_program_needs() -> None:
    one, state = machine(), machine().blank()
    seen(one, state, 3)
    refused = seen(one, state, 2)
    assert isinstance(refused, Problem)
    assert (refused.code, refused.arguments) == ("StaleEpoch", {"epoch": 2, "known": 3})
    assert "a controller of epoch 3 was obeyed here" in refused.sentence
    assert state.controller_epoch == 3


def test_who_knows_no_epochs_is_obeyed_until_one_does() -> None:
    assert stale_epoch(0, 0) is None
    assert stale_epoch(1, 0) is not None


@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from(("stay", "replay", "snapshot"))), max_size=40))
def test_whatever_comes_nobody_is_obeyed_below_the_highest_that_was_persisted(steps: list[tuple[int, str]]) -> None:
    one, state = machine(), machine().blank()
    journal: list[object] = []
    highest = 0
    for epoch, then in steps:
        decision = seen(one, state, epoch)
        if epoch < highest:
            assert isinstance(decision, Problem)
        else:
            assert not isinstance(decision, Problem)
            journal.extend(decision)
            assert [type(event) for event in decision] == [ControllerObeyed] * (epoch > highest)
        highest = max(highest, epoch)
        if then == "replay":
            state = one.blank()
            for event in journal:
                packed = b"\x91" + one.encode_event(event)  # type: ignore[arg-type]
                for again in one.decode_events(packed):
                    one.apply(state, again, 1)
        elif then == "snapshot":
            state = one.decode_state(one.encode_state(state))
        assert state.controller_epoch == highest
