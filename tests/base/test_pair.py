"""The messages of a pair travel and come back the same.

Tests: engine/base/pair.py
"""

import msgspec
import pytest

from engine.base.pair import (
    AnyPairMessage,
    Beat,
    BeatAck,
    Cas,
    InstallSnapshot,
    Member,
    Ownership,
    Read,
    Rep,
    RepAck,
    RepNack,
    Stale,
    Value,
    Yield,
)
from engine.base.wire import Raw

BOTH = (Member("A", "a0"), Member("B", "b0"))
OWN = Ownership("c", 1, "A", BOTH, 7)
BODY = Raw(msgspec.msgpack.encode(["OrderAdded", "x"]))


@pytest.mark.parametrize(
    "message",
    [
        Beat(1, 1_000, 4, 20, 3),
        BeatAck(1, 1_000, "b0", 3, grants=False),
        Rep(2, 3, 1, (2,), (BODY,)),
        RepAck(2, 4, "b0"),
        RepNack(2, 1, "b0"),
        InstallSnapshot(2, "s", 9, 2, b"hash", 0, 5, b"chunk"),
        Yield(2, 9),
        Stale(3),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_message_of_the_peer_comes_back(message: AnyPairMessage) -> None:
    back = msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=AnyPairMessage)
    assert type(back) is type(message)
    assert msgspec.msgpack.encode(back) == msgspec.msgpack.encode(message)
    assert back.epoch == message.epoch


@pytest.mark.parametrize("message", [Read(1, "a0"), Cas(OWN, OWN), Value(OWN, 1, "a0"), Value(None, 0, "a0")])
def test_a_message_of_the_register_comes_back(message: Read | Cas | Value) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=Read | Cas | Value) == message


def test_in_sync_is_the_store_and_not_the_name() -> None:
    assert OWN.has(Member("A", "a0"))
    assert not OWN.has(Member("A", "a1"))


def test_who_asks_by_a_cas() -> None:
    assert Cas(OWN, Ownership("c", 2, "B", (Member("B", "b7"),), 1)).store == "b7"
    assert Cas(OWN, OWN).store == "a0"
