"""Link with Reception: the coupling law, numbering, credit, loss and reconnection."""

import asyncio
import itertools
from collections.abc import Iterable
from typing import Any

import pytest

from engine.base.ids import START, Cursor
from engine.base.problem import EngineClosed, Problem, problem
from engine.base.tasks import TaskScope
from engine.base.wire import CommandReply, encode_message
from engine.ports import Transport
from engine.runtime.line import pace_to
from engine.runtime.link import LinkClosed, LinkLost, LinkState
from tests.runtime.linked import Lower, Upper, Wires, accepted, end, outcome, pair, pass_ms, until, virtual

SCHEMES = pytest.mark.parametrize("scheme", ["memory", "sim"])
Denied = problem("TestDenied", "not this one")


@SCHEMES
@virtual
async def test_commands_go_down_records_and_replies_come_up(scheme: str) -> None:
    _, lower, upper = await pair(scheme)
    replies: list[CommandReply] = []
    assert not upper.link.send(b"\x01")
    upper.link.start()
    await upper.link.until_coupled()
    assert all(upper.link.send(bytes([number]), replies.append) for number in range(100))
    await until(lambda: len(replies) == 100 and upper.durable == 100)
    assert replies == [accepted(index) for index in range(1, 101)]
    assert lower.done() == [bytes([number]) for number in range(100)] == [one.events for one in upper.records]
    await until(lambda: lower.acks != [] and lower.acks[-1][1] == Cursor(100, 1))
    await end(upper, lower)


@SCHEMES
@virtual
async def test_what_is_owed_goes_out_only_after_records_up_to_the_tip_are_acknowledged(scheme: str) -> None:
    _, lower, upper = await pair(scheme)
    for number in range(5):
        lower.log.append(bytes([number]))
    lower.log.publish()
    upper.owed = {bytes([number]): None for number in range(10)}
    upper.acknowledges = False
    upper.link.start()
    await until(lambda: len(upper.records) == 5)
    await pass_ms(2_000)
    assert upper.link.state is LinkState.CATCHING_UP
    assert not upper.owe(b"\x63")
    assert lower.reception.statistics()["commands"] == 0
    upper.durable = 4
    upper.link.acknowledge(Cursor(4, 1))
    await pass_ms(100)
    assert upper.link.state is LinkState.CATCHING_UP
    upper.make_durable()
    upper.acknowledges = True
    await until(lambda: len(lower.done()) == 11)
    assert upper.trace[:4] == ["records to 5", "durable to 5", "owed", "coupled"]
    assert lower.done() == [bytes([n]) for n in range(10)] + [b"\x63"]
    await end(upper, lower)


@virtual
async def test_an_owner_may_couple_from_its_own_turn_and_loses_no_command_between() -> None:
    asked: list[str] = []

    def later() -> Iterable[bytes] | None:
        asked.append(upper.link.session)
        return None

    _, lower, upper = await pair("memory", owed=later)
    upper.link.start()
    await until(lambda: asked != [])
    assert upper.link.state is LinkState.CATCHING_UP
    assert not upper.link.send(b"\x05")
    assert not upper.link.couple("another session", [b"\x01"])
    assert upper.link.couple(asked[0], [b"\x01", b"\x02"])
    assert upper.link.send(b"\x03")
    assert not upper.link.couple(asked[0], [b"\x01"])
    await until(lambda: lower.done() == [b"\x01", b"\x02", b"\x03"])
    await end(upper, lower)


@SCHEMES
@virtual
async def test_a_client_without_a_cursor_couples_at_once_and_gets_no_records(scheme: str) -> None:
    _, lower, upper = await pair(scheme, cursor=lambda: None)
    lower.log.append(b"\x01")
    lower.log.publish()
    upper.link.start()
    await upper.link.until_coupled()
    assert await upper.link.request(b"\x02") == accepted(2)
    assert upper.records == []
    await end(upper, lower)


@SCHEMES
@virtual
async def test_requests_answer_problems_and_unwatched_problems_are_told(scheme: str) -> None:
    wires = Wires(scheme)

    def deliver(session: object, number: int, raw: bytes, reply: object) -> None:
        reply(encode_message(Denied()))  # type: ignore[operator]

    lower = await Lower(wires.of("lower"), url=wires.url("lower"), deliver=deliver).open()
    upper = Upper(wires.of("upper"), url=wires.url("lower"))
    upper.link.start()
    await upper.link.until_coupled()
    assert await upper.link.request(b"\x01") == Denied()
    assert upper.link.send(b"\x02")
    await until(lambda: upper.refused == [Denied()])
    await end(upper, lower)


@SCHEMES
@virtual
async def test_the_link_dials_until_somebody_is_there_and_again_after_a_loss(scheme: str) -> None:
    wires = Wires(scheme)
    upper = Upper(wires.of("upper"), url=wires.url("lower"))
    upper.link.start()
    await until(lambda: upper.link.statistics()["attempts"] >= 3)
    assert upper.link.problem is not None
    assert "nobody listens" in upper.link.problem.sentence
    assert upper.lost == []
    lower = await Lower(wires.of("lower"), url=wires.url("lower")).open()
    await upper.link.until_coupled()
    await lower.close()
    await until(lambda: not upper.coupled)
    await until(lambda: len(upper.lost) == 1)
    assert upper.lost[0].code == "ReceptionClosing"
    again = await Lower(wires.of("lower"), url=wires.url("lower"), log=lower.log).open()
    await upper.link.until_coupled()
    assert upper.link.statistics()["sessions"] == 2
    await end(upper, again, lower)


@virtual
async def test_dialling_backs_off_with_a_ceiling() -> None:
    wires = Wires("memory")
    upper = Upper(wires.of("upper"), url=wires.url("lower"))
    times: list[float] = []
    loop = asyncio.get_running_loop()
    upper.link.start()
    for attempt in range(1, 12):
        await until(lambda wanted=attempt: upper.link.statistics()["attempts"] >= wanted)  # type: ignore[misc]
        times.append(loop.time())
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(gap <= 5.01 for gap in gaps)
    assert max(gaps[:2]) < 0.5
    assert min(gaps[-3:]) > 2.4
    await end(upper)


@virtual
async def test_the_nodes_of_a_pair_are_tried_in_turn() -> None:
    wires = Wires("memory")
    lower = await Lower(wires.of("lower"), url=wires.url("second")).open()
    upper = Upper(wires.of("upper"), url="", urls=[wires.url("first"), wires.url("second")])
    upper.link.start()
    await upper.link.until_coupled()
    assert upper.link.statistics()["attempts"] == 2
    await end(upper, lower)


@virtual
async def test_who_takes_over_is_found_soon_however_long_nobody_was_there() -> None:
    wires = Wires("memory")
    urls = (wires.url("first"), wires.url("second"))
    upper = Upper(wires.of("upper"), url="", urls=list(urls), pace=pace_to(urls))
    upper.link.start()
    await pass_ms(30_000)
    lower = await Lower(wires.of("lower"), url=urls[1]).open()
    began = asyncio.get_running_loop().time()
    await upper.link.until_coupled()
    assert asyncio.get_running_loop().time() - began <= 1.05, "two attempts, half a second apart"
    await end(upper, lower)


@SCHEMES
@virtual
async def test_a_lost_link_leaves_requests_unknown_and_old_replies_are_never_delivered(scheme: str) -> None:
    _, lower, upper = await pair(scheme, automatic=False)
    upper.link.start()
    await upper.link.until_coupled()
    replies: list[CommandReply] = []
    scope = TaskScope("asking", upper.failures.append)
    asking = scope.start(outcome(upper.link.request(b"\x01")), "request")
    assert upper.link.send(b"\x02", replies.append)
    await until(lambda: len(lower.mailbox) == 2)
    first = lower.opened[0]
    upper.link.drop(Problem("Test", "dropped by the test"))
    lost = await asking
    assert isinstance(lost, LinkLost)
    assert lost.sent
    lower.turn()
    lower.show()
    await until(lambda: len(lower.opened) == 2)
    await upper.link.until_coupled()
    assert upper.link.send(b"\x03", replies.append)
    await until(lambda: len(lower.mailbox) == 1)
    lower.turn()
    lower.show()
    await until(lambda: replies != [])
    assert replies == [accepted(3)]
    assert first.id != lower.opened[1].id
    await scope.close()
    await end(upper, lower)


@SCHEMES
@virtual
async def test_commands_of_an_older_session_are_void_once_a_newer_one_is_open(scheme: str) -> None:
    _, lower, upper = await pair(scheme, automatic=False)
    upper.link.start()
    await upper.link.until_coupled()
    for number in range(5):
        upper.owe(bytes([number]))
    await until(lambda: len(lower.mailbox) == 5)
    lower.turn(2)
    lower.show()
    assert lower.opened[0].live
    upper.link.drop(Problem("Test", "dropped by the test"))
    await until(lambda: len(lower.opened) == 2)
    assert not lower.opened[0].live
    await until(lambda: len(lower.mailbox) == 6)
    lower.turn()
    lower.show()
    assert lower.done() == [bytes([number]) for number in range(5)]
    await until(lambda: upper.durable == 5)
    assert lower.reception.statistics()["void"] == 3
    await end(upper, lower)


@virtual
async def test_the_next_session_waits_until_everything_handed_over_is_acknowledged() -> None:
    _, lower, upper = await pair("memory")
    upper.acknowledges = False
    upper.link.start()
    lower.log.append(b"\x01")
    lower.log.publish()
    await until(lambda: len(upper.records) == 1)
    upper.link.drop(Problem("Test", "dropped by the test"))
    await pass_ms(30_000)
    assert upper.link.state is LinkState.DOWN
    assert upper.link.statistics()["attempts"] == 1
    upper.make_durable()
    await upper.link.until_coupled()
    assert len(upper.records) == 1
    await end(upper, lower)


@virtual
async def test_the_tip_waits_for_what_was_decided_and_is_not_yet_visible() -> None:
    _, lower, upper = await pair("memory", automatic=False)
    upper.link.start()
    await upper.link.until_coupled()
    upper.owe(b"\x01")
    await until(lambda: len(lower.mailbox) == 1)
    lower.turn()  # decided, not published: the standby has not acknowledged, say
    upper.link.drop(Problem("Test", "dropped by the test"))
    await pass_ms(1_000)
    assert len(lower.opened) == 1
    lower.show()
    await until(lambda: upper.coupled)
    await pass_ms(100)
    lower.turn()
    assert lower.done() == [b"\x01"]
    await end(upper, lower)


@virtual
async def test_the_newest_of_two_nodes_with_one_name_wins_and_the_other_is_told() -> None:
    wires, lower, upper = await pair("memory")
    upper.link.start()
    await upper.link.until_coupled()
    other = Upper(wires.of("upper"), url=wires.url("lower"), seed=1)
    other.link.start()
    await other.link.until_coupled()
    await until(lambda: upper.lost != [])
    assert upper.lost[0].code == "Superseded"
    await end(upper, other, lower)


@virtual
async def test_an_earlier_incarnation_does_not_replace_a_later_one() -> None:
    wires, lower, upper = await pair("memory", incarnation=7)
    upper.link.start()
    await upper.link.until_coupled()
    stale = Upper(wires.of("upper"), url=wires.url("lower"), seed=1, incarnation=6)
    stale.link.start()
    await until(lambda: stale.lost != [])
    assert stale.lost[0].code == "StaleIncarnation"
    assert upper.coupled
    assert upper.lost == []
    await end(upper, stale, lower)


@pytest.mark.parametrize(
    ("options", "code"),
    [({"peer_role": "subagent"}, "WrongPeer"), ({"peer_node": "elsewhere"}, "WrongPeer")],
)
@virtual
async def test_the_peer_must_be_who_was_expected(options: dict[str, Any], code: str) -> None:
    _, lower, upper = await pair("memory", **options)
    upper.link.start()
    await until(lambda: upper.link.problem is not None)
    assert upper.link.problem is not None
    assert upper.link.problem.code == code
    assert upper.link.state is not LinkState.COUPLED
    await end(upper, lower)


@virtual
async def test_a_refusal_is_told_with_its_reason() -> None:
    wires = Wires("memory")
    lower = await Lower(wires.of("lower"), url=wires.url("lower"), admit=lambda hello: Denied()).open()
    upper = Upper(wires.of("upper"), url=wires.url("lower"))
    upper.link.start()
    await until(lambda: upper.lost != [])
    assert upper.lost[0] == Denied()
    await end(upper, lower)


@virtual
async def test_a_cursor_the_source_cannot_serve_is_answered_at_the_handshake_or_later() -> None:
    wires = Wires("memory")
    lower = Lower(wires.of("lower"), url=wires.url("lower"))
    for number in range(9):
        lower.log.append(bytes([number]))
    lower.log.publish()
    lower.log.first = 5
    await lower.open()
    beyond = Upper(wires.of("upper"), url=wires.url("lower"), cursor=lambda: Cursor(50, 1))
    trimmed = Upper(wires.of("other"), url=wires.url("lower"), node="other", cursor=lambda: START)
    for upper in (beyond, trimmed):
        upper.link.start()
        await until(lambda upper=upper: upper.lost != [])  # type: ignore[misc]
        assert upper.lost[0].code == "Diverged"
    await end(beyond, trimmed, lower)


@SCHEMES
@virtual
async def test_an_idle_link_stays_coupled(scheme: str) -> None:
    _, lower, upper = await pair(scheme)
    upper.link.start()
    await upper.link.until_coupled()
    await pass_ms(60_000)
    assert upper.coupled
    assert upper.link.statistics()["sessions"] == 1
    await end(upper, lower)


@virtual
async def test_closing_tells_those_who_wait() -> None:
    wires = Wires("memory")
    upper = Upper(wires.of("upper"), url=wires.url("lower"))
    scope = TaskScope("waiting", upper.failures.append)
    upper.link.start()
    waiting = scope.start(outcome(upper.link.until_coupled()), "wait")
    await pass_ms(1_000)
    await upper.close()
    lost = await waiting
    assert isinstance(lost, LinkLost)
    assert lost.problem == LinkClosed()
    with pytest.raises(LinkLost):
        await upper.link.until_coupled()
    with pytest.raises(LinkLost):
        await upper.link.request(b"\x01")
    await scope.close()


@pytest.mark.parametrize("part", ["transport", "new_id", "jitter"])
@virtual
async def test_a_revoked_world_ends_the_link_quietly(part: str) -> None:
    def revoked(*_: object) -> None:
        raise EngineClosed("as planted")

    _, lower, upper = await pair("memory")
    upper.link.start()
    await upper.link.until_coupled()
    setattr(upper.link._world, part, revoked)
    asking = TaskScope("asking", upper.failures.append)
    unknown = asking.start(outcome(upper.link.request(b"\x01")), "request")
    upper.link.drop(Problem("Test", "dropped by the test"))
    assert isinstance(await unknown, LinkLost)
    await pass_ms(60_000)
    assert upper.link.state is LinkState.DOWN
    assert upper.link.statistics()["sessions"] == 1
    await asking.close()
    await end(upper, lower)


@virtual
async def test_a_url_that_names_nothing_is_a_problem_not_a_failure() -> None:
    def nothing(url: str) -> tuple[Transport, str]:
        raise ValueError(f"{url} names no transport")

    _, lower, upper = await pair("memory")
    upper.link._world.transport = nothing  # type: ignore[method-assign]
    upper.link.start()
    await until(lambda: upper.link.statistics()["attempts"] == 3)
    assert upper.link.problem is not None
    assert "names no transport" in upper.link.problem.sentence
    await end(upper, lower)


@virtual
async def test_a_failing_callback_of_the_owner_is_reported_and_ends_the_link() -> None:
    def broken() -> Iterable[bytes] | None:
        raise ValueError("as planted")

    _, lower, upper = await pair("memory", owed=broken)
    upper.link.start()
    await until(lambda: upper.failures != [])
    assert str(upper.failures[0]) == "as planted"
    assert upper.link.state is LinkState.DOWN
    await upper.close()
    await end(lower)
