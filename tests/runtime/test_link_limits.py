"""What a link may hold: queries, commands and records unanswered, the backlog, and what happens at each bound.

Tests: engine/runtime/queries.py
"""

import asyncio

import pytest

import engine.runtime.command_stream
import engine.runtime.line
import engine.runtime.queries
from engine.base.problem import Refused
from engine.base.tasks import TaskScope
from engine.base.wire import encode_message
from engine.runtime.link import LinkLost, LinkState
from tests.runtime.linked import Lower, Upper, Wires, end, pair, pass_ms, until, virtual

SCHEMES = pytest.mark.parametrize("scheme", ["memory", "sim"])


@SCHEMES
@virtual
async def test_queries_are_answered_also_while_catching_up_and_many_wait_their_turn(scheme: str) -> None:
    wires = Wires(scheme)
    asked: list[int] = []

    def ask(session: object, number: int, raw: bytes, answer: object) -> None:
        asked.append(number)
        answer(b"\xc4\x01" + bytes(raw))  # type: ignore[operator]

    lower = Lower(wires.of("lower"), url=wires.url("lower"), ask=ask)
    lower.log.append(b"\x01")
    lower.log.publish()
    await lower.open()
    upper = Upper(wires.of("upper"), url=wires.url("lower"))
    upper.acknowledges = False
    scope = TaskScope("asking", upper.failures.append)
    with pytest.raises(LinkLost) as lost:
        await upper.link.ask(b"\x01")
    assert not lost.value.sent
    upper.link.start()
    await until(lambda: upper.records != [])
    assert upper.link.state is LinkState.CATCHING_UP
    asking = [scope.start(upper.link.ask(bytes([number % 128])), str(number)) for number in range(900)]
    assert [await one for one in asking] == [bytes([0xC4, 1, number % 128]) for number in range(900)]
    assert asked == list(range(1, 901))
    await scope.close()
    await end(upper, lower)


@virtual
async def test_too_many_waiting_queries_are_refused() -> None:
    _, lower, upper = await pair("memory")
    lower.reception._ask = lambda *_: None  # never answers
    upper.link.start()
    await upper.link.until_coupled()
    scope = TaskScope("asking", lambda _: None)
    bound = engine.runtime.queries.QUERIES_WAITING_MAX + engine.runtime.line.QUERIES_UNANSWERED_MAX
    asking = [scope.start(upper.link.ask(b"\x01"), str(number)) for number in range(bound // 2)]
    await pass_ms(10)
    asking += [scope.start(upper.link.ask(b"\x01"), str(number)) for number in range(bound - bound // 2)]
    await pass_ms(10)
    with pytest.raises(Refused, match="try again later"):
        await upper.link.ask(b"\x01")
    await upper.close()
    await asyncio.wait(asking)
    errors = [one.exception() for one in asking]
    assert all(isinstance(error, LinkLost) and error.sent for error in errors)
    await scope.close()
    await end(lower)


@SCHEMES
@virtual
async def test_a_node_without_queries_says_so(scheme: str) -> None:
    _, lower, upper = await pair(scheme)
    upper.link.start()
    await upper.link.until_coupled()
    assert b"NoQueries" in await upper.link.ask(b"\x01")
    await end(upper, lower)


@virtual
async def test_a_full_backlog_is_drained_then_the_rest_is_owed_in_a_new_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine.runtime.command_stream, "BACKLOG_COMMANDS_MAX", 50)
    monkeypatch.setattr(engine.runtime.command_stream, "COMMANDS_UNANSWERED_MAX", 20)
    _, lower, upper = await pair("memory")
    upper.link.start()
    await upper.link.until_coupled()
    taken = [upper.owe(number.to_bytes(1, "big")) for number in range(120)]
    assert taken == [True] * 50 + [False] * 70
    assert upper.coupled
    await until(lambda: len(upper.records) == 120)
    assert lower.done() == [bytes([number]) for number in range(120)]
    assert {one.code for one in upper.lost} == {"CouplingAnew"}
    assert upper.link.statistics()["sessions"] == 3
    await end(upper, lower)


@virtual
async def test_no_more_than_the_credit_is_ever_unanswered() -> None:
    _, lower, upper = await pair("memory", automatic=False)
    upper.link.start()
    await upper.link.until_coupled()
    for number in range(25_000):
        assert upper.link.send(encode_message(number))
    await pass_ms(5_000)
    assert len(lower.mailbox) == 10_000
    assert upper.link.statistics()["unanswered"] == 10_000
    assert upper.link.statistics()["backlog"] == 15_000
    lower.turn()
    lower.show()
    await pass_ms(1_000)
    assert len(lower.mailbox) == 10_000
    assert upper.coupled
    await end(upper, lower)


@virtual
async def test_large_commands_are_bounded_in_bytes() -> None:
    _, lower, upper = await pair("memory", automatic=False)
    upper.link.start()
    await upper.link.until_coupled()
    big = encode_message(bytes(3 << 20))
    for _ in range(10):
        assert upper.link.send(big)
    with pytest.raises(ValueError, match="the most is"):
        upper.link.send(bytes(17 << 20))
    await pass_ms(3_000)
    assert len(lower.mailbox) == 5
    lower.turn()
    lower.show()
    await until(lambda: len(lower.mailbox) == 5)
    assert upper.coupled
    await end(upper, lower)


@SCHEMES
@virtual
async def test_a_reader_that_acknowledges_slowly_holds_records_back_and_beats_go_on(scheme: str) -> None:
    _, lower, upper = await pair(scheme)
    upper.acknowledges = False
    for _ in range(40_000):
        lower.log.append(b"record")
    lower.log.publish()
    upper.link.start()
    await until(lambda: len(upper.records) == 10_000)
    await pass_ms(20_000)
    assert len(upper.records) == 10_000
    assert lower.log.pulled_max == 10_000
    assert upper.link.state is LinkState.CATCHING_UP
    assert upper.link.statistics()["lost"] == 0
    assert upper.link.statistics()["round_trip_ms"] >= 0
    upper.acknowledges = True
    upper.make_durable()
    await until(lambda: len(upper.records) == 40_000)
    await upper.link.until_coupled()
    await end(upper, lower)


@virtual
async def test_large_records_are_held_back_by_bytes() -> None:
    _, lower, upper = await pair("memory")
    upper.acknowledges = False
    for _ in range(12):
        lower.log.append(bytes(4 << 20))
    lower.log.publish()
    upper.link.start()
    await until(lambda: upper.records != [])
    await pass_ms(5_000)
    assert lower.log.pulled_max == len(upper.records) == 4
    upper.acknowledges = True
    upper.make_durable()
    await until(lambda: len(upper.records) == 12)
    await end(upper, lower)
