"""The messages of links: their bytes, what may be added later, and what is refused without effort."""

import msgpack
import pytest

from engine.base.codec import DecodeError
from engine.base.ids import START, Cursor
from engine.base.limits import MESSAGE_ITEMS_MAX
from engine.base.problem import Problem
from engine.base.wire import (
    Accepted,
    Ack,
    Answer,
    AnyMessage,
    Ask,
    Beat,
    Commands,
    Goodbye,
    Hello,
    Post,
    Raw,
    Records,
    Replies,
    Reply,
    Welcome,
    WireRecord,
    decode_command_reply,
    decode_message,
    encode_message,
)

# The bytes on the wire, as another implementation of MessagePack reads them: they must not change by accident.
GOLDEN: list[tuple[AnyMessage, list[object]]] = [
    (Hello("c", "agent", "a", 3, "s", 1, START), ["Hello", "c", "agent", "a", 3, "s", 1, [0, 0], 0, ""]),
    (Post(Raw(b"\x05")), ["Post", 5]),
    (Hello("c", "controller", "x", 0, "s", 1, None, 7), ["Hello", "c", "controller", "x", 0, "s", 1, None, 7, ""]),
    (Welcome("c", "agent", "a", 3, "s", 1, Cursor(9, 2)), ["Welcome", "c", "agent", "a", 3, "s", 1, [9, 2]]),
    (Goodbye(Problem("Code", "Sentence.", {"x": 1})), ["Goodbye", ["Problem", "Code", "Sentence.", {"x": 1}]]),
    (Commands(5, (Raw(b"\x91\x01"), Raw(b"\xc0"))), ["Commands", 5, [[1], None]]),
    (Ask(1, Raw(b"\x07")), ["Ask", 1, 7]),
    (Replies((Reply(5, Raw(b"\x01")),)), ["Replies", [[5, 1]]]),
    (Answer(1, Raw(b"\x07")), ["Answer", 1, 7]),
    (Records((WireRecord(1, 2, b"\x90"),)), ["Records", [[1, 2, b"\x90"]]]),
    (Ack(Cursor(7, 2)), ["Ack", [7, 2]]),
    (Beat(1, 0), ["Beat", 1, 0]),
]


@pytest.mark.parametrize(("message", "plain"), GOLDEN, ids=[str(plain[0]) for _, plain in GOLDEN])
def test_messages_are_these_bytes_and_come_back_the_same(message: AnyMessage, plain: list[object]) -> None:
    packed = encode_message(message)
    assert msgpack.unpackb(packed) == plain
    assert packed == msgpack.packb(plain)
    assert encode_message(decode_message(packed)) == packed


@pytest.mark.parametrize(("message", "plain"), GOLDEN, ids=[str(plain[0]) for _, plain in GOLDEN])
def test_fields_that_a_newer_version_adds_at_the_end_are_ignored(message: AnyMessage, plain: list[object]) -> None:
    assert encode_message(decode_message(msgpack.packb([*plain, "new", {"more": [1]}]))) == encode_message(message)


def test_bodies_are_forwarded_as_they_came() -> None:
    odd = b"\xcd\x00\x01"  # the number 1, not in its shortest form
    message = decode_message(encode_message(Commands(1, (Raw(odd),))))
    assert isinstance(message, Commands)
    assert bytes(message.commands[0]) == odd


def test_a_reply_is_an_acceptance_or_a_problem() -> None:
    assert decode_command_reply(encode_message(Accepted(4, 2))) == Accepted(4, 2)
    assert decode_command_reply(encode_message(Problem("Code", "Sentence."))) == Problem("Code", "Sentence.")


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\xc1",
        msgpack.packb(["Unknown", 1]),
        msgpack.packb(["Ack"]),
        msgpack.packb(["Ack", "text"]),
        msgpack.packb(["Beat", -1.5, 0]),
        msgpack.packb({"Beat": 1}),
        msgpack.packb(["Commands", 1, [1] * (MESSAGE_ITEMS_MAX + 1)]),
        msgpack.packb(["Records", [[1, 1, b""]] * (MESSAGE_ITEMS_MAX + 1)]),
        b"\x93\xa8Commands\x01\xdd\xff\xff\xff\xff",  # an array that says it has four thousand million items
        b"\xdd\xff\xff\xff\xff\xa8Commands\x01\x90",
        b"\x92\xa3Ack" + b"\x91" * 100_000,
        b"\x93\xa3Ask\x01" + b"\x91" * 100_000,
    ],
)
def test_what_is_no_message_is_refused(bad: bytes) -> None:
    with pytest.raises((DecodeError, RecursionError)):
        decode_message(bad)
