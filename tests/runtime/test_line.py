"""Line: who is silent for three beats is dropped, and only he; the last message goes out; mistakes come to light."""

import asyncio
from collections.abc import Sequence

import pytest

from engine.base.ids import START
from engine.base.tasks import TaskScope
from engine.base.wire import Ack, AnyMessage, Beat, Goodbye, decode_message, encode_message
from engine.ports import ConnectionClosed
from engine.runtime.framing import Incoming, Outgoing
from engine.runtime.line import PACE, Line, LineEnded, MessageMalformed
from engine.simulation.loop import VirtualLoop, run
from tests.runtime.linked import LoopClock, pass_ms, virtual
from transports.memory import Pipe

BYE = MessageMalformed(reason="as the test wants it")


class Wire:
    """A connection of which the test is the other end."""

    peer = "other end"

    def __init__(self) -> None:
        self.out, self.into = Pipe(), Pipe()
        self.send = self.out.send
        self.receive = self.into.receive
        self._cut = Outgoing(lambda: self._messages.pop(0) if self._messages else None, lambda: None)
        self._join = Incoming()
        self._messages: list[bytes] = []

    async def close(self) -> None:
        self.out.shut("closed")
        self.out.end("closed")
        self.into.end("closed", drop=True)

    async def say(self, message: AnyMessage) -> None:
        self._messages.append(encode_message(message))
        await self.into.send(self._cut.gather())

    async def hear(self) -> list[AnyMessage]:
        return [decode_message(whole) for one in await self.out.receive() if (whole := self._join.take(one))]


def line_on(wire: Wire, *, echo: bool = False, pull: Sequence[bytes] = ()) -> Line:
    waiting = list(pull)
    return Line(wire, PACE, LoopClock(), pull=lambda: waiting.pop(0) if waiting else None, echo=echo)


async def ended(line: Line) -> str:
    """Receive until the end and return why it ended."""
    while True:
        try:
            await line.receive()
        except LineEnded as end:
            return end.problem.code


@virtual
async def test_three_missed_beats_end_the_line() -> None:
    wire = Wire()
    line = line_on(wire)
    line.start_beats()
    began = asyncio.get_running_loop().time()
    assert await ended(line) == "PeerSilent"
    assert 3 < asyncio.get_running_loop().time() - began < 4.5
    with pytest.raises(ConnectionClosed):
        await wire.into.send([b"x"])
        await wire.out.receive()
        await wire.out.receive()
    await line.close()


@virtual
async def test_anything_heard_counts_as_a_beat() -> None:
    wire = Wire()
    line = line_on(wire)
    line.start_beats()
    scope = TaskScope("test", lambda _: None)
    ending = scope.start(ended(line), "end")
    for _ in range(10):
        await pass_ms(2_700)
        await wire.say(Ack(START))
    assert not ending.done()
    await pass_ms(4_500)
    assert ending.result() == "PeerSilent"
    await line.close()
    await scope.close()


@virtual
async def test_silence_is_not_judged_while_nobody_reads() -> None:
    wire = Wire()
    line = line_on(wire)
    line.start_beats()
    await wire.say(Ack(START))
    await line.receive()
    await pass_ms(30_500)
    assert line.fault is None
    assert len(await wire.hear()) == 30
    await line.close()


@virtual
async def test_pending_input_is_read_before_the_judgement() -> None:
    wire = Wire()
    line = line_on(wire)
    line.start_beats()
    scope = TaskScope("test", lambda _: None)
    ending = scope.start(ended(line), "end")
    await pass_ms(4_050)  # the fourth tick was at 4,000 ms: three of them without input; the judgement is at 4,125 ms
    assert line._missed == 3
    await wire.say(Ack(START))
    await pass_ms(2_000)
    assert line.fault is None
    await wire.close()
    assert await ending == "ConnectionBroken"
    await line.close()
    await scope.close()


def test_an_own_stall_does_not_condemn_the_peer() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        wire = Wire()
        lines: list[Line] = []
        ends: list[str] = []

        async def node() -> None:
            line = line_on(wire)
            lines.append(line)
            line.start_beats()
            ends.append(await ended(line))
            await line.close()

        running = loop.create_task(node(), context=loop.context_of("stalling"))
        await pass_ms(500)
        for _ in range(8):
            loop.pause("stalling")
            await pass_ms(9_700)
            loop.resume("stalling")
            await pass_ms(50)
        await pass_ms(1_500)
        assert ends == []
        await pass_ms(5_000)  # and when it runs well the silence does count
        assert ends == ["PeerSilent"]
        await running

    run(main(), seed=1)


@virtual
async def test_the_listening_side_answers_each_beat_and_beats_by_itself_when_there_is_none() -> None:
    wire = Wire()
    line = line_on(wire, echo=True)
    line.start_beats()
    scope = TaskScope("test", lambda _: None)
    scope.start(ended(line), "end")
    for beat in range(1, 4):
        await pass_ms(999)
        await wire.say(Beat(beat, 0))
        await pass_ms(1)
        assert [one.echo_ms for one in await wire.hear() if isinstance(one, Beat)] == [beat]
    await pass_ms(2_100)
    assert [one.echo_ms for one in await wire.hear() if isinstance(one, Beat)] == [0, 0]
    await line.close()
    await scope.close()


@virtual
async def test_the_round_trip_is_measured() -> None:
    wire = Wire()
    line = line_on(wire)
    line.start_beats()
    scope = TaskScope("test", lambda _: None)
    scope.start(ended(line), "end")
    await pass_ms(1_001)
    (beat,) = await wire.hear()
    assert isinstance(beat, Beat)
    await pass_ms(40)
    await wire.say(Beat(7, beat.sent_ms))
    await pass_ms(1)
    assert 40 <= line.round_trip_ms <= 43
    await line.close()
    await scope.close()


@virtual
async def test_the_last_message_goes_out_behind_the_one_under_way() -> None:
    wire = Wire()
    big = encode_message(Goodbye(MessageMalformed(reason="x" * 2_000_000)))
    line = line_on(wire, pull=[big])
    await pass_ms(1)
    line.finish(BYE, encode_message(Goodbye(BYE)))
    heard: list[AnyMessage] = []
    with pytest.raises(ConnectionClosed):
        while True:
            heard += await wire.hear()
    assert [len(one.problem.sentence) > 1_000_000 for one in heard if isinstance(one, Goodbye)] == [True, False]
    assert await ended(line) == "MessageMalformed"
    await line.close()


@virtual
async def test_a_peer_that_does_not_take_the_last_message_is_not_waited_for_long() -> None:
    wire = Wire()
    big = encode_message(Goodbye(MessageMalformed(reason="x" * 4_000_000)))
    line = line_on(wire, pull=[big])
    await pass_ms(1)
    line.finish(BYE, encode_message(Goodbye(BYE)))
    began = asyncio.get_running_loop().time()
    await line.close()
    assert 0.9 < asyncio.get_running_loop().time() - began < 1.1


@virtual
async def test_the_first_reason_is_the_one_that_is_told() -> None:
    wire = Wire()
    line = line_on(wire)
    await pass_ms(1)
    line.break_off(BYE)
    await wire.close()
    assert await ended(line) == BYE.code
    assert await ended(line) == BYE.code
    await line.close()


@virtual
async def test_what_is_no_message_ends_the_line() -> None:
    wire = Wire()
    line = line_on(wire)
    await wire.into.send([b"\x01\x00\x00\x00\xc1"])
    assert await ended(line) == "MessageMalformed"
    await line.close()


@virtual
async def test_a_mistake_of_ours_while_writing_is_raised_to_the_reader() -> None:
    def broken() -> bytes | None:
        raise ValueError("as planted")

    wire = Wire()
    line = Line(wire, PACE, LoopClock(), pull=broken, echo=False)
    with pytest.raises(ValueError, match="as planted"):
        await line.receive()
    await line.close()
