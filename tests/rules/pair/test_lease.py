"""Beats and leases (R1, R2, R11), and what silence is (R5, R6).

Tests: engine/rules/pair/lease.py
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.base.pair import Beat, BeatAck, Stale
from engine.rules.pair import lease
from engine.rules.pair.state import ACTIVE, End, Role, Send
from tests.rules.pair.pairs import BOTH, E1, NOW, TIMES, A, B, only, owner, standby


def good(epoch: int = 1, sent_ms: int = 7, commit: int = 0) -> Beat:
    return Beat(epoch, sent_ms, commit)


@pytest.mark.parametrize("role", Role)
def test_who_may_act(role: Role) -> None:
    me = replace(owner(), role=role)
    leased = role in (Role.COUPLED, Role.JOINING)
    assert lease.may_act(me, NOW) == (leased or role is Role.SOLO)
    assert lease.may_act(me, me.lease_ms - 1) == (leased or role is Role.SOLO)
    assert lease.may_act(me, me.lease_ms) == (role is Role.SOLO)
    assert lease.status(me, me.lease_ms) == ("fenced" if leased else role.value)


def test_a_standby_grants_and_notes_it_before_it_answers() -> None:
    me = standby()
    answer = only(lease.on_beat(me, B, good(sent_ms=55), NOW + 400, batch_age_ms=3), Send).message
    assert answer == BeatAck(1, 55, "b0", 3, grants=True)
    assert me.last_grant_ms == me.good_beat_ms == NOW + 400


def test_a_lease_counts_from_the_send_time() -> None:
    me = owner()
    lease.on_beat_ack(me, A, BeatAck(1, NOW + 1_000, "b0"), NOW + 3_900)
    assert me.lease_ms == NOW + 1_000 + TIMES.lease_ms
    lease.on_beat_ack(me, A, BeatAck(1, NOW + 500, "b0"), NOW + 3_950)
    assert me.lease_ms == NOW + 1_000 + TIMES.lease_ms  # an older answer takes nothing back
    assert not lease.may_act(me, NOW + 4_000)


@pytest.mark.parametrize("beat", [replace(good(), ack_age_ms=3_501), replace(good(), batch_age_ms=3_501)])
def test_a_beat_that_is_not_good_gets_an_answer_and_no_lease(beat: Beat) -> None:
    me, owns = standby(), owner()
    answer = only(lease.on_beat(me, B, beat, NOW + 900), Send).message
    assert isinstance(answer, BeatAck)
    assert not answer.grants
    assert (me.good_beat_ms, me.last_grant_ms) == (NOW, NOW)
    before = owns.lease_ms
    lease.on_beat_ack(owns, A, replace(answer, sent_ms=NOW + 900), NOW + 950)
    assert (owns.lease_ms, owns.heard_ms) == (before, NOW + 900)  # heard it is: the next beat may be good again


@pytest.mark.parametrize("age", [0, 3_500])
def test_a_beat_is_good_up_to_its_limit(age: int) -> None:
    assert lease.is_good(replace(good(), ack_age_ms=age, batch_age_ms=age), TIMES)


def test_an_owner_that_was_cut_off_for_long_is_granted_a_lease_again() -> None:
    me, peer, now = owner(), standby(), NOW + 60_000
    for _ in range(2):
        beat = lease.beat_of(me, now)
        assert beat is not None
        answer = only(lease.on_beat(peer, B, beat, now + 10), Send).message
        assert isinstance(answer, BeatAck)
        lease.on_beat_ack(me, A, answer, now + 20)
        now += 1_000
    assert lease.may_act(me, now)


def test_an_answer_that_comes_late_is_as_old_as_its_beat() -> None:
    """Else an owner behind a path of many seconds would send good beats for ever, and never act."""
    me = owner()
    lease.on_beat_ack(me, A, BeatAck(1, NOW + 1_000, "b0"), NOW + 9_000)
    beat = lease.beat_of(me, NOW + 9_000)
    assert beat is not None
    assert beat.ack_age_ms == 8_000
    assert not lease.is_good(beat, TIMES)


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_an_epoch_below_what_was_persisted_is_stale(epoch: int, cfg: int, log_epoch: int) -> None:
    me = standby(cfg=replace(E1, epoch=cfg), log_epoch=log_epoch)
    answer = only(lease.on_beat(me, B, good(epoch), NOW + 5), Send).message
    assert isinstance(answer, Stale) == (epoch < max(cfg, log_epoch))
    assert answer.epoch == max(epoch, cfg, log_epoch)
    assert (me.last_grant_ms == NOW + 5) == isinstance(answer, BeatAck)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.STANDBY])
def test_only_a_standby_grants(role: Role) -> None:
    me = replace(standby(), role=role)
    effects = lease.on_beat(me, B, good(2), NOW + 5)
    assert not any(isinstance(one, Send) for one in effects)
    assert me.last_grant_ms == NOW
    steps_down = role in ACTIVE or role is Role.YIELDED
    assert [type(one) for one in effects] == ([End] if steps_down else [])


def test_data_that_is_out_of_sync_grants_only_after_it_has_read() -> None:
    empty = replace(B, store="b1")
    me = standby(cfg=None, log_epoch=0)
    assert lease.on_beat(me, empty, good(), NOW) == []
    me.has_read = True
    assert isinstance(only(lease.on_beat(me, empty, good(), NOW), Send).message, BeatAck)
    assert lease.grants(replace(standby(), has_read=False), B)  # in sync by its own disk


def test_a_standby_applies_only_what_was_compared() -> None:
    me = standby(1, 1, 1)
    lease.on_beat(me, B, good(commit=3), NOW)
    assert me.commit == 0
    me.same_epoch, me.same_index = 1, 2
    lease.on_beat(me, B, good(commit=3), NOW)
    assert me.commit == 2
    lease.on_beat(me, B, good(epoch=2, commit=3), NOW)  # another owner: compared with the old one's log
    assert me.commit == 2


@pytest.mark.parametrize("role", Role)
def test_who_beats(role: Role) -> None:
    me = replace(owner(), role=role)
    assert (lease.beat_of(me, NOW) is not None) == (role in (*ACTIVE, Role.PENDING))


def test_what_a_beat_says() -> None:
    me = replace(owner(Role.COUPLED, 1, 1), commit=1)
    assert lease.beat_of(me, NOW + 700, 30) == Beat(1, NOW + 700, 1, 700, 30)
    alone = replace(me, role=Role.SOLO)
    assert lease.beat_of(alone, NOW + 90_000) == Beat(1, NOW + 90_000, 1, 0, 0)


def test_a_lease_of_another_epoch_is_none() -> None:
    me = replace(owner(), lease_ms=0)
    lease.on_beat_ack(me, A, BeatAck(2, NOW, "b0"), NOW)
    lease.on_beat_ack(me, A, BeatAck(0, NOW, "b0"), NOW)
    assert me.lease_ms == 0


def test_another_store_of_the_peer_is_other_data() -> None:
    me = replace(owner(Role.COUPLED, 1, 1), peer_index=2)
    lease.on_beat_ack(me, A, BeatAck(1, NOW, "b1"), NOW)
    assert (me.peer_store, me.peer_index, me.peer_is_behind) == ("b1", -1, True)
    assert lease.is_silent(me, TIMES, NOW)
    alone = replace(owner(Role.SOLO, 1, 1), peer_index=2)
    lease.on_beat_ack(alone, A, BeatAck(1, NOW, "b1"), NOW)
    assert (alone.peer_index, alone.peer_is_behind) == (-1, False)
    joining = replace(owner(Role.JOINING, 1, 1), peer_index=2)
    lease.on_beat_ack(joining, A, BeatAck(1, NOW, "b1"), NOW)
    assert joining.peer_is_behind


# --- lateness ---------------------------------------------------------------------------------------------------------


def test_own_lateness_is_no_silence_of_the_peer() -> None:
    me = owner()
    lease.late(me, NOW + 2_400, 2_400, TIMES)
    assert not lease.is_silent(me, TIMES, NOW + 2_600)
    other = standby()
    lease.late(other, NOW + 3_400, 3_400, TIMES)
    assert not lease.has_missed_beats(other, TIMES, NOW + 3_600)
    assert lease.has_missed_beats(standby(), TIMES, NOW + 3_500)


def test_no_lateness_makes_the_future_heard() -> None:
    me = owner()
    lease.late(me, NOW + 100, 5_000, TIMES)
    assert me.heard_ms == NOW + 100


def test_a_late_loop_drops_its_lease_until_a_later_beat_is_answered() -> None:
    me = owner()
    lease.late(me, NOW + 200, 200, TIMES)
    assert lease.may_act(me, NOW + 200)  # J/2 is allowed
    lease.late(me, NOW + 500, 201, TIMES)
    assert not lease.may_act(me, NOW + 500)
    lease.on_beat_ack(me, A, BeatAck(1, NOW + 500, "b0"), NOW + 600)
    assert not lease.may_act(me, NOW + 600)  # sent before we knew
    lease.on_beat_ack(me, A, BeatAck(1, NOW + 501, "b0"), NOW + 700)
    assert lease.may_act(me, NOW + 700)


# --- silence ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since_ms", "batch_ms", "unacked_ms", "is_silent"),
    [
        (2_499, 0, -1, False),
        (2_500, 0, -1, True),
        (0, 9_999, -1, False),
        (0, 10_000, -1, True),
        (0, 0, 9_999, False),
        (0, 0, 10_000, True),
    ],
)
def test_what_silence_is(since_ms: int, batch_ms: int, unacked_ms: int, is_silent: bool) -> None:
    me = replace(owner(), heard_ms=NOW - since_ms, peer_batch_ms=batch_ms)
    me.unacked_since_ms = -1 if unacked_ms < 0 else NOW - unacked_ms
    assert lease.is_silent(me, TIMES, NOW) == is_silent


def test_three_missed_beats_are_the_suspicion() -> None:
    assert not lease.has_missed_beats(standby(), TIMES, NOW + 3_499)
    assert lease.has_missed_beats(standby(), TIMES, NOW + 3_500)


def test_the_other_owner_of_a_lower_epoch_does_not_depose() -> None:
    me = owner(cfg=replace(E1, epoch=3))
    assert only(lease.on_beat(me, A, good(2), NOW), Send).message == Stale(3)
    assert me.role is Role.COUPLED
    assert BOTH[0] == A.member
