"""Framing: messages as fragments that a transport carries, so that a beat never waits behind bulk. Floor 5.

* A frame is at most FRAGMENT_BYTES_MAX long and begins with four bytes: one of flags (class, more follows), three with
  the frame's number in this direction of the connection. A lost, repeated or reordered frame therefore shows.
* Beats go before stream, stream before bulk, between any two fragments; inside one class the order is kept.
* A joined message is at most as long as the reader allows; anything malformed raises FramingFault.
"""

from collections import deque
from collections.abc import Callable

from engine.base.limits import FRAGMENT_BYTES_MAX, FRAME_BYTES_MAX

BEAT, STREAM, BULK = 0, 1, 2

HEADER_BYTES = 4
PAYLOAD_BYTES_MAX = FRAGMENT_BYTES_MAX - HEADER_BYTES
WRITE_BYTES_AIM = 4 * FRAGMENT_BYTES_MAX  # handed to the connection at once: what a beat may have to wait for

_MORE = 0x80
_CLASS_MASK = 0x03
_NUMBER_MASK = 0xFF_FFFF

Pull = Callable[[], bytes | None]


class FramingFault(Exception):
    """The other side's bytes are no frames of ours; the connection cannot go on."""


class _Cut:
    """A message on its way out, with how much of it is already gone."""

    __slots__ = ("message", "offset")

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.offset = 0


class Outgoing:
    """Cuts messages into frames. Messages are pulled when there is room for them, so nothing piles up here.

    `pull` and `pull_bulk` return the next message of their class, or None when there is none now.
    """

    def __init__(self, pull: Pull, pull_bulk: Pull) -> None:
        self._pulls = (None, pull, pull_bulk)
        self._cuts: list[_Cut | None] = [None, None, None]
        self._beats: deque[bytes] = deque()
        self._last: bytes | None = None
        self._ending = False
        self._number = 0

    def beat(self, message: bytes) -> None:
        """Put a beat before everything else."""
        self._beats.append(message)

    @property
    def beats(self) -> int:
        """How many beats wait."""
        return len(self._beats)

    def end(self, last: bytes | None) -> None:
        """Pull nothing more: finish the message under way, then `last`, then `ended`."""
        if not self._ending:
            self._ending, self._last = True, last
            self._cuts[BULK] = None

    @property
    def ended(self) -> bool:
        """Whether everything has gone out after `end`."""
        return self._ending and self._last is None and self._cuts[STREAM] is None

    def gather(self, bytes_aim: int = WRITE_BYTES_AIM) -> list[bytes]:
        """Return the next frames, about `bytes_aim` of them; bulk gets one fragment even when stream fills the aim."""
        frames: list[bytes] = []
        left = bytes_aim
        while self._beats:
            frames.append(self._frame(BEAT, self._beats.popleft()))
        while left > 0 and (frame := self._next(STREAM)) is not None:
            frames.append(frame)
            left -= len(frame)
        while (frame := self._next(BULK)) is not None:
            frames.append(frame)
            left -= len(frame)
            if left <= 0:
                break
        return frames

    def _next(self, kind: int) -> bytes | None:
        cut = self._cuts[kind]
        if cut is None:
            message = self._pull(kind)
            if message is None:
                return None
            if len(message) <= PAYLOAD_BYTES_MAX:
                return self._frame(kind, message)
            if len(message) > FRAME_BYTES_MAX:
                raise ValueError(f"a message of {len(message)} bytes; the most is {FRAME_BYTES_MAX}")
            cut = self._cuts[kind] = _Cut(message)
        start = cut.offset
        cut.offset = start + PAYLOAD_BYTES_MAX
        if cut.offset >= len(cut.message):
            self._cuts[kind] = None
            return self._frame(kind, cut.message[start:])
        return self._frame(kind | _MORE, cut.message[start : cut.offset])

    def _pull(self, kind: int) -> bytes | None:
        if self._ending:
            last, self._last = (self._last, None) if kind == STREAM else (None, self._last)
            return last
        pull = self._pulls[kind]
        return pull() if pull is not None else None

    def _frame(self, flags: int, payload: bytes) -> bytes:
        head = (flags << 24 | self._number).to_bytes(HEADER_BYTES, "big")
        self._number = self._number + 1 & _NUMBER_MASK
        return head + payload


class Incoming:
    """Joins frames to messages again.

    `message_bytes_max` may be raised once the other side is known (a stranger may say less than a peer).
    """

    def __init__(self, message_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.message_bytes_max = message_bytes_max
        self._parts: list[bytearray | None] = [None, None, None]
        self._number = 0

    def take(self, frame: bytes) -> bytes | None:
        """Take one frame; returns a message when it is whole; raises FramingFault."""
        if not HEADER_BYTES < len(frame) <= FRAGMENT_BYTES_MAX:
            raise FramingFault(f"a frame of {len(frame)} bytes")
        head = int.from_bytes(frame[:HEADER_BYTES], "big")
        if head & _NUMBER_MASK != self._number:
            raise FramingFault(f"frame {head & _NUMBER_MASK} where {self._number} was due")
        self._number = self._number + 1 & _NUMBER_MASK
        flags = head >> 24
        kind, more = flags & _CLASS_MASK, flags & _MORE
        if flags & ~(_MORE | _CLASS_MASK) or kind > BULK or (more and kind == BEAT):
            raise FramingFault(f"unknown flags {flags:#04x}")
        parts = self._parts[kind]
        size_bytes = len(frame) - HEADER_BYTES + (len(parts) if parts is not None else 0)
        if size_bytes > self.message_bytes_max:
            raise FramingFault(f"a message of more than {self.message_bytes_max} bytes")
        if parts is None:
            if not more:
                return frame[HEADER_BYTES:]
            parts = self._parts[kind] = bytearray()
        parts += memoryview(frame)[HEADER_BYTES:]
        if more:
            return None
        self._parts[kind] = None
        return bytes(parts)
