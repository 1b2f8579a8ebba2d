"""Framing: cut and joined gives the same messages, beats overtake, anything malformed is refused."""

from collections import deque
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.base.limits import FRAGMENT_BYTES_MAX, FRAME_BYTES_MAX
from engine.runtime.framing import (
    BEAT,
    BULK,
    HEADER_BYTES,
    PAYLOAD_BYTES_MAX,
    STREAM,
    WRITE_BYTES_AIM,
    FramingFault,
    Incoming,
    Outgoing,
)


class Side:
    """An Outgoing with its two queues in the test's hands."""

    def __init__(self) -> None:
        self.stream: deque[bytes] = deque()
        self.bulk: deque[bytes] = deque()
        self.out = Outgoing(lambda: _pop(self.stream), lambda: _pop(self.bulk))

    def all(self) -> list[bytes]:
        frames: list[bytes] = []
        while more := self.out.gather():
            frames += more
        return frames


def _pop(queue: deque[bytes]) -> bytes | None:
    return queue.popleft() if queue else None


def join(frames: list[bytes], incoming: Incoming | None = None) -> list[bytes]:
    incoming = incoming or Incoming()
    return [message for frame in frames if (message := incoming.take(frame)) is not None]


def kind(frame: bytes) -> int:
    return frame[0] & 0x03


SIZES = st.one_of(
    st.integers(1, 40),
    st.sampled_from([PAYLOAD_BYTES_MAX - 1, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX + 1, 3 * PAYLOAD_BYTES_MAX, 400_000]),
)


@given(st.lists(st.tuples(st.sampled_from([BEAT, STREAM, BULK]), SIZES), max_size=8), st.integers(0, 3))
def test_every_message_comes_out_whole_and_each_class_in_order(plan: list[tuple[int, int]], early: int) -> None:
    side, incoming = Side(), Incoming()
    sent: dict[int, list[bytes]] = {BEAT: [], STREAM: [], BULK: []}
    frames: list[bytes] = []
    for number, (of, size) in enumerate(plan):
        message = bytes([of, number]) + bytes(min(size, 30) if of == BEAT else size)
        sent[of].append(message)
        if of == BEAT:
            side.out.beat(message)
        else:
            (side.stream if of == STREAM else side.bulk).append(message)
        if number % 4 == early:
            frames += side.out.gather()
    frames += side.all()
    assert all(len(frame) <= FRAGMENT_BYTES_MAX for frame in frames)
    received = join(frames, incoming)
    for of, messages in sent.items():
        assert [message for message in received if message[0] == of] == messages


def test_beats_go_between_the_fragments_of_stream_and_bulk() -> None:
    side = Side()
    side.stream.append(bytes(1 << 20))
    side.bulk.append(bytes(1 << 20))
    first = side.out.gather()
    assert sum(map(len, first)) <= WRITE_BYTES_AIM + 2 * FRAGMENT_BYTES_MAX
    side.out.beat(b"beat")
    assert side.out.gather()[0][HEADER_BYTES:] == b"beat"


def test_stream_goes_before_bulk_but_bulk_never_starves() -> None:
    side = Side()
    side.bulk.append(bytes(2 * PAYLOAD_BYTES_MAX))
    side.stream.extend(bytes(WRITE_BYTES_AIM) for _ in range(10))
    kinds = [kind(frame) for frame in side.out.gather()]
    assert kinds == sorted(kinds)
    assert kinds[-1] == BULK


def test_messages_are_pulled_only_when_there_is_room() -> None:
    side = Side()
    side.stream.extend(bytes(PAYLOAD_BYTES_MAX) for _ in range(100))
    side.out.gather()
    assert len(side.stream) == 96


def test_the_end_finishes_the_message_under_way_then_the_last_one() -> None:
    side = Side()
    under_way = bytes(PAYLOAD_BYTES_MAX * 6)
    side.stream.extend([under_way, b"never"])
    frames = side.out.gather()
    side.out.end(b"goodbye")
    assert not side.out.ended
    frames += side.all()
    assert side.out.ended
    assert join(frames) == [under_way, b"goodbye"]


def test_a_message_of_ours_that_is_too_long_is_a_mistake_of_ours() -> None:
    side = Side()
    side.stream.append(bytes(FRAME_BYTES_MAX + 1))
    with pytest.raises(ValueError, match="the most is"):
        side.out.gather()


def frame(flags: int, number: int, payload: bytes = b"x") -> bytes:
    return (flags << 24 | number).to_bytes(4, "big") + payload


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\x01\x00\x00",
        frame(STREAM, 0, b""),
        frame(STREAM, 1),
        frame(3, 0),
        frame(0x40 | STREAM, 0),
        frame(0x80 | BEAT, 0),
        frame(STREAM, 0, bytes(FRAGMENT_BYTES_MAX)),
    ],
    ids=["empty", "short", "no payload", "wrong number", "class", "flag", "long beat", "oversized"],
)
def test_malformed_frames_are_refused(bad: bytes) -> None:
    with pytest.raises(FramingFault):
        Incoming().take(bad)


@pytest.mark.parametrize("order", [[0, 2], [0, 0], [1, 0], [0, 1, 1]], ids=["lost", "repeated", "swapped", "later"])
def test_a_lost_repeated_or_reordered_frame_shows(order: list[int]) -> None:
    side = Side()
    side.stream.extend([b"a", b"b", b"c"])
    frames = side.all()
    with pytest.raises(FramingFault, match="was due"):
        join([frames[number] for number in order])


def test_a_message_longer_than_allowed_is_refused_as_soon_as_it_shows() -> None:
    incoming = Incoming(100)
    with pytest.raises(FramingFault, match="more than 100"):
        incoming.take(frame(STREAM, 0, bytes(101)))
    side = Side()
    side.stream.append(bytes(FRAME_BYTES_MAX))
    side.bulk.append(bytes(FRAME_BYTES_MAX))
    assert [len(message) for message in join(side.all())] == [FRAME_BYTES_MAX, FRAME_BYTES_MAX]
    endless = Incoming(1 << 20)
    with pytest.raises(FramingFault):
        for number in range(1 << 21):
            endless.take(frame(0x80 | STREAM, number))


def test_frame_numbers_go_round() -> None:
    side, incoming = Side(), Incoming()
    side.out._number = incoming._number = 0xFF_FFFE
    side.stream.extend([b"a", b"b", b"c", b"d"])
    assert join(side.all(), incoming) == [b"a", b"b", b"c", b"d"]


def test_garbage_never_does_anything_but_fault() -> None:
    rng = Random(3)
    faults = 0
    for _ in range(3_000):
        incoming = Incoming(1_000)
        try:
            for number in range(4):
                body = rng.randbytes(rng.randint(0, 40))
                incoming.take(frame(rng.randrange(256), number, body) if rng.random() < 0.5 else body)
        except FramingFault:
            faults += 1
    assert faults > 2_900
