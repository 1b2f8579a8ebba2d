"""A pair in bad weather: whatever dies, hangs or is cut, what was accepted is on both disks in the end.

Tests: engine/pair/replica.py, engine/pair/sender.py, engine/pair/node.py
"""

from random import Random

import pytest

from engine.base.wire import Accepted
from engine.pair.replica import Replica
from engine.simulation.network import Weather
from tests.pair.pairs import A, B, Half, Pair
from tests.runtime.linked import pass_ms, until, virtual
from tests.support.counting import CountingMachine


async def storm(seed: int, faults: int) -> tuple[Pair, dict[int, object]]:
    """Ask for a rising number again and again while things break; returns what was answered, by number."""
    random = Random(seed)
    weather = Weather(latency_ms_max=20, tail_rate=0.02, tail_ms_max=500, reset_rate=random.choice((0, 0.01)))
    answers: dict[int, object] = {}
    down: list[Half] = []
    async with Pair(seed, weather) as pair:
        await pair.init()
        number = 0
        for step in range(faults * 20):
            for half in pair.halves.values():
                if half.status != "down" and half.node.loop is not None and half.loop.closed_reason is None:
                    number += 1
                    half.add(number).add_done_callback(
                        lambda one, number=number: answers.__setitem__(number, one.result())  # type: ignore[misc]
                    )
            acting = [one for one in pair.halves.values() if one.status != "down" and one.replica.may_act()]
            assert len(acting) <= 1, "two may act at once"
            await pass_ms(random.uniform(0, 300))
            if step % 20 == 10:
                await _break(pair, random, down)
            if step % 20 == 19 and random.random() < 0.8:
                await _mend(pair, down)
        await _mend(pair, down)
        pair.network.weather = Weather()
        await pair.couple()
        await until(lambda: _is_quiet(pair) and pair.is_same())
        return pair, answers


def _is_quiet(pair: Pair) -> bool:
    acting = [one for one in pair.halves.values() if one.status == "coupled" and one.node.loop is not None]
    return len(acting) == 1 and acting[0].loop.statistics()["batches_in_flight"] == len(acting[0].loop.mailbox) == 0


async def _break(pair: Pair, random: Random, down: list[Half]) -> None:
    half = random.choice(list(pair.halves.values()))
    match random.choice(("crash", "cut", "one way", "hang", "register", "reset")):
        case "crash" if half not in down:
            await half.crash()
            down.append(half)
        case "cut":
            pair.network.cut(A, B)
        case "one way":
            pair.network.cut_one_way(*random.sample((A, B), 2))
        case "hang":
            half.disk.gate.clear()
        case "register":
            pair.cell.down = True
        case "reset":
            pair.network.reset(A, B)


async def _mend(pair: Pair, down: list[Half]) -> None:
    pair.network.heal()
    pair.cell.down = False
    for half in pair.halves.values():
        half.disk.gate.set()
    for half in down:
        await half.boot()
    down.clear()


@pytest.mark.parametrize("seed", range(6))
@virtual
async def test_what_was_accepted_is_on_both_disks(seed: int) -> None:
    pair, answers = await storm(seed, 12)
    machine = CountingMachine()
    kept = [
        event.amount
        for record in pair.a.disk.records()
        for event in machine.decode_events(record.events)
        if type(event).__name__ == "Added"
    ]
    assert len(set(kept)) == len(kept), "nothing was kept twice"
    accepted = [number for number, answer in answers.items() if isinstance(answer, Accepted)]
    assert len(accepted) > 20
    assert [number for number in accepted if number not in set(kept)] == []
    assert pair.a.disk.records() == pair.b.disk.records()


def test_the_storm_would_notice_an_owner_that_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that shows what only its own disk has loses something in one of the storms."""

    async def at_once(self: Replica, index: int) -> None:
        return

    monkeypatch.setattr(Replica, "acknowledged", at_once)
    found = 0
    for seed in range(6):
        try:
            test_what_was_accepted_is_on_both_disks(seed)
        except AssertionError:
            found += 1
    assert found > 0
