"""Turns: one command, one record, whatever goes wrong.

Tests: engine/runtime/turn.py
"""

import pytest

from engine.base.limits import STEPS_PER_TURN_MAX
from engine.runtime.turn import Turns
from tests.support.counting import Add, Count, CountingMachine


def turns() -> Turns[Count]:
    machine = CountingMachine()
    return Turns(machine, machine.blank(), 0, 1)


def test_a_command_and_its_steps_are_one_record_with_its_effects_held_back() -> None:
    one = turns()
    turn = one.command(Add(5, steps=3), 0)
    assert turn.entry is not None
    assert (turn.entry.index, turn.effects, turn.problem) == (1, [5], None)
    assert [type(event).__name__ for event in one.machine.decode_events(turn.entry.events)] == [
        "Added",
        "Stepped",
        "Stepped",
        "Stepped",
    ]


def test_a_problem_changes_nothing_and_takes_no_index() -> None:
    one = turns()
    turn = one.command(Add(-1), 0)
    assert turn.problem is not None
    assert turn.problem.sentence == "-1 is too small; give at least 1."
    assert (turn.entry, one.index, one.state.total) == (None, 0, 0)


@pytest.mark.parametrize(("amount", "code"), [(2**70, "NotKeepable"), ("\ud800", "NotKeepable"), ("raise", "Mistake")])
def test_what_can_not_be_decided_or_encoded_is_a_problem_of_that_command_alone(amount: object, code: str) -> None:
    one = turns()
    turn = one.command(Add(amount), 0)
    assert turn.problem is not None
    assert turn.problem.code == code
    assert turn.entry is None
    assert one.command(Add(1), 0).index == 1


def test_what_can_not_be_advanced_is_broken_in_the_same_record() -> None:
    one = turns()
    turn = one.command(Add("break"), 0)
    assert turn.entry is not None
    assert one.state.broken == {"bad": "Mistake"}


def test_a_query_that_raises_is_a_problem_of_that_query_alone() -> None:
    one = turns()
    assert one.query("total", 0) == 0
    assert one.query(ZeroDivisionError(), 0).code == "Mistake"


def test_an_exception_in_apply_ends_the_node() -> None:
    with pytest.raises(AssertionError, match="disagree"):
        turns().command(Add("apply raises"), 0)


def test_beyond_the_steps_of_a_turn_the_rest_is_left_for_the_next() -> None:
    one = turns()
    turn = one.command(Add(1, steps=STEPS_PER_TURN_MAX + 500), 0)
    assert turn.leftover
    while turn.leftover:
        turn = one.advance(turn.leftover, 0)
    assert one.state.steps == {f"k{STEPS_PER_TURN_MAX + 500}": 0}
    assert one.index == 2
