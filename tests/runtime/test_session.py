"""What a session admits, answers and holds back, against a peer whose every byte is in the test's hands."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from engine.base.ids import START, Cursor
from engine.base.limits import FRAME_BYTES_MAX
from engine.base.problem import EngineClosed, Problem
from engine.base.tasks import TaskScope
from engine.base.wire import (
    Ack,
    Answer,
    Ask,
    Beat,
    Commands,
    Raw,
    Records,
    Replies,
    WireRecord,
    decode_message,
    encode_message,
)
from engine.ports import ConnectionClosed
from engine.runtime.framing import Incoming
from engine.runtime.session import Session
from tests.runtime.linked import Lower, Wires, accepted, end, hello, pass_ms, until, virtual
from tests.runtime.raw_peer import Peer, reception

ONE = Raw(b"\x01")


@virtual
async def test_commands_are_delivered_in_order_and_replies_batched() -> None:
    wires, lower = await reception()
    peer = await Peer(wires).dial()
    await peer.welcome()
    await peer.send(Commands(1, (ONE, Raw(b"\x02"))), Commands(3, (Raw(b"\x93\x01\x02\x03"),)))
    replies = await peer.receive()
    assert isinstance(replies, Replies)
    assert [(one.number, bytes(one.body)) for one in replies.replies] == [
        (number, encode_message(accepted(number))) for number in (1, 2, 3)
    ]
    assert lower.done() == [b"\x01", b"\x02", b"\x93\x01\x02\x03"]
    await end(lower)


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([Commands(2, (ONE,))], "NumberMismatch"),
        ([Commands(1, (ONE, ONE)), Commands(2, (ONE,))], "NumberMismatch"),
        ([Commands(1, (ONE,)), Commands(1, (ONE,))], "NumberMismatch"),
        ([Ask(2, ONE)], "NumberMismatch"),
        ([Ask(1, ONE), Ask(1, ONE)], "NumberMismatch"),
        ([hello("again")], "MessageMalformed"),
        ([Records(())], "MessageMalformed"),
        ([b"\xc1"], "MessageMalformed"),
        ([b"\x93\xa8Commands\x01" + b"\x91" * 70_000], "MessageMalformed"),
        ([encode_message(Commands(1, (ONE,) * 1_001))], "MessageMalformed"),
    ],
)
@virtual
async def test_a_gap_a_repetition_or_nonsense_ends_the_session(messages: list[object], code: str) -> None:
    wires, lower = await reception()
    peer = await Peer(wires).dial()
    await peer.welcome()
    await peer.send(*messages)
    assert await peer.farewell() == code
    await until(lambda: lower.ended != [])
    assert lower.ended[0][1].code == code
    assert lower.reception.statistics()["malformed"] == 1
    await end(lower)


@virtual
async def test_a_message_longer_than_the_limit_ends_the_session() -> None:
    wires, lower = await reception()
    peer = await Peer(wires).dial()
    await peer.welcome()
    number = 1  # of the frame after Hello
    with pytest.raises(ConnectionClosed):
        for _ in range(FRAME_BYTES_MAX // 60_000 + 2):
            await peer.connection.send([(0x81 << 24 | number).to_bytes(4, "big") + bytes(60_000)])
            number += 1
        await peer.farewell()
        await peer.connection.send([b"x"])
    await until(lambda: lower.ended != [])
    assert lower.ended[0][1].code == "MessageMalformed"
    await end(lower)


@virtual
async def test_more_commands_than_the_credit_end_the_session() -> None:
    wires, lower = await reception(automatic=False)
    peer = await Peer(wires).dial()
    await peer.welcome()
    await peer.send(*[Commands(first, (ONE,) * 1_000) for first in range(1, 10_001, 1_000)])
    await until(lambda: len(lower.mailbox) == 10_000)
    await peer.send(Commands(10_001, (ONE,)))
    assert await peer.farewell() == "CreditExceeded"
    assert len(lower.mailbox) == 10_000
    await end(lower)


@virtual
async def test_more_bytes_or_queries_than_the_credit_end_the_session() -> None:
    wires, lower = await reception(automatic=False, ask=lambda *_: None)
    peer = await Peer(wires).dial()
    await peer.welcome()
    big = Raw(encode_message(bytes(15 << 20)))
    with pytest.raises(ConnectionClosed):
        for number in range(1, 10):
            await peer.send(Commands(number, (big,)))
    assert await peer.farewell() in ("CreditExceeded", "")
    await until(lambda: lower.ended != [])
    assert lower.ended[0][1].code == "CreditExceeded"
    other = await Peer(wires).dial()
    await other.welcome(node="other")
    await other.send(*[Ask(number, ONE) for number in range(1, 66)])
    assert await other.farewell() == "CreditExceeded"
    await end(lower)


@virtual
async def test_a_full_mailbox_stops_the_reading_and_beats_go_on() -> None:
    wires = Wires("memory")
    taken: list[int] = []
    room = asyncio.Event()

    async def wait_for_room() -> None:
        await room.wait()

    def deliver(session: Session, number: int, raw: Raw, reply: Callable[[bytes], None]) -> object:
        taken.append(number)
        return wait_for_room() if number == 2 and not room.is_set() else None

    lower = await Lower(wires.of("lower"), url=wires.url("lower"), deliver=deliver).open()
    peer = await Peer(wires).dial()
    await peer.welcome()
    await peer.send(Commands(1, (ONE,) * 5))
    beats: list[Beat] = []

    async def listen() -> None:
        incoming = Incoming()
        incoming._number = 1  # the Welcome was frame 0
        while True:
            frames = await peer.connection.receive()
            beats.extend(decode_message(incoming.take(frame)) for frame in frames)  # type: ignore[arg-type]

    scope = TaskScope("peer", lower.failures.append)
    scope.start(listen(), "listen")
    await pass_ms(20_000)
    assert taken == [1, 2]
    assert len(beats) >= 19
    assert lower.ended == []
    room.set()
    await until(lambda: taken == [1, 2, 3, 4, 5])
    await scope.close()
    await end(lower)


@virtual
async def test_replies_after_the_end_go_nowhere_and_a_second_reply_is_a_mistake() -> None:
    wires, lower = await reception(automatic=False)
    peer = await Peer(wires).dial()
    await peer.welcome()
    await peer.send(Commands(1, (ONE, ONE)))
    await until(lambda: len(lower.mailbox) == 2)
    (_, _, first), (_, _, second) = lower.mailbox
    first(encode_message(accepted(1)))
    with pytest.raises(KeyError):
        first(encode_message(accepted(1)))
    await peer.connection.close()
    await until(lambda: lower.ended != [])
    assert lower.opened[0].live  # not superseded: what it sent may still be decided
    assert lower.reception._sessions != {}
    second(encode_message(accepted(2)))
    assert lower.reception._sessions == {}
    await end(lower)


@virtual
async def test_records_follow_the_cursor_and_wait_for_acknowledgement() -> None:
    wires, lower = await reception()
    for number in range(30_000):
        lower.log.append(encode_message(number))
    lower.log.publish()
    peer = await Peer(wires).dial()
    await peer.welcome(cursor=Cursor(100, 1))
    index = 100
    while index < 10_100:
        message = await peer.receive()
        assert isinstance(message, Records)
        assert len(message.records) <= 1_000
        for record in message.records:
            index += 1
            assert record.index == index
    assert index == 10_100
    await peer.send(Ask(1, ONE))
    assert isinstance(await peer.receive(), Answer)  # and no record before the Ack
    assert lower.log.pulled_max == 10_100
    await peer.send(Ack(Cursor(5_100, 1)))
    assert isinstance(await peer.receive(), Records)
    await until(lambda: lower.acks == [("s1", Cursor(5_100, 1))])
    await end(lower)


@virtual
async def test_replies_are_not_starved_by_records_nor_records_by_replies() -> None:
    wires, lower = await reception(automatic=False)
    for _ in range(9_000):
        lower.log.append(bytes(1_000))
    lower.log.publish()
    peer = await Peer(wires).dial()
    await peer.welcome(cursor=START)
    await peer.send(*[Commands(first, (ONE,) * 1_000) for first in range(1, 9_001, 1_000)])
    await until(lambda: len(lower.mailbox) == 9_000)
    for _, _, reply in lower.mailbox:
        reply(encode_message(accepted(1)))
    kinds = [type(await peer.receive()) for _ in range(30)]
    assert {Records, Replies} <= set(kinds[5:20])
    await end(lower)


@virtual
async def test_what_waits_for_room_in_the_mailbox_is_dropped_when_a_newer_session_opens() -> None:
    wires = Wires("memory")
    taken: list[int] = []
    room = asyncio.Event()

    async def wait_for_room() -> None:
        await room.wait()

    def deliver(session: Session, number: int, raw: Raw, reply: Callable[[bytes], None]) -> Awaitable[None]:
        taken.append(number)
        return wait_for_room()

    lower = await Lower(wires.of("lower"), url=wires.url("lower"), deliver=deliver).open()
    peer, newer = await Peer(wires).dial(), await Peer(wires).dial()
    await peer.welcome()
    await peer.send(Commands(1, (ONE,) * 5))
    await until(lambda: taken == [1])
    await newer.welcome(session="newer")
    room.set()
    await until(lambda: lower.ended != [])
    assert taken == [1]
    await end(lower)


class _Woken:
    def wake(self) -> None:
        pass


async def test_replies_and_records_take_turns() -> None:
    session = Session(hello(cursor=START), _Woken())  # type: ignore[arg-type]
    session.admit_commands(Commands(1, (ONE,) * 1_000))
    session.admit_commands(Commands(1_001, (ONE,) * 1_000))
    for number in range(1, 2_001):
        session.reply(number, encode_message(accepted(number)))
    scope = TaskScope("pump", lambda _: None)
    scope.start(session.offer([WireRecord(index, 1, bytes(200_000)) for index in range(1, 5)]), "offer")
    await asyncio.sleep(0)
    pulled = [type(decode_message(message)) for message in iter(session.pull, None)]
    assert pulled == [Replies, Records, Replies, Records, Records, Records]
    await scope.close()


@virtual
async def test_a_source_that_ends_says_goodbye() -> None:
    class Ending:
        tip = Cursor(1, 1)

        def __init__(self, error: Exception) -> None:
            self.error = error

        def reader(self, cursor: Cursor) -> "Ending":
            return self

        async def next(self, records_max: int) -> list[object]:
            raise self.error

    told = Problem("TooOld", "told by the source")
    refusal = LookupError("trimmed")
    refusal.problem = told  # type: ignore[attr-defined]
    for error, code in (
        (LookupError("x"), "LookupError"),
        (refusal, "TooOld"),
        (EngineClosed("x"), "ReceptionClosing"),
    ):
        wires, lower = await reception(source=Ending(error), settles=False)
        peer = await Peer(wires).dial()
        await peer.send(hello(cursor=START))
        assert await peer.farewell() == code
        await end(lower)
