"""Line: one connection that carries messages, with beats and the judgement of silence, for both sides. Floor 5.

* Messages are pulled from the owner when the connection has room, so a slow peer costs no memory here.
* Each side sends a Beat every beat_ms; three missed end the line with PeerSilent. What counts as missed is an own,
  punctual tick without any input while somebody was reading; so a stalled loop never condemns the peer.
* Pending input is read before the judgement: it is spoken a little after the tick that found the silence.
* The first reason to end is the one that is told; afterwards nothing received counts any more.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import msgspec

from engine.base.limits import BEAT_MS, BEATS_MISSED_MAX, FRAGMENT_BYTES_MAX, FRAME_BYTES_MAX, HANDSHAKE_MS_MAX
from engine.base.problem import Problem, problem
from engine.base.tasks import TaskScope
from engine.base.wire import AnyMessage, Beat, decode_message, encode_message
from engine.ports import Clock, Connection, ConnectionClosed, Transport
from engine.runtime.framing import FramingFault, Incoming, Outgoing, Pull

HELLO_BYTES_MAX = FRAGMENT_BYTES_MAX  # of one message, as long as the other side has not shown who it is
MESSAGE_BYTES_AIM = 256 << 10  # of one batch of commands, replies or records; a single larger item travels alone
BODY_BYTES_MAX = FRAME_BYTES_MAX - 1_024  # of one command, query, reply or answer, so that its message fits
FINISH_MS_MAX = 1_000  # for the last message to go out before the connection is closed all the same
RECONNECT_MS_MIN = 100
RECONNECT_MS_MAX = 5_000
COMMANDS_UNANSWERED_BYTES_MAX = 16 << 20  # per session, beside the count; a single larger command goes alone
RECORDS_UNACKNOWLEDGED_MAX = 10_000  # sent and not acknowledged, per session; the listening side waits
RECORDS_UNACKNOWLEDGED_BYTES_MAX = 16 << 20
URGENT_WAITING_MAX = 100  # messages that go before everything else; the connection does not take them any more
QUERIES_UNANSWERED_MAX = 64  # per session; the others wait
FEATURE_LEVEL_MIN = 1

ConnectionBroken = problem("ConnectionBroken", "The connection broke: {reason}.")
PeerSilent = problem("PeerSilent", "Nothing was heard for {beats} beats of {beat_ms} ms.")
MessageMalformed = problem("MessageMalformed", "The other side sent what is no message of ours: {reason}.")
HandshakeTimedOut = problem("HandshakeTimedOut", "The handshake with {peer} did not end within {limit_ms} ms.")
FeatureTooOld = problem(
    "FeatureTooOld", "Node {peer} has feature level {level}, the lowest that works here is {lowest}; upgrade it."
)


class Pace(msgspec.Struct, frozen=True):
    """The times of links. All nodes of a cluster keep the same beat."""

    beat_ms: int = BEAT_MS
    beats_missed_max: int = BEATS_MISSED_MAX
    handshake_ms_max: int = HANDSHAKE_MS_MAX
    reconnect_ms_min: int = RECONNECT_MS_MIN
    reconnect_ms_max: int = RECONNECT_MS_MAX


PACE = Pace()
RECONNECT_TO_PAIR_MS_MAX = 500  # a takeover takes three seconds; to look for who acts must not take as long again


def pace_to(urls: Sequence[str]) -> Pace:
    """Return the pace of a link: where a pair may be found, the other address is tried soon."""
    return PACE if len(urls) == 1 else msgspec.structs.replace(PACE, reconnect_ms_max=RECONNECT_TO_PAIR_MS_MAX)


class LinkWorld(Protocol):
    """As much of the World as links need."""

    @property
    def clock(self) -> Clock: ...

    def new_id(self) -> str: ...
    def jitter(self, span_ms: int) -> int: ...
    def transport(self, url: str) -> tuple[Transport, str]: ...


class LineEnded(Exception):
    """The line is over; `problem` says why."""

    def __init__(self, reason: Problem) -> None:
        super().__init__(reason.sentence)
        self.problem = reason


def _nothing() -> bytes | None:
    return None


class Line:
    """A connection that carries messages. Its owner receives in one task and closes it."""

    def __init__(
        self, connection: Connection, pace: Pace, clock: Clock, *, pull: Pull, pull_bulk: Pull = _nothing, echo: bool
    ) -> None:
        """Begin to write what `pull` gives; `echo` (the listening side) answers each beat at once."""
        self.peer = connection.peer
        self.round_trip_ms = -1  # of the last beat that was answered; -1 as long as none was
        self._connection = connection
        self._pace = pace
        self._clock = clock
        self._echo = echo
        self._outgoing = Outgoing(pull, pull_bulk)
        self._incoming = Incoming(HELLO_BYTES_MAX)
        self._fault: Problem | None = None
        self._failure: BaseException | None = None  # a mistake of ours while writing; raised by `receive`
        self._finishing = False
        self._loop = asyncio.get_running_loop()
        self._idle: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._limit: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._missed = 0
        self._heard = True
        self._reading = False
        self._beaten = False
        self._scope = TaskScope(f"line to {connection.peer}", self._note_failure)
        self._writer = self._scope.start(self._write(), "writer")

    # --- out

    def wake(self) -> None:
        """Tell the writer that `pull` may have something."""
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def _write(self) -> None:
        try:
            while True:
                frames = self._outgoing.gather()
                if frames:
                    await self._connection.send(frames)
                elif self._outgoing.ended:
                    return
                else:
                    self._idle = self._loop.create_future()
                    await self._idle
        except ConnectionClosed as closed:
            self._fault = self._fault or ConnectionBroken(reason=str(closed))
        except Exception as error:  # noqa: BLE001 - a mistake in `pull`; the owner's `receive` raises it
            self._failure = error
        finally:
            await self._connection.close()

    def _note_failure(self, error: BaseException) -> None:
        self._failure = error

    # --- in

    async def receive(self) -> list[AnyMessage]:
        """Return the messages at hand, beats taken out, perhaps none; raises LineEnded."""
        if self._fault is not None and not self._finishing:
            raise LineEnded(self._fault)
        self._reading = True
        try:
            frames = await self._connection.receive()
        except ConnectionClosed as closed:
            if self._failure is not None:
                raise self._failure from None
            raise self._ended(ConnectionBroken(reason=str(closed))) from None
        finally:
            self._reading = False
        self._heard = True
        if self._fault is not None:
            raise LineEnded(self._fault)
        messages: list[AnyMessage] = []
        for frame in frames:
            try:
                whole = self._incoming.take(frame)
                if whole is None:
                    continue
                message = decode_message(whole)
            except (FramingFault, msgspec.MsgspecError, ValueError, RecursionError) as error:
                ended = self._ended(MessageMalformed(reason=str(error)))
                if messages:
                    break  # what came before it counts; the next `receive` raises
                raise ended from None
            if type(message) is Beat:
                self._on_beat(message)
            else:
                messages.append(message)
        return messages

    def _ended(self, reason: Problem) -> LineEnded:
        if self._fault is None:
            self._fault = reason
        return LineEnded(self._fault)

    def _on_beat(self, beat: Beat) -> None:
        if beat.echo_ms:
            self.round_trip_ms = self._clock.monotonic_ms() - beat.echo_ms
        elif self._echo:
            self._send_beat(beat.sent_ms)

    # --- beats

    def start_beats(self) -> None:
        """Begin to beat and to judge; called when the handshake is done. From now on long messages are taken."""
        self._incoming.message_bytes_max = FRAME_BYTES_MAX
        self._due = self._loop.time()
        self._schedule()

    def _schedule(self) -> None:
        # An absolute schedule, so that beats do not drift; ticks that were slept through are left out.
        beat_s = self._pace.beat_ms / 1_000
        self._due = max(self._due + beat_s, self._loop.time() + beat_s / 2)
        self._timer = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        beat_s = self._pace.beat_ms / 1_000
        late = self._loop.time() - self._due > beat_s / 2
        if not self._beaten:
            self._send_beat(0)
        self._beaten = False
        if self._heard or not self._reading:
            self._heard, self._missed = False, 0
        elif not late:
            self._missed += 1
        if self._missed < self._pace.beats_missed_max:
            self._schedule()
        else:
            self._due = self._loop.time() + beat_s / 8
            self._timer = self._loop.call_at(self._due, self._judge)

    def _judge(self) -> None:
        late = self._loop.time() - self._due > self._pace.beat_ms / 2_000
        if self._heard or late:
            self._schedule()
        else:
            self.break_off(PeerSilent(beats=self._missed, beat_ms=self._pace.beat_ms))

    def _send_beat(self, echo_ms: int) -> None:
        self._beaten = self._echo
        self._outgoing.beat(encode_message(Beat(self._clock.monotonic_ms(), echo_ms)))
        self.wake()

    def send_now(self, message: bytes) -> bool:
        """Put a small message before everything that waits, as a beat; False when too many wait already."""
        if self._outgoing.beats >= URGENT_WAITING_MAX:
            return False
        self._outgoing.beat(message)
        self.wake()
        return True

    # --- the end

    @property
    def fault(self) -> Problem | None:
        """Why the line ended or is ending."""
        return self._fault

    def break_off(self, reason: Problem) -> None:
        """End at once; what waits to be sent is lost, and `receive` raises."""
        self._fault = self._fault or reason
        self._finishing = False
        if not self._writer.done():
            self._writer.cancel()

    def finish(self, reason: Problem, last: bytes) -> None:
        """End with a last message: it goes out, within FINISH_MS_MAX, then the connection is closed."""
        self._fault = self._fault or reason
        if self._finishing or self._writer.done():
            return
        self._finishing = True
        self._outgoing.end(last)
        self.wake()
        self._limit = self._loop.call_later(FINISH_MS_MAX / 1_000, self.break_off, reason)

    async def finished(self) -> None:
        """Wait until nothing more is written; after `finish` that takes FINISH_MS_MAX at most."""
        if not self._writer.done():
            await asyncio.wait([self._writer])

    async def close(self) -> None:
        """Wait for a last message that is going out, then close everything."""
        if self._timer is not None:
            self._timer.cancel()
        try:
            if self._finishing:
                await self.finished()
        finally:
            if self._limit is not None:
                self._limit.cancel()
            await self._scope.close()
            await self._connection.close()
