"""Replication: what a standby takes (R3), and what the owner may call acknowledged (R4). Floor 3.

* The standby accepts any part of the log, fsyncs, and acknowledges what was *sent*, never its own last index.
* A suffix is dropped only from the first index whose epoch differs; entries beyond the Rep stay.
* An acknowledgement counts in the owner's present epoch, and for the store that gave it.
* A standby's own snapshot covers only what is acknowledged and was compared. So a rightful owner's log agrees with it;
  one that does not was forced to act without it (R14), and nothing of that log is taken or acknowledged here.
"""

from engine.base.pair import InstallSnapshot, Rep, RepAck, RepNack, Stale
from engine.rules.pair.lease import is_over, step_down
from engine.rules.pair.log import LogShape, edit_of
from engine.rules.pair.state import ACTIVE, LEASED, NOTHING, Alarm, Effect, Install, Pair, Role, Send, Setting, Write


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
    if contradicts(me.log, rep.prev_index + len(rep.epochs), (rep.prev_epoch, *rep.epochs)):
        return [given_up(me, who)]
    if is_covered(me.log, rep):
        return []
    if not fits(me.log, rep):
        return [Send(RepNack(rep.epoch, hint_for(me, rep), who.store))]
    edit = edit_of(me.log, rep.prev_index, rep.epochs)
    kept = me.log if edit.drop_after is None else me.log.cut_after(edit.drop_after)
    shape = kept.appended(rep.epochs[edit.skip :])
    me.writing = True
    return [Write(edit.drop_after, edit.skip, rep.epoch, acknowledged_by(rep, shape), shape)]


def contradicts(log: LogShape, last: int, epochs: tuple[int, ...]) -> bool:
    """Tell whether records that end with `last` can not be of the history that our snapshot covers.

    At the snapshot's own index the epochs must be equal; below it none can be higher, for they never fall along a log.
    """
    if not log.base or last - len(epochs) >= log.base:
        return False
    at_base = log.base - last - 1  # counted from the end
    return epochs[at_base] != log.base_epoch if last >= log.base else epochs[-1] > log.base_epoch


def given_up(me: Pair, who: Setting) -> Alarm:
    """Say what a person must do with a disk whose history a forced takeover has given up."""
    return Alarm(
        f"The snapshot of {who.node} (record {me.log.base}, epoch {me.log.base_epoch}) is not of the history of"
        f" {who.peer}, which was forced to act without it. Stop {who.node}, keep a copy of its folder if you want to"
        " see what was lost, and start it with an empty one."
    )


def is_covered(log: LogShape, rep: Rep) -> bool:
    """Tell whether all that a Rep brings lies below our snapshot: it came late, and its answer would say nothing."""
    return rep.prev_index + len(rep.epochs) < log.base


def fits(log: LogShape, rep: Rep) -> bool:
    """Tell whether the log agrees where the Rep begins; what begins below our snapshot was compared at its index."""
    return rep.prev_index < log.base or log.has(rep.prev_index, rep.prev_epoch)


def acknowledged_by(rep: Rep, _shape: LogShape) -> int:
    """Return the index that a Rep's acknowledgement names: up to there the owner's log and ours are known to agree."""
    return rep.prev_index + len(rep.epochs)


def hint_for(me: Pair, rep: Rep) -> int:
    """Return an index to try next: our end, or where our records of the epoch that does not fit begin.

    Never below what was compared with this very owner: it would look as if that had been lost (R5).
    """
    log, prev_index = me.log, rep.prev_index
    if prev_index > log.last:
        return log.last
    firsts = [first for first, _ in log.runs if first <= prev_index]
    same_index = me.same_index if rep.epoch == me.same_epoch else 0
    return max(log.base, same_index, firsts[-1] - 1 if firsts else 0)


def on_snapshot(me: Pair, who: Setting, snapshot: InstallSnapshot) -> list[Effect]:
    """Take a whole snapshot in place of the log, under the conditions of a Rep; what is there already is only said."""
    if is_over(me, snapshot.epoch):
        return [Send(Stale(me.highest))]
    if me.role in ACTIVE:
        return step_down(me, f"{who.peer} owns epoch {snapshot.epoch}")
    me.peer_epoch = max(me.peer_epoch, snapshot.epoch)
    if not accepts(me, snapshot.epoch):
        return []
    if contradicts(me.log, snapshot.index, (snapshot.index_epoch,)):
        return [given_up(me, who)]
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
    base, base_epoch = me.log.base, me.log.base_epoch  # our own snapshot may have grown while this was written
    me.log = done.shape if done.shape.base >= base else done.shape.based_on(base, base_epoch)
    me.log_epoch = raised(me.log_epoch, done.log_epoch)
    me.commit = max(min(me.commit, me.log.last), me.log.base)
    me.same_index = done.ack_index if done.log_epoch > me.same_epoch else max(me.same_index, done.ack_index)
    me.same_epoch = max(me.same_epoch, done.log_epoch)
    return [Send(RepAck(done.log_epoch, done.ack_index, who.store))]


def compared(me: Pair) -> int:
    """Return up to which record a standby may make a snapshot of its own log: acknowledged, and not to be dropped."""
    return min(me.commit, me.same_index) if me.role is Role.STANDBY else 0


def may_keep(me: Pair, index: int, epoch: int) -> bool:
    """Tell whether a snapshot made of our own log still is one of it, and may be written now."""
    return not me.writing and me.log.base < index <= compared(me) and me.log.has(index, epoch)


def based(me: Pair, index: int, epoch: int) -> None:
    """A snapshot of our own log is durable here: what it covers can not be dropped any more."""
    if index > me.log.base:
        me.log = me.log.based_on(index, epoch)


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
