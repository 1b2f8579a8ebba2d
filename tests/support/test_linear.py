"""The checker of histories accepts what some order explains, and nothing else."""

import random

import pytest

from engine.base.pair import Ownership
from engine.simulation.register import RegisterCall
from tests.journal.registers import owned
from tests.support.linear import Undecided, effect, fault_in

A1, A2, B2, B3 = owned(1), owned(2), owned(2, "b"), owned(3, "b")


def call(
    kind: str, span: tuple[int, int | None], answer: Ownership | None, *values: Ownership, cluster: str = "pair"
) -> RegisterCall:
    """`values`: the new one, or the expected and the new one."""
    expected = values[0] if len(values) == 2 else None
    new = values[-1] if values else None
    return RegisterCall(kind, cluster, span[0], expected, new, span[1], answer)


CREATED = call("create", (1, 2), A1, A1)

RIGHT = {
    "one after the other": [CREATED, call("cas", (3, 4), B2, A1, B2), call("read", (5, 6), B2)],
    "a late answer shows what was true when it was asked": [
        CREATED,
        call("read", (3, 6), A1),
        call("cas", (4, 5), B2, A1, B2),
    ],
    "of two at once one wins and the other is told": [
        CREATED,
        call("cas", (3, 6), B2, A1, A2),
        call("cas", (4, 5), B2, A1, B2),
    ],
    "a lost answer may have taken effect": [CREATED, call("cas", (3, None), None, A1, B2), call("read", (4, 5), B2)],
    "or not": [CREATED, call("cas", (3, None), None, A1, B2), call("read", (4, 5), A1)],
    "or later": [
        CREATED,
        call("cas", (3, None), None, A1, B2),
        call("read", (4, 5), A1),
        call("read", (6, 7), B2),
    ],
    "a refused cas shows the value": [CREATED, call("cas", (3, 4), A1, A2, B3)],
    "a rollback that is told": [
        CREATED,
        call("cas", (3, 4), B2, A1, B2),
        call("set", (5, 6), A1, A1),
        call("read", (7, 8), A1),
    ],
    "two clusters": [
        CREATED,
        call("create", (3, 4), owned(9, cluster="other"), owned(9, cluster="other"), cluster="other"),
        call("read", (5, 6), A1),
    ],
    "a seed": [CREATED, call("seed", (3, 4), B3, B3), call("seed", (5, 6), B3, A2)],
    "nothing": [],
}

WRONG = {
    "a stale read": [CREATED, call("cas", (3, 4), B2, A1, B2), call("read", (5, 6), A1)],
    "an unknown cluster is known": [call("read", (1, 2), A1)],
    "two winners": [CREATED, call("cas", (3, 6), A2, A1, A2), call("cas", (4, 5), B2, A1, B2)],
    "a winner without its expectation": [CREATED, call("cas", (3, 4), B3, A2, B3)],
    "an epoch that does not rise": [CREATED, call("cas", (3, 4), owned(1, "b"), A1, owned(1, "b"))],
    "created twice": [CREATED, call("create", (3, 4), B2, B2)],
    "a seed that lowers": [CREATED, call("seed", (3, 4), B3, B3), call("seed", (5, 6), A2, A2)],
    "a lost answer that takes effect and is taken back": [
        CREATED,
        call("cas", (3, None), None, A1, B2),
        call("read", (4, 5), B2),
        call("read", (6, 7), A1),
    ],
    "a lost answer that takes effect before it was asked": [
        CREATED,
        call("read", (3, 4), B2),
        call("cas", (5, None), None, A1, B2),
    ],
    "a lost answer that takes effect twice": [
        CREATED,
        call("cas", (3, None), None, A1, B2),
        call("read", (4, 5), B2),
        call("set", (6, 7), A1, A1),
        call("read", (8, 9), B2),
    ],
    "two readers who disagree about the order": [
        CREATED,
        call("cas", (3, 20), B2, A1, B2),
        call("read", (4, 5), B2),
        call("read", (6, 7), A1),
    ],
    "an answer that is the asker's wish": [CREATED, call("cas", (3, 4), B2, A1, B2), call("cas", (5, 6), A2, A1, A2)],
    "a rollback that is not told": [
        CREATED,
        call("cas", (3, 4), B2, A1, B2),
        call("cas", (5, 6), A2, A1, A2),
    ],
    "one cluster of two is wrong": [
        CREATED,
        call("read", (3, 4), owned(9, cluster="other"), cluster="other"),
        call("read", (5, 6), A1),
    ],
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_an_order_explains_is_accepted(name: str) -> None:
    assert fault_in(RIGHT[name]) is None


@pytest.mark.parametrize("name", WRONG)
def test_what_no_order_explains_is_rejected_and_told(name: str) -> None:
    fault = fault_in(WRONG[name])
    assert fault is not None
    assert fault.startswith("no order explains these answers")
    assert "answered" in fault


def drawn(seed: int, *, overlap: int, length: int = 120, lost: float = 0.15) -> tuple[list[RegisterCall], int]:
    """A right history by construction: calls that overlap, each with an instant; and how many are not answered."""
    draw = random.Random(seed)
    instants = sorted(draw.sample(range(length * 10), length))
    value: Ownership | None = None
    calls: list[RegisterCall] = []
    for number, instant in enumerate(instants):
        kind = draw.choice(("create", "read", "read", "cas", "cas", "cas", "seed"))
        new = owned((value.epoch if value else 0) + draw.choice((1, 1, 0, 2)) or 1, draw.choice("ab"), nonce=number)
        expected = value if value and draw.random() < 0.8 else owned(99)
        one = RegisterCall(kind, "pair", instant - draw.randint(0, overlap), expected, None if kind == "read" else new)
        value = one.answer = effect(one, value)
        if draw.random() >= lost:
            one.returned = instant + draw.randint(1, overlap + 1)
        else:
            one.answer = None
        calls.append(one)
    return calls, sum(one.returned is None for one in calls)


@pytest.mark.parametrize("seed", range(30))
def test_a_drawn_history_is_accepted_and_each_spoilt_answer_rejected(seed: int) -> None:
    calls, lost = drawn(seed, overlap=40)
    assert lost > 3
    assert fault_in(calls) is None
    draw = random.Random(f"spoil {seed}")
    answered = [one for one in calls if one.returned is not None]
    for one in draw.sample(answered, 10):
        right = one.answer
        one.answer = owned(77, "nobody", nonce=123_456)
        assert fault_in(calls) is not None
        one.answer = right
    assert fault_in(calls) is None


def test_old_answers_far_apart_are_rejected() -> None:
    found = 0
    for seed in range(20):
        calls, _ = drawn(seed, overlap=3, lost=0.0)
        reads = [one for one in calls if one.kind == "read" and one.answer is not None]
        before = next((one for one in reads if one.answer != reads[-1].answer), None)
        if before is not None:
            reads[-1].answer = before.answer
            found += fault_in(calls) is not None
    assert found > 15


def test_a_search_that_gets_too_long_says_so() -> None:
    with pytest.raises(Undecided, match="calls of pair"):
        fault_in(drawn(1, overlap=40)[0], steps_max=50)
