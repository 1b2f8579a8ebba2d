"""The simulated register: what it loses, delays and forgets, and that its history says so.

Tests: engine/simulation/register.py
"""

import asyncio
from collections.abc import Callable
from random import Random

import pytest

import engine.simulation.register
from engine.base.pair import Ownership
from engine.base.tasks import TaskScope
from engine.ports import RegisterUnreachable
from engine.simulation.loop import NODE, VirtualLoop, run
from engine.simulation.register import FLAKY, RegisterCall, RegisterFaults, SimRegister, decided
from tests.journal.registers import asker, owned
from tests.runtime.linked import pass_ms, virtual
from tests.simulation.loops import start, virtual_loop
from tests.support.linear import effect, fault_in


def faulty(**rates: float) -> SimRegister:
    return SimRegister(Random(5), RegisterFaults(**rates))


@virtual
async def test_a_lost_question_has_no_effect_and_a_lost_answer_has() -> None:
    register = faulty(question_lost_rate=1.0)
    with pytest.raises(RegisterUnreachable, match="within 2000 ms"):
        await register.create(owned(1))
    await pass_ms(60_000)
    assert register.now("pair") is None
    register.faults = RegisterFaults(answer_lost_rate=1.0)
    with pytest.raises(RegisterUnreachable):
        await register.create(owned(1))
    assert register.now("pair") == owned(1)
    assert (register.counts["lost_questions"], register.counts["lost_answers"]) == (1, 1)
    assert [call.returned for call in register.calls] == [None, None]


@virtual
async def test_a_question_takes_effect_after_its_asker_gave_up() -> None:
    register = faulty(delay_ms_min=3_000.0, delay_ms_max=3_001.0)
    with pytest.raises(RegisterUnreachable):
        await register.create(owned(1))
    assert register.now("pair") is None
    await pass_ms(2_000)
    assert register.now("pair") == owned(1)
    assert register.counts["late_effects"] == 1


@virtual
async def test_a_late_answer_shows_what_was_true_after_the_question() -> None:
    register = faulty()
    await register.create(owned(1))
    register.faults = RegisterFaults(delay_ms_min=500.0, delay_ms_max=500.0)
    scope = TaskScope("askers", lambda _: None)
    reading = scope.start(register.read("pair"), "read")
    await pass_ms(510)
    register.faults = RegisterFaults()
    assert await register.cas(owned(1), owned(2)) == owned(2)
    assert await reading == owned(1)
    assert await register.read("pair") == owned(2)
    await scope.close()
    assert fault_in(register.calls) is None


@virtual
async def test_an_outage_and_a_cut_let_nothing_through() -> None:
    register = faulty()
    await register.create(owned(1))
    register.go_down(10_000)
    assert register.is_down
    with pytest.raises(RegisterUnreachable):
        await register.cas(owned(1), owned(2))
    register.come_up()
    assert not register.is_down
    assert await register.read("pair") == owned(1)
    register.go_down(50)
    await pass_ms(51)
    register.cut("a")
    with pytest.raises(RegisterUnreachable):
        await register.at("a").cas(owned(1), owned(2))
    assert await register.at("b").cas(owned(1), owned(3)) == owned(3)
    register.heal("a")
    assert await register.at("a").read("pair") == owned(3)
    assert register.counts["down_questions"] == 1


@virtual
async def test_an_answer_on_its_way_to_who_is_cut_off_is_lost() -> None:
    register = faulty(delay_ms_min=100.0, delay_ms_max=100.0)
    scope = TaskScope("askers", lambda _: None)
    asking = scope.start(register.at("a").create(owned(1)), "create")
    await pass_ms(150)
    register.cut("a")
    with pytest.raises(RegisterUnreachable):
        await asking
    assert register.now("pair") == owned(1)
    await scope.close()


@virtual
async def test_a_rollback_goes_back_by_epochs_and_is_in_the_history() -> None:
    told: list[str] = []
    register = SimRegister(Random(5), note=told.append)
    await register.create(owned(1))
    for before, after in ((1, 2), (2, 5), (5, 6)):
        await register.cas(owned(before), owned(after))
    register.roll_back(1)
    assert await register.read("pair") == owned(5)
    register.roll_back(2)
    assert await register.read("pair") == owned(2)
    assert await register.cas(owned(2), owned(3, "b")) == owned(3, "b")
    assert fault_in(register.calls) is None
    assert fault_in([call for call in register.calls if call.kind != "set"]) is not None
    register.lose()
    assert await register.read("pair") is None
    assert await register.cas(owned(3, "b"), owned(4)) is None
    assert await register.seed(owned(1_003)) == owned(1_003)
    register.roll_back(5_000)
    assert await register.read("pair") is None
    assert fault_in(register.calls) is None
    assert told[-1] == "register of pair rolled back by 5000: nothing"
    assert register.counts["rolled_back"] == 4


def test_what_a_crashed_node_asked_is_still_under_way() -> None:
    async def main() -> None:
        register = faulty(delay_ms_min=100.0, delay_ms_max=100.0)
        start("a#1", register.at("a").create(owned(1)))
        await pass_ms(50)
        virtual_loop().crash("a#1")
        await pass_ms(200)
        assert register.now("pair") == owned(1)
        assert register.calls[0].returned is None
        assert NODE.get() == ""

    run(main(), seed=1)


def trace_of(seed: int) -> tuple[str, list[tuple[object, ...]]]:
    found: list[tuple[object, ...]] = []
    loop = VirtualLoop(seed)

    async def main() -> None:
        register = SimRegister(Random(seed), FLAKY)
        scope = TaskScope("askers", lambda _: None)
        names = ("a", "b", "c")
        await asyncio.wait(
            [scope.start(asker(register.at(one), one, Random(one), 30, ("pair",)), one) for one in names]
        )
        await scope.close()
        found.extend((call.asker, call.kind, call.invoked, call.returned, call.answer) for call in register.calls)

    try:
        loop.run_until_complete(main())
        return loop.digest(), found
    finally:
        loop.close()


def test_the_same_seed_gives_the_same_history() -> None:
    assert trace_of(4) == trace_of(4)
    assert trace_of(4) != trace_of(5)


@virtual
async def test_the_history_is_bounded_and_counts_what_it_forgot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.simulation.register, "CALLS_KEPT_MAX", 10)
    register = faulty()
    await register.create(owned(1))
    for _ in range(14):
        await register.read("pair")
    assert (len(register.calls), register.forgotten) == (10, 5)
    assert register.statistics()["answered"] == 15
    await register.close()


VALUES: list[Ownership | None] = [None, owned(1), owned(2), owned(2, "b"), owned(3, cluster="other")]


@pytest.mark.parametrize("kind", ["create", "read", "cas", "seed", "set"])
def test_what_it_decides_is_what_the_checker_expects(kind: str) -> None:
    compare: Callable[[RegisterCall, Ownership | None], bool] = lambda call, value: (
        decided(call, value) == effect(call, value)
    )
    known = [value for value in VALUES if value is not None]
    calls = [RegisterCall(kind, "pair", 1, expected, new) for expected in known for new in known]
    assert all(compare(call, value) for call in calls for value in VALUES)


@virtual
async def test_who_is_deaf_is_heard_and_gets_no_answer() -> None:
    register = faulty()
    assert register.is_sound
    register.deafen("a")
    assert not register.is_sound
    with pytest.raises(RegisterUnreachable):
        await register.at("a").create(owned(1))
    assert await register.at("b").read("pair") == owned(1)
    register.heal("a")
    assert register.is_sound
    assert await register.at("a").read("pair") == owned(1)


@virtual
async def test_a_person_at_the_register_seeds_it_at_once_and_only_above_what_there_is() -> None:
    register = faulty()
    register.seed_now(owned(4))
    assert register.now("pair") == owned(4)
    register.seed_now(owned(3))
    assert register.now("pair") == owned(4)
    assert fault_in(register.calls) is None


@virtual
async def test_a_question_is_under_way_until_it_takes_effect_or_can_not_any_more() -> None:
    register = faulty(delay_ms_min=100.0, delay_ms_max=100.0)
    scope = TaskScope("askers", lambda _: None)
    asking = scope.start(register.create(owned(1)), "create")
    await pass_ms(50)
    assert register.under_way == 1
    await pass_ms(60)
    assert register.under_way == 0
    await asking
    register.go_down(1_000)
    with pytest.raises(RegisterUnreachable):
        await register.read("pair")
    assert register.under_way == 0
    await scope.close()
