"""What is asked of the register, and what follows from its answer (R5 to R16).

Tests: engine/rules/pair/ownership.py
"""

import pytest
from msgspec.structs import replace

from engine.base.pair import Cas, Member, Ownership, Read, Stale, Value, Yield
from engine.rules.pair import machine, ownership
from engine.rules.pair.state import (
    FORCED_EPOCHS,
    NOTHING,
    Activate,
    Alarm,
    Ask,
    Drain,
    End,
    GoOn,
    Keep,
    Pair,
    Role,
    Send,
    Setting,
)
from tests.rules.pair.pairs import BOTH, E1, NOW, TIMES, A, B, only, owner, standby

MA, MB = BOTH
SOLO_A = Ownership("c", 2, "A", (MA,), 1)
SOLO_B = Ownership("c", 2, "B", (MB,), 1)
HANDED = Ownership("c", 2, "B", BOTH, 1)


def learn(me: Pair, who: Setting, own: Ownership | None, now: int = NOW, known: int = 0) -> list[object]:
    """Hear a value and write it at once."""
    effects: list[object] = []
    for effect in ownership.on_value(me, who, Value(own, known, who.store), now):
        effects += ownership.kept(me, who, now) if isinstance(effect, Keep) else [effect]
    return effects


# --- learning ---------------------------------------------------------------------------------------------------------


def test_a_value_is_obeyed_once_it_is_durable() -> None:
    me = standby()
    keep = only(ownership.on_value(me, B, Value(SOLO_B, 1, "b0"), NOW), Keep)
    assert keep == Keep(SOLO_B, 1)
    assert (me.cfg, me.role, me.writing) == (E1, Role.STANDBY, True)
    assert ownership.on_value(me, B, Value(HANDED, 1, "b0"), NOW) == []  # one at a time
    assert ownership.kept(me, B, NOW) == []
    assert (me.cfg, me.role, me.writing, me.log_epoch) == (SOLO_B, Role.PENDING, False, 1)


def test_who_has_ended_meanwhile_gets_no_role_again() -> None:
    me = owner()
    ownership.on_value(me, A, Value(replace(E1, epoch=2), 1, A.store), NOW)
    me.role = Role.ENDED
    assert ownership.kept(me, A, NOW) == []
    assert me.role is Role.ENDED


def test_an_owner_goes_on_in_its_next_epoch() -> None:
    me = owner(Role.COUPLED, 1)
    assert learn(me, A, SOLO_A) == [GoOn(2, Role.SOLO)]
    assert (me.role, me.log_epoch, me.commit, me.peer_index) == (Role.SOLO, 2, 1, NOTHING)


@pytest.mark.parametrize("role", [Role.COUPLED, Role.SOLO, Role.JOINING, Role.YIELDED])
def test_who_is_owner_no_more_ends(role: Role) -> None:
    me = replace(owner(), role=role)
    assert learn(me, A, SOLO_B) == [End("B owns epoch 2")]
    assert me.role is Role.ENDED
    assert ownership.on_value(me, A, Value(replace(SOLO_B, epoch=3), 0, "a0"), NOW) == []


@pytest.mark.parametrize(
    "own", [replace(SOLO_A, nonce=2), replace(SOLO_A, insync=(Member("A", "a1"),)), replace(SOLO_A, owner="B")]
)
def test_what_is_mine_bears_my_incarnation_and_my_store(own: Ownership) -> None:
    assert ownership.is_mine(SOLO_A, A)
    assert not ownership.is_mine(own, A)
    me = owner(Role.COUPLED)
    assert [type(one) for one in learn(me, A, own)] == [End]


def test_an_answer_that_comes_late_is_ignored() -> None:
    me = owner(cfg=replace(E1, epoch=3))
    assert learn(me, A, SOLO_A) == []
    assert me.role is Role.COUPLED
    back = standby(log_epoch=3)
    assert learn(back, B, SOLO_B) == []  # replication in epoch 3 was taken since
    assert back.role is Role.STANDBY


def test_an_answer_to_an_older_disk_is_ignored() -> None:
    me = standby(cfg=None, log_epoch=0)
    assert ownership.on_value(me, replace(B, store="b1"), Value(E1, 0, "b0"), NOW) == []
    assert not me.has_read
    assert ownership.on_value(me, replace(B, store="b1"), Value(E1, 0, "b1"), NOW) == [Keep(E1, 0)]


def test_the_value_it_knows_tells_only_that_it_has_read() -> None:
    me = replace(standby(), has_read=False)
    assert learn(me, B, E1) == []
    assert me.has_read


# --- R13: the register lost its state ---------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [replace(E1, epoch=1), None])
def test_a_register_that_knows_less_is_told_of_once_and_asked_for_nothing(own: Ownership | None) -> None:
    me = owner(Role.COUPLED, cfg=replace(E1, epoch=3))
    alarm = only(ownership.on_value(me, A, Value(own, 3, "a0"), NOW), Alarm)
    assert "has lost its state" in alarm.sentence
    assert "epoch 3 has been" in alarm.sentence
    assert ownership.on_value(me, A, Value(own, 3, "a0"), NOW) == []
    me.peer_is_behind = True
    assert ownership.uncouple(me, A, NOW) == []
    assert machine.tick(me, A, NOW) == [Ask(Read(3, "a0"))]
    assert me.role is Role.COUPLED  # it goes on serving
    assert learn(me, A, replace(E1, epoch=4)) == [GoOn(4, Role.COUPLED)]
    assert not me.register_lost


def test_a_register_that_gives_an_epoch_twice_is_told_of_and_not_obeyed() -> None:
    """It fell back, and an old question came upon it then: B may not act in the epoch that A acts in."""
    me = standby(cfg=SOLO_A, log_epoch=2)
    alarm = only(ownership.on_value(me, B, Value(SOLO_B, 1, "b0"), NOW), Alarm)
    assert "it gives epoch 2 to B, and epoch 2 has been" in alarm.sentence
    assert (me.role, me.cfg, me.register_lost) == (Role.STANDBY, SOLO_A, True)


def test_a_cluster_that_nobody_knows_is_told_of_once_and_never_created() -> None:
    me = standby(cfg=None, log_epoch=0)
    alarm = only(ownership.on_value(me, B, Value(None, 0, "b0"), NOW), Alarm)
    assert alarm.sentence == "The register knows no cluster c: create it there, or correct the name."
    assert ownership.on_value(me, B, Value(None, 0, "b0"), NOW) == []
    assert machine.tick(me, B, NOW) == [Ask(Read(0, "b0"))]


# --- R5, R6, R8 -------------------------------------------------------------------------------------------------------


def test_the_owner_asks_to_go_on_alone_and_holds_to_the_old_rules_until_it_knows() -> None:
    me = owner(Role.COUPLED, 1)
    now = NOW + TIMES.silence_ms
    me.answered_ms = now
    assert ownership.uncouple(me, A, now - 1) == []
    assert ownership.uncouple(me, A, now) == [Ask(Cas(E1, SOLO_A))]
    assert (me.role, me.commit) == (Role.COUPLED, 0)


@pytest.mark.parametrize("standing_by", [True, False])
def test_who_hears_no_answers_asks_for_nothing_but_an_answer(standing_by: bool) -> None:
    """Else an owner that hears nobody wins the register, never knows it, and keeps the other from serving."""
    me, who = (standby(), B) if standing_by else (owner(), A)
    timer = ownership.take_over if standing_by else ownership.uncouple
    now = NOW + 4_000
    assert timer(me, who, now) == [Ask(Read(1, who.store))]
    assert timer(me, who, now + TIMES.again_ms - 1) == []
    assert timer(me, who, now + TIMES.again_ms) == [Ask(Read(1, who.store))]
    assert learn(me, who, E1, now + 520) == []
    assert isinstance(only(timer(me, who, now + 530), Ask).question, Cas)


def test_a_standby_in_sync_takes_over_after_three_missed_beats() -> None:
    now = NOW + TIMES.takeover_ms
    me = replace(standby(), answered_ms=now)
    assert ownership.take_over(me, B, now - 1) == []
    assert ownership.take_over(me, B, now) == [Ask(Cas(E1, SOLO_B))]
    assert ownership.take_over(replace(me), replace(B, store="b1"), now) == []  # R16
    assert ownership.take_over(replace(me, cfg=SOLO_A), B, now) == []
    assert ownership.take_over(replace(me, role=Role.PENDING), B, now) == []


def test_a_new_value_of_the_register_starts_the_clock_again() -> None:
    me = standby()
    learn(me, B, replace(E1, epoch=2), NOW + 3_400)
    assert ownership.take_over(me, B, NOW + 3_500) == []


def test_a_restarted_owner_begins_a_new_epoch() -> None:
    me = machine.boot(E1, 1, owner().log, NOW)
    again = replace(A, incarnation=2)
    assert ownership.claim_again(me, again, NOW) == [Ask(Cas(E1, Ownership("c", 2, "A", BOTH, 2)))]
    assert ownership.claim_again(me, replace(again, store="a1"), NOW) == []  # R16: another disk owns nothing
    assert ownership.claim_again(standby(), B, NOW) == []


@pytest.mark.parametrize(("nonce", "is_older"), [(0, False), (99, False), (100, False), (101, True), (250, True)])
def test_an_older_copy_of_the_owners_disk_claims_nothing_and_says_so(nonce: int, is_older: bool) -> None:
    """R16: a copy has not had the incarnations that came after it was taken."""
    own = replace(E1, nonce=nonce)
    me = machine.boot(own, 1, owner().log, NOW)
    again = replace(A, incarnation=107, last_incarnation=100)
    told = learn(me, again, own)
    assert bool(ownership.claim_again(me, again, NOW)) is not is_older
    assert [type(one) for one in told] == [Alarm] * is_older
    assert all("older copy" in one.sentence for one in told if isinstance(one, Alarm))
    assert not ownership.is_copy(replace(own, nonce=107), again), "its own"
    assert not ownership.is_copy(replace(own, insync=(Member("A", "a1"),)), again), "of another disk"
    assert not ownership.is_copy(replace(own, owner="B"), again), "the other node counts by itself"


def test_an_unanswered_question_is_asked_again_as_it_was() -> None:
    """R12: the outcome is unknown, nothing is inferred, and the same question does no harm twice."""
    me = machine.boot(E1, 1, owner().log, NOW)
    me.has_read = True
    again = replace(A, incarnation=2)
    first = machine.tick(me, again, NOW)
    assert isinstance(only(first, Ask).question, Cas)
    assert machine.tick(me, again, NOW + TIMES.again_ms - 1) == []
    assert machine.tick(me, again, NOW + TIMES.again_ms) == first


# --- R7 ---------------------------------------------------------------------------------------------------------------


def test_nobody_acts_before_the_last_lease_is_over() -> None:
    me = standby()
    learn(me, B, SOLO_B)
    assert ownership.activate(me, B, NOW + TIMES.wait_ms - 1) == []
    assert ownership.activate(me, B, NOW + TIMES.wait_ms) == [Activate(2)]
    assert (me.role, me.log_epoch) == (Role.SOLO, 2)


def test_a_boot_counts_as_a_lease_given() -> None:
    me = machine.boot(SOLO_B, 1, standby().log, NOW)
    me.role = Role.PENDING
    assert ownership.activate(me, B, NOW + TIMES.wait_ms - 1) == []
    assert ownership.activate(me, B, NOW + TIMES.wait_ms) == [Activate(2)]


def test_nobody_activates_what_is_older_than_its_log() -> None:
    me = replace(standby(cfg=SOLO_B, log_epoch=3), role=Role.PENDING)
    assert ownership.activate(me, B, NOW + 99_999) == []


# --- R9 ---------------------------------------------------------------------------------------------------------------


def test_joining_and_coupling() -> None:
    me = owner(Role.SOLO, 1, 1)
    me.peer_index = 1
    assert ownership.join(me, A, NOW) == [GoOn(1, Role.JOINING)]
    assert ownership.couple(me, A, NOW) == []  # what was acknowledged before is not all there
    me.peer_index = 2
    assert me.cfg is not None
    assert ownership.couple(me, A, NOW) == [Ask(Cas(me.cfg, Ownership("c", 2, "A", BOTH, 1)))]
    assert me.couple_sent


@pytest.mark.parametrize(
    "changes",
    [{"lease_ms": NOW}, {"peer_index": NOTHING}, {"writing": True}, {"role": Role.COUPLED}, {"peer_index": -2_000}],
)
def test_who_may_not_join(changes: dict[str, object]) -> None:
    assert ownership.join(replace(owner(Role.SOLO, 1, 1), **changes), A, NOW) == []


def test_joining_is_left_freely_until_the_register_was_asked() -> None:
    me = owner(Role.JOINING, 1)
    now = NOW + TIMES.silence_ms
    me.answered_ms = now
    asked = replace(me, couple_sent=True)
    assert ownership.uncouple(me, A, now) == [GoOn(1, Role.SOLO)]
    assert (me.role, me.commit) == (Role.SOLO, 1)
    question = only(ownership.uncouple(asked, A, now), Ask).question
    assert isinstance(question, Cas)
    assert question.new.insync == (MA,)
    assert (asked.role, asked.commit) == (Role.JOINING, 0)


def test_one_tick_does_not_ask_for_two_things() -> None:
    me = replace(owner(Role.JOINING, 1), couple_sent=True, peer_index=1, answered_ms=NOW + 2_500)
    question = only(machine.tick(me, A, NOW + 2_500), Ask).question
    assert isinstance(question, Cas)
    assert question.new.insync == (MA,)


# --- R10 --------------------------------------------------------------------------------------------------------------


def test_handing_over() -> None:
    me = owner(Role.COUPLED, 1)
    assert ownership.switch_over(me, A) == [Drain()]
    assert ownership.drained(me, A, NOW) == []  # not everything is acknowledged
    me.commit = 1
    offer = only(ownership.drained(me, A, NOW), Send).message
    assert offer == Yield(1, 1)
    assert me.role is Role.YIELDED
    assert ownership.switch_over(me, A) == []


@pytest.mark.parametrize("now", [NOW + 3_000, NOW + 9_000])
def test_a_fenced_owner_hands_nothing_over(now: int) -> None:
    assert ownership.drained(owner(), A, now) == []


def test_what_is_handed_over_is_activated_without_a_wait() -> None:
    me = standby(1)
    assert isinstance(offer := Yield(1, 1), Yield)
    assert ownership.on_yield(me, B, offer, NOW) == [Ask(Cas(E1, HANDED))]
    assert not me.skips_wait  # nothing is remembered
    learn(me, B, HANDED)
    assert ownership.activate(me, B, NOW) == [Activate(2)]
    assert me.role is Role.COUPLED


@pytest.mark.parametrize(
    "me",
    [standby(1, 1), standby(), standby(1, cfg=SOLO_A), standby(1, cfg=None), replace(standby(1), role=Role.PENDING)],
)
def test_an_offer_that_does_not_fit(me: Pair) -> None:
    assert ownership.on_yield(me, B, Yield(1, 1), NOW) == []


@pytest.mark.parametrize("own", [replace(HANDED, epoch=3), replace(HANDED, insync=(MB,)), replace(HANDED, nonce=9)])
def test_only_the_very_value_of_the_hand_over_skips_the_wait(own: Ownership) -> None:
    assert ownership.is_hand_over(E1, HANDED, B)
    assert not ownership.is_hand_over(E1, own, B)
    assert not ownership.is_hand_over(replace(E1, owner="B"), HANDED, B)
    assert not ownership.is_hand_over(None, HANDED, B)


def test_what_is_handed_over_is_offered_again_until_it_is_given_up() -> None:
    me = replace(owner(Role.COUPLED, 1), commit=1)
    ownership.drained(me, A, NOW)
    assert machine.tick(me, A, NOW + TIMES.again_ms - 1) == []
    assert machine.tick(me, A, NOW + TIMES.again_ms) == [Send(Yield(1, 1)), Ask(Read(1, "a0"))]
    assert machine.tick(me, A, NOW + TIMES.takeover_ms) == [End("handed over, and B did not take it")]


# --- R14, R15, looking ------------------------------------------------------------------------------------------------


def test_a_forced_take_over_raises_the_epoch_by_a_thousand() -> None:
    me = standby(cfg=SOLO_A)
    new = Ownership("c", 2 + FORCED_EPOCHS, "B", (MB,), 1)
    assert ownership.force_take_over(me, B, NOW) == [Ask(Cas(SOLO_A, new))]
    assert FORCED_EPOCHS == 1_000
    assert ownership.force_take_over(owner(), A, NOW) == []
    assert ownership.force_take_over(standby(cfg=None), B, NOW) == []


@pytest.mark.parametrize("role", Role)
def test_stale_alone_makes_nobody_step_down(role: Role) -> None:
    me = replace(owner(), role=role)
    assert ownership.on_stale(me, A, Stale(9)) == [Ask(Read(1, "a0"))]
    assert me.role is role
    assert ownership.on_stale(me, A, Stale(1)) == []


def test_a_higher_epoch_is_looked_for_at_the_register_at_most_so_often() -> None:
    me = owner()
    assert ownership.look(me, A, NOW) == []
    me.peer_epoch = 4
    assert ownership.look(me, A, NOW) == [Ask(Read(1, "a0"))]
    assert ownership.look(me, A, NOW + TIMES.again_ms - 1) == []
    assert ownership.look(me, A, NOW + TIMES.again_ms) == [Ask(Read(1, "a0"))]
    assert ownership.look(replace(me, writing=True, looked_ms=NOTHING), A, NOW) == []


def test_who_is_out_of_sync_and_hears_no_owner_looks() -> None:
    me = standby(cfg=SOLO_A)
    assert ownership.look(me, B, NOW + TIMES.takeover_ms - 1) == []
    assert ownership.look(me, B, NOW + TIMES.takeover_ms) == [Ask(Read(2, "b0"))]


def test_a_standby_that_hears_its_owner_looks_now_and_then() -> None:
    """Its own question to take over may have landed unheard, before the owner was heard again."""
    me = standby()
    me.answered_ms = NOW
    now = NOW + TIMES.batch_ms
    me.good_beat_ms = now
    assert ownership.look(me, B, now - 1) == []
    assert ownership.look(me, B, now) == [Ask(Read(me.highest, "b0"))]
    assert ownership.look(me, B, now + 1) == []  # not again before the answer may have come


def test_an_owner_looks_now_and_then_for_a_lost_register_must_be_known_before_it_is_needed() -> None:
    me = owner()
    assert ownership.look(me, A, NOW + TIMES.batch_ms - 1) == []
    assert ownership.look(me, A, NOW + TIMES.batch_ms) == [Ask(Read(me.highest, "a0"))]
