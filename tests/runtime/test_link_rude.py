"""Link against a listening side whose every byte is in the test's hands: wrong, late, rude and silent ones."""

import asyncio
from typing import Any, cast

import pytest

from engine.base.ids import START, Cursor
from engine.base.problem import Problem
from engine.base.wire import (
    Ack,
    Answer,
    AnyMessage,
    Ask,
    Beat,
    Commands,
    Goodbye,
    Hello,
    Raw,
    Records,
    Replies,
    Reply,
    Welcome,
    WireRecord,
    decode_message,
    encode_message,
)
from engine.ports import Connection, ConnectionClosed, Listener
from engine.runtime.framing import Incoming, Outgoing
from engine.runtime.link import LinkState
from engine.simulation.loop import VirtualLoop
from tests.runtime.linked import CLUSTER, Upper, Wires, accepted, end, pass_ms, until, virtual


class Rude:
    """A listening side by hand. It welcomes with `changes`, then says `script`; None: not even a Welcome."""

    def __init__(self, wires: Wires, *script: AnyMessage | bytes, **changes: Any) -> None:
        self._wires = wires
        self._script = script
        self._changes = changes
        self.hellos: list[Hello] = []
        self.heard: list[AnyMessage] = []
        self.silent = False
        self.listener: Listener

    async def open(self) -> "Rude":
        self.listener = await self._wires.of("lower").listen("lower", self._accept)
        return self

    async def close(self) -> None:
        await self.listener.close()

    async def _accept(self, connection: Connection) -> None:
        incoming, said = Incoming(), list(self._script)
        outgoing = Outgoing(lambda: self._next(said), lambda: None)
        while True:
            for frame in await connection.receive():
                whole = incoming.take(frame)
                assert whole is not None
                message = decode_message(whole)
                if isinstance(message, Hello):
                    self.hellos.append(message)
                    if not self.silent:
                        said.insert(0, self._welcome(message))
                        while frames := outgoing.gather():
                            await connection.send(frames)
                elif not isinstance(message, Beat):
                    self.heard.append(message)

    def _welcome(self, hello: Hello) -> Welcome:
        fields: dict[str, Any] = {
            "cluster": CLUSTER, "role": "lower", "node": "lower", "incarnation": 1, "session": hello.session,
            "feature": 1, "tip": Cursor(0, 0),
        }  # fmt: skip
        return Welcome(**(fields | self._changes))

    @staticmethod
    def _next(said: list[AnyMessage | bytes]) -> bytes | None:
        if not said:
            return None
        message = said.pop(0)
        return message if isinstance(message, bytes) else encode_message(message)


async def meet(
    *script: AnyMessage | bytes, options: dict[str, Any] | None = None, **changes: Any
) -> tuple[Rude, Upper]:
    wires = Wires("memory")
    rude = await Rude(wires, *script, **changes).open()
    upper = Upper(wires.of("upper"), url=wires.url("lower"), **(options or {}))
    upper.link.start()
    return rude, upper


def record(index: int) -> WireRecord:
    return WireRecord(index, 1, b"\x90")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"session": "another"}, "MessageMalformed"),
        ({"cluster": "another"}, "WrongPeer"),
        ({"role": "subagent"}, "WrongPeer"),
        ({"node": "another"}, "WrongPeer"),
        ({"feature": 0}, "FeatureTooOld"),
    ],
)
@virtual
async def test_a_welcome_must_fit(changes: dict[str, Any], code: str) -> None:
    rude, upper = await meet(**changes)
    await until(lambda: upper.link.problem is not None)
    assert upper.link.problem is not None
    assert upper.link.problem.code == code
    assert upper.trace == []
    assert rude.heard == []
    await end(upper)
    await rude.close()


@virtual
async def test_a_peer_that_has_less_than_we_have_seen_lost_its_data() -> None:
    told: list[str] = []
    cast("VirtualLoop", asyncio.get_running_loop()).on_log = lambda _node, sentence: told.append(sentence)
    rude, upper = await meet(options={"cursor": lambda: Cursor(9, 1)}, tip=Cursor(8, 1))
    await until(lambda: upper.link.statistics()["attempts"] > 2)
    assert upper.link.problem is not None
    assert upper.link.problem.code == "PeerBehind"
    assert len(told) == 1, told  # each dialling finds the same, and it is told once
    assert "can not be coupled" in told[0]
    await end(upper)
    await rude.close()


@virtual
async def test_a_peer_whose_last_record_is_of_another_epoch_has_another_history() -> None:
    rude, upper = await meet(options={"cursor": lambda: Cursor(8, 1)}, tip=Cursor(8, 2))
    await until(lambda: upper.link.problem is not None)
    assert upper.link.problem is not None
    assert upper.link.problem.code == "PeerDiverged"
    assert upper.trace == []
    await end(upper)
    await rude.close()


@virtual
async def test_a_peer_that_does_not_welcome_is_left_in_time() -> None:
    wires = Wires("memory")
    rude = Rude(wires)
    rude.silent = True
    await rude.open()
    upper = Upper(wires.of("upper"), url=wires.url("lower"))
    upper.link.start()
    await until(lambda: upper.link.problem is not None)
    assert upper.link.problem is not None
    assert upper.link.problem.code == "HandshakeTimedOut"
    assert 4.9 < asyncio.get_running_loop().time() < 5.2
    await until(lambda: len(rude.hellos) == 2)
    assert rude.hellos[0].session != rude.hellos[1].session
    await end(upper)
    await rude.close()


@pytest.mark.parametrize(
    "said",
    [
        Records((record(2),)),
        Records((record(1), record(3))),
        Records((record(1), record(1))),
        Records(tuple(record(index) for index in range(1_001))),
        Replies((Reply(1, Raw(encode_message(accepted(1)))),)),
        Commands(1, (Raw(b"\x01"),)),
        Ask(1, Raw(b"\x01")),
        Ack(START),
        b"\xc1",
        b"\x92\xa7Records" + b"\x91" * 50_000,
    ],
    ids=["gap", "gap inside", "repeated", "too many", "no such command", "command", "ask", "ack", "bytes", "nested"],
)
@virtual
async def test_nonsense_ends_the_session_and_is_counted(said: AnyMessage | bytes) -> None:
    rude, upper = await meet(said)
    await until(lambda: upper.lost != [])
    assert upper.lost[0].code == "MessageMalformed"
    assert upper.link.statistics()["malformed"] == 1
    await until(lambda: len(rude.hellos) >= 2)
    await end(upper)
    await rude.close()


@virtual
async def test_more_records_than_were_asked_for_end_the_session() -> None:
    messages = [Records(tuple(record(first + place) for place in range(1_000))) for first in range(1, 12_001, 1_000)]
    wires = Wires("memory")
    rude = await Rude(wires, *messages).open()
    upper = Upper(wires.of("upper"), url=wires.url("lower"))
    upper.acknowledges = False
    upper.link.start()
    await until(lambda: upper.lost != [])
    assert upper.lost[0].code == "MessageMalformed"
    assert len(upper.records) == 10_000
    await end(upper)
    await rude.close()


@virtual
async def test_a_reply_that_cannot_be_read_or_comes_twice_ends_the_session() -> None:
    for said in (
        Replies((Reply(1, Raw(b"\x01")),)),
        Replies((Reply(1, Raw(encode_message(accepted(1)))), Reply(1, Raw(encode_message(accepted(1)))))),
    ):
        rude, upper = await meet(said, options={"owed": lambda: [b"\x01"]})
        await until(lambda upper=upper: upper.lost != [])  # type: ignore[misc]
        assert upper.lost[0].code == "MessageMalformed"
        await end(upper)
        await rude.close()


@virtual
async def test_an_answer_nobody_waits_for_is_ignored() -> None:
    rude, upper = await meet(Answer(7, Raw(b"\x01")))
    await upper.link.until_coupled()
    await pass_ms(1_000)
    assert upper.coupled
    await end(upper)
    await rude.close()


@virtual
async def test_a_goodbye_at_any_time_is_told_as_it_was_said() -> None:
    said = Problem("Whatever", "as the peer wants it")
    rude, upper = await meet(Records((record(1),)), Goodbye(said))
    await until(lambda: upper.lost != [])
    assert upper.lost[0] == said
    assert len(upper.records) == 1
    assert upper.trace[-1] == "lost"
    await end(upper)
    await rude.close()


@virtual
async def test_a_silent_peer_is_dropped_after_three_beats() -> None:
    rude, upper = await meet()
    await upper.link.until_coupled()
    assert upper.link.send(b"\x01")
    await until(lambda: upper.lost != [])
    assert upper.lost[0].code == "PeerSilent"
    assert 3 < asyncio.get_running_loop().time() < 4.5
    assert [type(message) for message in rude.heard] == [Commands]
    await until(lambda: upper.link.state is LinkState.COUPLED)
    await end(upper)
    await rude.close()


@virtual
async def test_a_connection_that_breaks_in_mid_handshake_is_tried_again() -> None:
    wires = Wires("memory")
    seen: list[int] = []

    async def accept(connection: Connection) -> None:
        await connection.receive()
        seen.append(1)

    listener = await wires.of("lower").listen("lower", accept)
    upper = Upper(wires.of("upper"), url=wires.url("lower"))
    upper.link.start()
    await until(lambda: len(seen) == 3)
    assert upper.lost == []
    assert upper.trace == []
    await end(upper)
    await listener.close()
    with pytest.raises(ConnectionClosed):
        await wires.of("upper").connect("lower")
