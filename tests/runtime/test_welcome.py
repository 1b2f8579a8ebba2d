"""What the dialling side says of itself, and what it looks at before it believes its peer.

Tests: engine/runtime/welcome.py
"""

import msgspec
import pytest

from engine.base.ids import START, Cursor
from engine.base.wire import FEATURE_LEVEL, Hello, Identity, Welcome, decode_message, encode_message
from engine.runtime.welcome import FOR_A_PERSON, hello_of, welcome_fault

ME = Identity("c", "controller", "north", 4)
EXPECTED = ("c", "agent", "a")
WELCOME = Welcome("c", "agent", "a", 1, "s", FEATURE_LEVEL, Cursor(9, 2))


def test_a_hello_says_who_which_session_from_where_and_in_which_epoch() -> None:
    hello = hello_of(ME, "s", Cursor(3, 1), 7)
    assert decode_message(encode_message(hello)) == Hello(
        "c", "controller", "north", 4, "s", FEATURE_LEVEL, Cursor(3, 1), 7
    )


def test_a_hello_says_of_which_pair_its_sender_is_one() -> None:
    who = Identity("c", "director", "one", 4, pair="both")
    assert decode_message(encode_message(hello_of(who, "s", None, 7))).pair == "both"


def test_the_hello_of_an_older_node_has_epoch_nothing() -> None:
    *fields, _, _ = msgspec.msgpack.decode(encode_message(hello_of(ME, "s", None, 7)))
    older = decode_message(msgspec.msgpack.encode(fields))
    assert older == hello_of(ME, "s", None, 0)


def test_the_hello_of_a_newer_node_may_say_more() -> None:
    fields = msgspec.msgpack.decode(encode_message(hello_of(ME, "s", None, 7)))
    assert decode_message(msgspec.msgpack.encode([*fields, "more"])) == hello_of(ME, "s", None, 7)


@pytest.mark.parametrize("cursor", [None, START, Cursor(5, 7), Cursor(9, 2)])
def test_the_right_peer_is_believed(cursor: Cursor | None) -> None:
    assert welcome_fault(WELCOME, "sim://a", EXPECTED, cursor) is None


@pytest.mark.parametrize(
    ("changes", "cursor", "code"),
    [
        ({"cluster": "d"}, None, "WrongPeer"),
        ({"role": "subagent"}, None, "WrongPeer"),
        ({"node": "b"}, None, "WrongPeer"),
        ({"feature": 0}, None, "FeatureTooOld"),
        ({}, Cursor(10, 2), "PeerBehind"),
        ({}, Cursor(9, 3), "PeerDiverged"),
    ],
)
def test_any_other_is_not_and_a_person_is_told(changes: dict[str, object], cursor: Cursor | None, code: str) -> None:
    fault = welcome_fault(msgspec.structs.replace(WELCOME, **changes), "sim://a", EXPECTED, cursor)
    assert fault is not None
    assert fault.code == code
    assert code in FOR_A_PERSON
