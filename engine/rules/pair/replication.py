"""Replication: what a standby takes (R3), and what the owner may call acknowledged (R4). Floor 3.

* The standby accepts any part of the log, fsyncs, and acknowledges what was *sent*, never its own last index.
* A suffix is dropped only from the first index whose epoch differs; entries beyond the Rep stay.
* An acknowledgement counts in the owner's present epoch, and for the store that gave it.
"""

from engine.base.pair import InstallSnapshot, Rep, RepAck, RepNack, Stale
from engine.rules.pair.lease import is_over, step_down
from engine.rules.pair.log import LogShape, edit_of
from engine.rules.pair.state import ACTIVE, LEASED, NOTHING, Effect, Install, Pair, Role, Send, Setting, Write


def accepts(me: Pair, epoch: int) -> bool:
    """Tell whether this node takes records of an owner's epoch: neither active nor pending, and nothing older."""
    return me.role is Role.STANDBY and not me.writing and not is_over(me, epoch)


def on_rep(me: Pair, who: Setting, rep: Rep) -> list[Effect]:
    """Take a part of the owner's log."""
    if is_over(me, rep.epoch):
        return [Send(Stale(me.highest))]
    if me.role in ACTIVE:
        return step_down(me, f"{who.peer} owns epoch {rep.epoch}")
    me.peer_epoch = max(me.peer_epoch, rep.epoch)
    if not accepts(me, rep.epoch):
        return []
    if not fits(me.log, rep):
        return [Send(RepNack(rep.epoch, hint_for(me.log, rep.prev_index), who.store))]
    edit = edit_of(me.log, rep.prev_index, rep.epochs)
    kept = me.log if edit.drop_after is None else me.log.cut_after(edit.drop_after)
    shape = kept.appended(rep.epochs[edit.skip :])
    me.writing = True
    return [Write(edit.drop_after, edit.skip, rep.epoch, acknowledged_by(rep, shape), shape)]


def fits(log: LogShape, rep: Rep) -> bool:
    """Tell whether the log agrees where the Rep begins; below a snapshot every owner that may send agrees with it."""
    return rep.prev_index < log.base or log.has(rep.prev_index, rep.prev_epoch)


def acknowledged_by(rep: Rep, _shape: LogShape) -> int:
    """Return the index that a Rep's acknowledgement names: up to there the owner's log and ours are known to agree."""
    return rep.prev_index + len(rep.epochs)


def hint_for(log: LogShape, prev_index: int) -> int:
    """Return an index to try next: our end, or where our records of the epoch that does not fit begin."""
    if prev_index > log.last:
        return log.last
    firsts = [first for first, _ in log.runs if first <= prev_index]
    return max(log.base, firsts[-1] - 1) if firsts else log.base


def on_snapshot(me: Pair, who: Setting, snapshot: InstallSnapshot) -> list[Effect]:
    """Take a whole snapshot in place of the log, under the conditions of a Rep; what is there already is only said."""
    if is_over(me, snapshot.epoch):
        return [Send(Stale(me.highest))]
    if me.role in ACTIVE:
        return step_down(me, f"{who.peer} owns epoch {snapshot.epoch}")
    me.peer_epoch = max(me.peer_epoch, snapshot.epoch)
    if not accepts(me, snapshot.epoch):
        return []
    me.writing = True
    if has_already(me.log, snapshot):
        return [Write(None, 0, snapshot.epoch, snapshot.index, me.log)]
    shape = LogShape(snapshot.index, snapshot.index_epoch, snapshot.index)
    return [Install(snapshot.epoch, snapshot.index, shape)]


def has_already(log: LogShape, snapshot: InstallSnapshot) -> bool:
    """Tell whether the log holds what a snapshot brings: an older one, come late, must not take the place of more."""
    return snapshot.index <= log.base or log.has(snapshot.index, snapshot.index_epoch)


def written(me: Pair, who: Setting, done: Write | Install) -> list[Effect]:
    """What was taken is durable: now, and only now, it is acknowledged."""
    me.writing = False
    me.log = done.shape
    me.log_epoch = raised(me.log_epoch, done.log_epoch)
    me.commit = max(min(me.commit, me.log.last), me.log.base)
    me.same_index = done.ack_index if done.log_epoch > me.same_epoch else max(me.same_index, done.ack_index)
    me.same_epoch = max(me.same_epoch, done.log_epoch)
    return [Send(RepAck(done.log_epoch, done.ack_index, who.store))]


def raised(log_epoch: int, epoch: int) -> int:
    """Return the epoch to persist: it never falls."""
    return max(log_epoch, epoch)


def appended(me: Pair, epochs: tuple[int, ...], now_ms: int) -> list[Effect]:
    """The owner's own records are durable here."""
    me.log = me.log.appended(epochs)
    if me.unacked_since_ms == NOTHING:
        me.unacked_since_ms = now_ms
    return commit(me)


def on_rep_ack(me: Pair, _who: Setting, ack: RepAck, now_ms: int) -> list[Effect]:
    """Count what the peer holds."""
    if me.role not in ACTIVE or ack.epoch != me.epoch or not counts(me, ack.store):
        return []
    if ack.index > me.peer_index:
        me.peer_store, me.peer_index = ack.store, ack.index
        me.unacked_since_ms = NOTHING if ack.index >= me.log.last else now_ms
    return commit(me)


def counts(me: Pair, store: str) -> bool:
    """Tell whether an acknowledgement is of the data that is in sync, or is being brought there."""
    if me.role is Role.COUPLED and me.cfg is not None:
        return any(one.store == store for one in me.cfg.insync)
    return store == me.peer_store


def on_rep_nack(me: Pair, _who: Setting, nack: RepNack) -> list[Effect]:
    """An in-sync peer that denies what it acknowledged in this epoch has lost data."""
    if me.role in LEASED and nack.epoch == me.epoch and counts(me, nack.store) and nack.hint < me.peer_index:
        me.peer_is_behind = True
    return []


def commit(me: Pair) -> list[Effect]:
    """Raise the acknowledged index by R4: alone our own disk, else both."""
    if me.role is Role.SOLO:
        me.commit = me.log.last
    elif me.role in LEASED:
        me.commit = max(me.commit, min(me.log.last, me.peer_index))
    return []
