"""Beats and leases: who may act now (R1, R2), and what silence is (R5, R6). Floor 3.

* The lease counts from the instant the owner *sent* its beat, the promise from the instant the standby granted it;
  so the one ends before the other whatever the network does.
* A beat is good when its sender hears us and its disk works: else the promise would keep alive who can not serve.
"""

from engine.base.pair import Beat, BeatAck, Stale
from engine.rules.pair.state import ACTIVE, LEASED, NOTHING, Effect, End, Pair, Role, Send, Setting
from engine.rules.pair.times import Times


def may_act(me: Pair, now_ms: int) -> bool:
    """Tell whether an effect may go out at this instant (R1); to be asked before each."""
    return me.role is Role.SOLO or (me.role in LEASED and now_ms < me.lease_ms)


def status(me: Pair, now_ms: int) -> str:
    """Return the state people see: a role, or `fenced`."""
    return "fenced" if me.role in LEASED and now_ms >= me.lease_ms else me.role.value


def is_good(beat: Beat, times: Times) -> bool:
    """Tell whether its sender hears us and its disk works."""
    return beat.ack_age_ms <= times.good_ms and beat.batch_age_ms <= times.good_ms


def lease_end(sent_ms: int, _received_ms: int, times: Times) -> int:
    """Return until when a lease lasts: counted from the send time of the owner's own beat."""
    return sent_ms + times.lease_ms


def grants(me: Pair, who: Setting) -> bool:
    """Only a standby gives leases: whoever owns or claims the pair would promise what it does not mean to keep.

    And not one whose data is not in sync before it has read the register: an empty or restored store may have forgotten
    that it owned the pair, and would let the owner before act without what was acknowledged since.
    """
    return me.role is Role.STANDBY and (me.has_read or (me.cfg is not None and me.cfg.has(who.member)))


def is_over(me: Pair, epoch: int) -> bool:
    """Tell whether somebody speaks of an epoch below the highest that was persisted here (R11)."""
    return epoch < me.highest


def on_beat(me: Pair, who: Setting, beat: Beat, now_ms: int, batch_age_ms: int = 0) -> list[Effect]:
    """Grant a lease, step down, or say that the epoch is over; `batch_age_ms` is that of our own oldest batch."""
    if is_over(me, beat.epoch):
        return [Send(Stale(me.highest))]
    if me.role in ACTIVE or (me.role is Role.YIELDED and beat.epoch > me.epoch):
        return step_down(me, f"{who.peer} owns epoch {beat.epoch}")
    me.peer_epoch = max(me.peer_epoch, beat.epoch)
    if not grants(me, who):
        return []
    me.commit = max(me.commit, applicable(me, beat))
    good = is_good(beat, who.times)
    if good:
        me.good_beat_ms = me.last_grant_ms = now_ms
    return [Send(BeatAck(beat.epoch, beat.sent_ms, who.store, batch_age_ms, good))]


def applicable(me: Pair, beat: Beat) -> int:
    """Return how far a standby may apply its log: what the owner calls acknowledged, and what was compared with it.

    What lies beyond may be a tail of ours that nobody acknowledged, at the very indexes where the owner has others.
    """
    return min(beat.commit, me.same_index) if beat.epoch == me.same_epoch else 0


def on_beat_ack(me: Pair, who: Setting, ack: BeatAck, now_ms: int) -> list[Effect]:
    """Take the lease that the standby grants; another store than before is other data."""
    if ack.epoch != me.epoch or me.role not in (*ACTIVE, Role.PENDING):
        return []
    me.heard_ms = max(me.heard_ms, min(ack.sent_ms, now_ms))  # an answer that comes late is as old as its beat
    me.peer_batch_ms = ack.batch_age_ms
    if ack.grants and ack.sent_ms > me.lease_not_for_ms:
        me.lease_ms = max(me.lease_ms, lease_end(ack.sent_ms, now_ms, who.times))
    if ack.store != me.peer_store:
        me.peer_store, me.peer_index = ack.store, NOTHING
        me.peer_is_behind = me.role is Role.JOINING
    if me.role is Role.COUPLED and me.cfg is not None:
        me.peer_is_behind = me.peer_is_behind or all(one.store != ack.store for one in me.cfg.insync)
    return []


def beat_of(me: Pair, now_ms: int, batch_age_ms: int = 0) -> Beat | None:
    """Return the beat that is due; None from who owns nothing.

    Who acts alone needs no answer, so the age of the last one says nothing against it.
    """
    if me.role not in (*ACTIVE, Role.PENDING):
        return None
    ack_age_ms = 0 if me.role is Role.SOLO else now_ms - me.heard_ms
    return Beat(me.epoch, now_ms, me.commit, ack_age_ms, batch_age_ms)


def late(me: Pair, now_ms: int, late_ms: int, times: Times) -> None:
    """Our own loop came late: no silence is counted for that time, and beyond J/2 the lease is dropped."""
    me.heard_ms = min(now_ms, me.heard_ms + late_ms)
    me.good_beat_ms = min(now_ms, me.good_beat_ms + late_ms)
    if late_ms > times.lateness_ms // 2 and me.role in LEASED:
        me.lease_ms = min(me.lease_ms, now_ms)
        me.lease_not_for_ms = now_ms


def step_down(me: Pair, reason: str) -> list[Effect]:
    """Act no more; the node boots again (what it decided and nobody acknowledged is dropped with it)."""
    me.role = Role.ENDED
    return [End(reason)]


def is_silent(me: Pair, times: Times, now_ms: int) -> bool:
    """Tell whether the owner must go on without its peer (R5)."""
    return (
        me.peer_is_behind
        or now_ms - me.heard_ms >= times.silence_ms
        or me.peer_batch_ms >= times.batch_ms
        or (me.unacked_since_ms != NOTHING and now_ms - me.unacked_since_ms >= times.batch_ms)
    )


def has_missed_beats(me: Pair, times: Times, now_ms: int) -> bool:
    """Tell whether the standby suspects the owner (R6): a suspicion, not yet a permission."""
    return now_ms - me.good_beat_ms >= times.takeover_ms
