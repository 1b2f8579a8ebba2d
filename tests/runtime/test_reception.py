"""Reception against a peer whose every byte is in the test's hands: strangers, numbers, credit, slow and rude peers."""

import asyncio
from collections.abc import Callable
from random import Random

import pytest

import engine.runtime.reception
from engine.base.ids import START, Cursor
from engine.base.problem import Problem
from engine.base.tasks import TaskScope
from engine.base.wire import (
    Ack,
    Ask,
    Beat,
    Commands,
    Goodbye,
    Raw,
    Welcome,
    encode_message,
)
from engine.ports import ConnectionClosed
from engine.runtime.line import Pace
from engine.runtime.session import Session
from tests.runtime.linked import Diverged, Log, LogReader, Lower, Wires, end, hello, pass_ms, until, virtual
from tests.runtime.raw_peer import Peer, reception

ONE = Raw(b"\x01")


# --- the handshake


@virtual
async def test_the_welcome_names_who_speaks_the_session_and_the_tip() -> None:
    wires, lower = await reception()
    lower.log.append(b"record")
    lower.log.publish()
    peer = await Peer(wires).dial()
    welcome = await peer.welcome(session="mine")
    assert welcome == Welcome("test", "lower", "lower", 1, "mine", 1, Cursor(1, 1))
    assert [session.node for session in lower.reception.sessions()] == ["upper"]
    await peer.connection.close()
    await until(lambda: lower.reception.sessions() == [])
    await end(lower)


@virtual
async def test_a_stranger_who_says_nothing_is_closed_in_time_and_holds_nothing() -> None:
    wires, lower = await reception()
    peer = await Peer(wires).dial()
    began = asyncio.get_running_loop().time()
    assert await peer.farewell() == "HandshakeTimedOut"
    assert 4.9 < asyncio.get_running_loop().time() - began < 5.2
    assert lower.reception.statistics()["timed_out"] == 1
    assert lower.reception.statistics()["handshakes"] == 0
    await end(lower)


@virtual
async def test_a_handshake_that_never_settles_ends_in_time_too() -> None:
    wires, lower = await reception()
    lower.log.append(b"decided, never published")
    peer = await Peer(wires).dial()
    await peer.send(hello())
    assert await peer.farewell() == "HandshakeTimedOut"
    lower.log.publish()
    await (await Peer(wires).dial()).welcome()
    await end(lower)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"cluster": "other"}, "NotMine"),
        ({"node": ""}, "NamesMissing"),
        ({"role": "x" * 101}, "NamesMissing"),
        ({"session": ""}, "NamesMissing"),
        ({"feature": 0}, "FeatureTooOld"),
        ({"cursor": Cursor(7, 1)}, "Diverged"),
    ],
)
@virtual
async def test_a_hello_is_refused_with_the_reason(changes: dict[str, object], code: str) -> None:
    wires, lower = await reception()
    peer = await Peer(wires).dial()
    await peer.send(hello(**changes))  # type: ignore[arg-type]
    assert await peer.farewell() == code
    assert lower.opened == []
    assert lower.reception.statistics()["refused"] == 1
    await end(lower)


@pytest.mark.parametrize(
    "first",
    [b"\xc1", b"\x93\xa5Hello\x01\x02", encode_message(Commands(1, (ONE,))), encode_message("text"), bytes(70_000)],
    ids=["not msgpack", "half", "command", "no message", "long"],
)
@virtual
async def test_what_is_no_hello_ends_the_connection_and_is_counted(first: bytes) -> None:
    wires, lower = await reception()
    peer = await Peer(wires).dial()
    await peer.send(first)
    assert await peer.farewell() == "MessageMalformed"
    assert lower.reception.statistics()["malformed"] == 1
    await end(lower)


@virtual
async def test_a_stranger_may_not_say_more_than_a_hello() -> None:
    wires, lower = await reception()
    peer = await Peer(wires).dial()
    await peer.send(hello(session="x" * 60_000 + "y" * 60_000))
    assert await peer.farewell() == "MessageMalformed"
    await end(lower)


@virtual
async def test_a_cursor_is_confirmed_before_the_welcome() -> None:
    class Confirming(Log):
        def reader(self, cursor: Cursor) -> "Reader":
            return Reader(self, cursor.index)

    class Reader(LogReader):
        async def confirm(self) -> None:
            await pass_ms(10)
            raise Diverged("another epoch stands there")

    wires, lower = await reception(source=Confirming(), settles=False)
    peer = await Peer(wires).dial()
    await peer.send(hello(cursor=START))
    message = await peer.receive()
    assert isinstance(message, Goodbye)
    assert message.problem.code == "Diverged"
    await end(lower)


@virtual
async def test_sessions_and_handshakes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.runtime.reception, "SESSIONS_MAX", 2)
    monkeypatch.setattr(engine.runtime.reception, "HANDSHAKES_MAX", 3)
    wires, lower = await reception()
    for name in ("a", "b"):
        await (await Peer(wires).dial()).welcome(node=name)
    third = await Peer(wires).dial()
    await third.send(hello(node="c"))
    assert await third.farewell() == "TooManySessions"
    await (await Peer(wires).dial()).welcome(node="b", session="newer")  # in place of its older one
    silent = [await Peer(wires).dial() for _ in range(3)]
    await pass_ms(10)
    assert await (await Peer(wires).dial()).farewell() == ""
    assert len(silent) == lower.reception.statistics()["handshakes"]
    await end(lower)


@virtual
async def test_two_handshakes_of_one_node_at_once_leave_one_session() -> None:
    wires, lower = await reception()
    lower.log.append(b"decided")
    first, second = await Peer(wires).dial(), await Peer(wires).dial()
    await first.send(hello("first"))
    await second.send(hello("second"))
    await pass_ms(100)
    lower.log.publish()
    assert await first.farewell() == "Superseded"
    assert isinstance(await second.receive(), Welcome)
    assert [session.id for session in lower.opened] == ["second"]
    await end(lower)


@virtual
async def test_incarnations_are_remembered_for_a_bounded_number_of_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.runtime.reception, "PEERS_KNOWN_MAX", 5)
    wires, lower = await reception()
    for number in range(20):
        peer = await Peer(wires).dial()
        await peer.welcome(node=f"n{number}", incarnation=9)
        await peer.connection.close()
    stale = await Peer(wires).dial()
    await stale.send(hello(node="n19", incarnation=8))
    assert await stale.farewell() == "StaleIncarnation"
    assert len(lower.reception._incarnations) == 5
    await until(lambda: lower.reception._sessions == {})
    await end(lower)


# --- the end


@virtual
async def test_closing_says_goodbye_and_makes_undecided_commands_void() -> None:
    wires, lower = await reception(automatic=False)
    peer = await Peer(wires).dial()
    await peer.welcome()
    await peer.send(Commands(1, (ONE,)))
    await until(lambda: len(lower.mailbox) == 1)
    scope = TaskScope("closing", lower.failures.append)
    closing = scope.start(lower.close(), "close")
    assert await peer.farewell() == "ReceptionClosing"
    await closing
    assert not lower.mailbox[0][0].live
    with pytest.raises(ConnectionClosed):
        await Peer(wires).dial()
    await scope.close()


@virtual
async def test_closing_does_not_wait_for_a_peer_that_reads_nothing() -> None:
    wires, lower = await reception()
    for _ in range(10):
        lower.log.append(bytes(1 << 20))
    lower.log.publish()
    peer = await Peer(wires).dial()
    await peer.welcome(cursor=START)
    await pass_ms(100)
    began = asyncio.get_running_loop().time()
    await end(lower)
    assert asyncio.get_running_loop().time() - began < 1.5


@virtual
async def test_a_failing_callback_of_the_owner_is_reported_and_ends_that_session_only() -> None:
    wires = Wires("memory")

    def deliver(session: Session, number: int, raw: Raw, reply: Callable[[bytes], None]) -> None:
        raise ValueError("as planted")

    lower = await Lower(wires.of("lower"), url=wires.url("lower"), deliver=deliver).open()
    bad, good = await Peer(wires).dial(), await Peer(wires).dial()
    await bad.welcome(node="bad")
    await good.welcome(node="good")
    await bad.send(Commands(1, (ONE,)))
    await bad.farewell()
    await until(lambda: lower.failures != [])
    assert [str(error) for error in lower.failures] == ["as planted"]
    assert [session.node for session in lower.reception.sessions()] == ["good"]
    await lower.close()


@pytest.mark.parametrize("seed", range(20))
@virtual
async def test_random_bytes_and_broken_messages_never_do_more_than_end_their_connection(seed: int) -> None:
    rng = Random(seed)
    wires, lower = await reception(pace=Pace(handshake_ms_max=100))
    good = [hello(), Commands(1, (ONE, ONE)), Ask(1, ONE), Ack(Cursor(1, 1)), Beat(1, 0), Goodbye(Problem("a", "b"))]
    for _ in range(40):
        peer = await Peer(wires).dial()
        try:
            if rng.random() < 0.7:
                await peer.send(hello(node=f"n{rng.randrange(5)}"))
            for _ in range(rng.randrange(4)):
                message = bytearray(encode_message(rng.choice(good)))
                for _ in range(rng.randrange(3)):
                    message[rng.randrange(len(message))] = rng.randrange(256)
                if rng.random() < 0.2:
                    await peer.connection.send([rng.randbytes(rng.randrange(50))])
                else:
                    await peer.send(bytes(message))
        except ConnectionClosed:
            pass
        await peer.connection.close()
    await pass_ms(1_000)
    assert lower.reception.statistics()["handshakes"] == 0
    await (await Peer(wires).dial()).welcome(node="fine")
    await end(lower)
