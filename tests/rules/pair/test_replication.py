"""What a standby takes (R3), and what the owner may call acknowledged (R4).

Tests: engine/rules/pair/replication.py
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.base.pair import InstallSnapshot, Rep, RepAck, RepNack, Stale
from engine.rules.pair import machine, replication
from engine.rules.pair.log import LogShape
from engine.rules.pair.state import ACTIVE, NOTHING, Alarm, End, Install, Role, Send, Write
from tests.rules.pair.pairs import E1, NOW, A, B, log_of, only, owner, standby


def snapshot(index: int, index_epoch: int, epoch: int = 1) -> InstallSnapshot:
    return InstallSnapshot(epoch, "s", index, index_epoch, b"", 0, 0, b"")


# --- taking -----------------------------------------------------------------------------------------------------------


def test_a_rep_is_acknowledged_when_it_is_written_and_not_before() -> None:
    me = standby(1)
    write = only(replication.on_rep(me, B, Rep(2, 1, 1, (2, 2))), Write)
    assert write == Write(None, 0, 2, 3, log_of(1, 2, 2))
    assert (me.log, me.log_epoch, me.writing) == (log_of(1), 1, True)
    assert only(replication.written(me, B, write), Send).message == RepAck(2, 3, "b0")
    assert (me.log, me.log_epoch, me.writing) == (log_of(1, 2, 2), 2, False)


def test_acknowledged_is_what_was_sent_and_not_the_own_last_index() -> None:
    me = standby(1, 1, 1, 1, 1)
    write = only(replication.on_rep(me, B, Rep(2, 0, 0, (1, 1))), Write)
    assert (write.ack_index, write.drop_after) == (2, None)
    assert write.shape == me.log  # the other three stay


def test_a_tail_is_dropped_from_where_the_epochs_differ() -> None:
    me = standby(1, 1, 1)
    write = only(replication.on_rep(me, B, Rep(2, 0, 0, (1, 2))), Write)
    assert (write.drop_after, write.skip, write.shape) == (1, 1, log_of(1, 2))


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.STANDBY])
def test_who_owns_or_claims_takes_nothing(role: Role) -> None:
    for message in (Rep(1, 0, 0), snapshot(1, 1)):
        me = replace(standby(), role=role)
        effects = machine.hear(me, B, message, NOW)
        assert [type(one) for one in effects] == ([End] if role in ACTIVE else [])
        assert me.role is (Role.ENDED if role in ACTIVE else role)


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_an_epoch_below_what_was_persisted_is_stale(epoch: int, cfg: int, log_epoch: int) -> None:
    me = standby(cfg=replace(E1, epoch=cfg), log_epoch=log_epoch)
    is_over = epoch < max(cfg, log_epoch)
    for effects in (
        replication.on_rep(replace(me), B, Rep(epoch, 0, 0)),
        replication.on_snapshot(replace(me), B, snapshot(1, 1, epoch)),
    ):
        assert isinstance(effects[0], Send) == is_over
        assert not is_over or effects == [Send(Stale(max(cfg, log_epoch)))]


def test_while_a_write_is_under_way_nothing_else_is_begun() -> None:
    me = replace(standby(), writing=True)
    assert replication.on_rep(me, B, Rep(1, 0, 0, (1,))) == []
    assert replication.on_snapshot(me, B, snapshot(1, 1)) == []


@pytest.mark.parametrize(
    ("mine", "prev", "prev_epoch", "hint"),
    [((1, 1), 5, 1, 2), ((1, 1, 2, 2), 4, 3, 2), ((1, 1, 2, 2), 3, 1, 2), ((2, 2), 2, 1, 0)],
)
def test_what_does_not_fit_is_denied_with_a_hint(mine: tuple[int, ...], prev: int, prev_epoch: int, hint: int) -> None:
    me = standby(*mine, log_epoch=3)
    assert only(replication.on_rep(me, B, Rep(3, prev, prev_epoch, (3,))), Send).message == RepNack(3, hint, "b0")
    assert not me.writing


TAILS = st.lists(st.integers(0, 2), max_size=5).map(sorted)


@given(st.integers(0, 4), TAILS, TAILS)
def test_following_the_hints_two_logs_become_one(both: int, mine: list[int], theirs: list[int]) -> None:
    """Each has a tail in epochs of its own; the owner begins at its end."""
    own = [1] * both + [2 + 2 * epoch for epoch in mine]
    sent = [1] * both + [3 + 2 * epoch for epoch in theirs]
    me = standby(*own, log_epoch=7)
    prev, asked = len(sent), 0
    while not isinstance(
        effect := replication.on_rep(me, B, Rep(7, prev, ([0, *sent])[prev], tuple(sent[prev:])))[0], Write
    ):
        assert isinstance(effect, Send)
        assert isinstance(effect.message, RepNack)
        assert effect.message.hint < prev  # a hint always leads further down
        prev, asked = effect.message.hint, asked + 1
    replication.written(me, B, effect)
    found = [me.log.epoch_at(index) for index in range(1, me.log.last + 1)]
    assert found[: len(sent)] == sent
    assert len(found) == len(sent) or sent == own[: len(sent)]
    assert asked <= 1 + len(set(mine)) + len(set(theirs))  # by whole epochs, not by records


def test_a_rep_that_begins_below_a_snapshot_fits() -> None:
    """The snapshot covers only what is acknowledged, and every owner that may send has that."""
    me = standby()
    me.log = LogShape(base=5, base_epoch=1, last=6, runs=((6, 1),))
    write = only(replication.on_rep(me, B, Rep(1, 3, 1, (1, 1, 1, 1))), Write)
    assert (write.drop_after, write.skip, write.ack_index, write.shape.last) == (None, 3, 7, 7)


# --- snapshots --------------------------------------------------------------------------------------------------------


def test_a_snapshot_takes_the_place_of_a_log() -> None:
    me = standby(1, 1)
    install = only(replication.on_snapshot(me, B, snapshot(4, 2, 2)), Install)
    assert (me.log.last, me.writing) == (2, True)
    assert only(replication.written(me, B, install), Send).message == RepAck(2, 4, "b0")
    assert me.log == LogShape(4, 2, 4)
    assert (me.log_epoch, me.commit) == (2, 4)  # a snapshot is what was acknowledged


def test_a_snapshot_that_is_there_already_is_only_acknowledged() -> None:
    me = standby(1, 1, 1)
    write = only(replication.on_snapshot(me, B, snapshot(2, 1)), Write)
    assert (write.shape, write.ack_index, write.drop_after) == (me.log, 2, None)


def test_an_older_snapshot_does_not_take_the_place_of_a_newer() -> None:
    me = standby()
    me.log = LogShape(base=5, base_epoch=1, last=9, runs=((6, 1),))
    write = only(replication.on_snapshot(me, B, snapshot(3, 1)), Write)
    assert write.shape.last == 9


# --- cells ------------------------------------------------------------------------------------------------------------


def test_log_epoch_never_falls() -> None:
    me = standby(log_epoch=7)
    replication.written(me, B, Write(None, 0, 5, 0, LogShape()))
    assert me.log_epoch == 7


def test_how_far_a_log_was_compared_belongs_to_an_epoch() -> None:
    me = standby(1, 1, 1)
    replication.written(me, B, Write(None, 3, 1, 3, me.log))
    replication.written(me, B, Write(None, 1, 1, 1, me.log))
    assert (me.same_epoch, me.same_index) == (1, 3)
    replication.written(me, B, Write(None, 1, 2, 1, me.log))
    assert (me.same_epoch, me.same_index) == (2, 1)


# --- acknowledging ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "told"), [(Role.SOLO, 3), (Role.COUPLED, 1), (Role.JOINING, 1), (Role.PENDING, 0)])
def test_what_may_be_called_acknowledged(role: Role, told: int) -> None:
    me = owner(role, 1, 1)
    me.peer_index = 1
    replication.appended(me, (1,), NOW)
    assert (me.log.last, me.commit) == (3, told)


def test_what_is_acknowledged_stays_so() -> None:
    me = replace(owner(Role.COUPLED, 1, 1), commit=2, peer_index=NOTHING)
    replication.commit(me)
    assert me.commit == 2


def test_the_peer_acknowledges() -> None:
    me = owner()
    replication.appended(me, (1, 1), NOW)
    assert me.unacked_since_ms == NOW
    replication.on_rep_ack(me, A, RepAck(1, 1, "b0"), NOW + 50)
    assert (me.commit, me.unacked_since_ms) == (1, NOW + 50)  # progress: the clock starts again
    replication.on_rep_ack(me, A, RepAck(1, 2, "b0"), NOW + 60)
    assert (me.commit, me.unacked_since_ms) == (2, NOTHING)
    replication.on_rep_ack(me, A, RepAck(1, 1, "b0"), NOW + 70)
    assert (me.commit, me.peer_index) == (2, 2)


@pytest.mark.parametrize("ack", [RepAck(0, 1, "b0"), RepAck(2, 1, "b0"), RepAck(1, 1, "b1")])
def test_an_acknowledgement_counts_in_its_epoch_and_for_its_store(ack: RepAck) -> None:
    me = owner(Role.COUPLED, 1)
    replication.on_rep_ack(me, A, ack, NOW)
    assert (me.commit, me.peer_index) == (0, 0)


def test_who_acts_alone_counts_the_store_it_hears() -> None:
    me = owner(Role.SOLO, 1)
    me.peer_store = "b1"
    replication.on_rep_ack(me, A, RepAck(1, 1, "b0"), NOW)
    assert me.peer_index == 0
    replication.on_rep_ack(me, A, RepAck(1, 1, "b1"), NOW)
    assert me.peer_index == 1


def test_a_peer_that_denies_what_it_acknowledged_is_behind() -> None:
    me = replace(owner(Role.COUPLED, 1, 1), peer_index=2)
    replication.on_rep_nack(me, A, RepNack(1, 2, "b0"))
    replication.on_rep_nack(me, A, RepNack(0, 1, "b0"))
    replication.on_rep_nack(me, A, RepNack(1, 1, "b9"))
    assert not me.peer_is_behind
    replication.on_rep_nack(me, A, RepNack(1, 1, "b0"))
    assert me.peer_is_behind


# --- a snapshot of one's own log --------------------------------------------------------------------------------------


def with_snapshot(base: int, base_epoch: int, *behind: int) -> LogShape:
    return LogShape(base, base_epoch, base).appended(behind)


@pytest.mark.parametrize(
    ("prev", "prev_epoch", "epochs", "contradicts"),
    [
        (5, 2, (), False),
        (5, 3, (), True),  # at the snapshot's own index epochs must be equal
        (4, 2, (2,), False),
        (4, 2, (3,), True),
        (3, 1, (2, 2, 3), False),  # what lies behind the snapshot may differ
        (3, 1, (), False),
        (3, 3, (), True),  # below it no epoch can be higher: they never fall
        (1, 1, (1, 3), True),
        (6, 9, (), False),  # behind it: a matter of `fits`
        (0, 0, (), False),
    ],
)
def test_a_log_that_was_given_up_is_found_by_its_epochs(
    prev: int, prev_epoch: int, epochs: tuple[int, ...], contradicts: bool
) -> None:
    me = replace(standby(log_epoch=3), log=with_snapshot(5, 2, 2))
    effects = replication.on_rep(me, B, Rep(9, prev, prev_epoch, epochs))
    assert (effects == [replication.given_up(me, B)]) == contradicts
    if contradicts:
        assert not me.writing
        assert "(record 5, epoch 2) is not of the history of A" in only(effects, Alarm).sentence


def test_without_a_snapshot_nothing_is_given_up() -> None:
    me = standby(1, 1, log_epoch=3)
    assert only(replication.on_rep(me, B, Rep(3, 0, 7, (3,))), Send).message == RepNack(3, 0, "b0")


@pytest.mark.parametrize(("index", "epoch", "given_up"), [(5, 3, True), (4, 3, True), (4, 2, False), (7, 9, False)])
def test_so_is_a_snapshot_of_another_history(index: int, epoch: int, given_up: bool) -> None:
    me = replace(standby(log_epoch=3), log=with_snapshot(5, 2))
    effects = replication.on_snapshot(me, B, snapshot(index, epoch, 9))
    assert (effects == [replication.given_up(me, B)]) == given_up


def test_what_lies_wholly_below_a_snapshot_came_late_and_is_not_answered() -> None:
    me = replace(standby(log_epoch=3), log=with_snapshot(5, 2, 2))
    assert replication.on_rep(me, B, Rep(3, 1, 1, (1, 1))) == []
    assert not me.writing
    assert replication.on_rep(me, B, Rep(3, 1, 1, (1, 1, 2, 2, 2))) != []


def test_no_hint_goes_below_what_was_compared_with_this_owner() -> None:
    me = replace(standby(1, 1, 2, 2, log_epoch=3), same_epoch=3, same_index=4)
    assert only(replication.on_rep(me, B, Rep(3, 4, 1, (3,))), Send).message == RepNack(3, 4, "b0")
    assert only(replication.on_rep(me, B, Rep(4, 4, 1, (4,))), Send).message == RepNack(4, 2, "b0"), "another owner"


def test_a_standby_may_keep_what_is_acknowledged_and_compared() -> None:
    me = replace(standby(1, 1, 1), commit=2, same_epoch=1, same_index=3)
    assert replication.compared(me) == 2
    assert replication.compared(replace(me, same_index=1)) == 1
    assert replication.compared(replace(me, role=Role.COUPLED)) == 0
    assert replication.may_keep(me, 2, 1)
    assert not replication.may_keep(me, 3, 1)
    assert not replication.may_keep(me, 2, 9)
    assert not replication.may_keep(replace(me, writing=True), 2, 1)
    replication.based(me, 2, 1)
    assert (me.log.base, me.log.base_epoch, me.log.last) == (2, 1, 3)
    assert not replication.may_keep(me, 2, 1)
    replication.based(me, 1, 1)
    assert me.log.base == 2


def test_a_write_that_began_before_a_snapshot_does_not_take_it_away() -> None:
    me = replace(standby(1, 1), commit=2, same_epoch=1, same_index=2)
    write = only(replication.on_rep(me, B, Rep(1, 2, 1, (1,))), Write)
    replication.based(me, 2, 1)
    replication.written(me, B, write)
    assert (me.log.base, me.log.last, me.log.epoch_at(3)) == (2, 3, 1)
