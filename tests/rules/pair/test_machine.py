"""The door: a new incarnation, a message, the time.

Tests: engine/rules/pair/machine.py, engine/rules/pair/state.py
"""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.base.pair import (
    AnyPairMessage,
    Beat,
    BeatAck,
    InstallSnapshot,
    Ownership,
    Read,
    Rep,
    RepAck,
    RepNack,
    Stale,
    Yield,
)
from engine.rules.pair import machine
from engine.rules.pair.log import LogShape
from engine.rules.pair.state import Ask, End, Pair, Role
from tests.rules.pair.pairs import BOTH, E1, NOW, A, B, log_of, owner, standby

MESSAGES: tuple[AnyPairMessage, ...] = (
    Beat(2, NOW, 0),
    BeatAck(1, NOW + 1, "b0"),
    Rep(2, 0, 0),
    RepAck(1, 2, "b0"),
    RepNack(1, 0, "b0"),
    InstallSnapshot(2, "s", 1, 1, b"", 0, 0, b""),
    Yield(1, 0),
    Stale(2),
)


def test_a_boot_remembers_the_disk_and_nothing_else() -> None:
    me = machine.boot(E1, 1, log_of(1, 1), NOW)
    assert (me.cfg, me.log_epoch, me.log) == (E1, 1, log_of(1, 1))
    assert (me.role, me.last_grant_ms, me.good_beat_ms, me.has_read) == (Role.STANDBY, NOW, NOW, False)
    assert machine.boot(E1, 1, LogShape(4, 1, 4), NOW).commit == 4  # a snapshot is what was acknowledged


def test_a_boot_begins_by_reading() -> None:
    me = machine.boot(None, 0, LogShape(), NOW)
    assert machine.tick(me, B, NOW) == [Ask(Read(0, "b0"))]
    assert machine.tick(me, B, NOW + 1) == []


@pytest.mark.parametrize("message", MESSAGES, ids=lambda one: type(one).__name__)
def test_who_has_ended_hears_nothing_and_does_nothing(message: AnyPairMessage) -> None:
    me = replace(owner(), role=Role.ENDED)
    before = copy.copy(me)
    assert machine.hear(me, A, message, NOW) == []
    assert machine.tick(me, A, NOW + 99_999) == []
    assert me == before


@pytest.mark.parametrize("message", MESSAGES, ids=lambda one: type(one).__name__)
def test_every_message_is_heard(message: AnyPairMessage) -> None:
    for me, who in ((replace(owner(Role.COUPLED, 1, 1), peer_index=1), A), (standby(), B)):
        before = copy.copy(me)
        if machine.hear(me, who, message, NOW) or me != before:
            return
    pytest.fail("nobody cares")


EPOCHS = st.integers(0, 3)
INDEXES = st.integers(0, 4)
ANY_MESSAGE = st.one_of(
    st.builds(Beat, EPOCHS, st.just(NOW), INDEXES, st.sampled_from([0, 9_999])),
    st.builds(BeatAck, EPOCHS, st.just(NOW), st.sampled_from(["b0", "b1"]), st.just(0), st.booleans()),
    st.builds(Rep, EPOCHS, INDEXES, EPOCHS, st.lists(st.integers(1, 3), max_size=3).map(tuple)),
    st.builds(RepAck, EPOCHS, INDEXES, st.sampled_from(["b0", "b1"])),
    st.builds(RepNack, EPOCHS, INDEXES, st.just("b0")),
    st.builds(Yield, EPOCHS, INDEXES),
    st.builds(Stale, EPOCHS),
)
VALUES = st.builds(
    Ownership,
    st.just("c"),
    st.integers(1, 3),
    st.sampled_from("AB"),
    st.sampled_from([BOTH, BOTH[:1], BOTH[1:]]),
    st.just(1),
)


@given(
    st.one_of(st.none(), VALUES),
    EPOCHS,
    st.lists(st.integers(1, 3), max_size=4).map(sorted),
    st.sampled_from(Role),
    ANY_MESSAGE,
)
def test_no_message_makes_a_node_forget(
    cfg: Ownership | None, log_epoch: int, epochs: list[int], role: Role, message: AnyPairMessage
) -> None:
    """Durable cells change only by `kept` and `written`, roles only by an end, and instants of leases never fall."""
    me = Pair(cfg=cfg, log_epoch=log_epoch, log=log_of(*epochs), role=role, lease_ms=NOW, last_grant_ms=NOW)
    before = copy.copy(me)
    effects = machine.hear(me, A, message, NOW)
    assert (me.cfg, me.log_epoch, me.log) == (before.cfg, before.log_epoch, before.log)
    assert me.role is before.role or any(isinstance(one, End) for one in effects)
    assert me.lease_ms >= before.lease_ms
    assert me.commit >= before.commit
    assert me.peer_epoch >= before.peer_epoch
