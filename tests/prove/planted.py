"""Planted faults: each switches off one rule of FAILOVER §6, and the search must find what follows from that.

* A fault replaces functions of the rules by others, with `setattr`-like `plant(module, name, value)`.
* Its bounds say what the shortest counterexample needs, so that it is found within seconds.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from engine.base.pair import BeatAck, Ownership, RepAck
from engine.rules import agent
from engine.rules.pair import lease, machine, ownership, replication
from engine.rules.pair.log import Edit
from engine.rules.pair.state import ACTIVE, NOTHING, GoOn, Pair, Role, Send, Write
from tests.prove import steps
from tests.prove.world import Bounds

Plant = Callable[[Any, str, Any], None]


class Fault(msgspec.Struct, frozen=True):
    """A rule switched off, and bounds within which that shows."""

    rule: str
    plant: Callable[[Plant], None]
    bounds: Bounds
    prefix: tuple[str, ...] = ()  # the first steps, in a transcript's sentences; the search starts behind them
    under: Callable[[Plant], None] | None = None  # what else is changed, and sound with the rule: the test shows it
    masked_by: str = ""  # for a rule that another makes needless: which one


# Beginnings that several counterexamples share.
B_TAKES_OVER = (
    "B misses beats and wants to take over",
    "the register gets the question to change e1 A#1 { a0 b0 } to e2 B#1 { b0 }",
    "B gets the register's answer: e2 B#1 { b0 }",
    "B owns the register, has waited, and begins to act",
)
JOINING_ASKED = (
    "A hears nothing and wants to go on alone",
    "the register gets the question to change e1 A#1 { a0 b0 } to e2 A#1 { a0 }",
    "A gets the register's answer: e2 A#1 { a0 }",
    "A beats, the other hears it, and the answer comes",
    "B hears an empty Rep behind 0 of A's log in e2",
    "A gets the acknowledgement of b0 up to 0 in e2",
    "A binds itself to the other's lease and acknowledgement",
    "A wants the other to be in sync",
    "the register gets the question to change e2 A#1 { a0 } to e3 A#1 { a0 b0 }",
)
A_IS_BACK_IN_SYNC = (
    "A crashes, and is booted",
    "A was restarted as owner and wants a new epoch",
    "the register gets the question to change e1 A#1 { a0 b0 } to e2 A#2 { a0 b0 }",
    "B reads the register",
    "B gets the register's answer: e2 A#2 { a0 b0 }",
    "B misses beats and wants to take over",
    "the register gets the question to change e2 A#2 { a0 b0 } to e3 B#1 { b0 }",
    "B gets the register's answer: e3 B#1 { b0 }",
    "B owns the register, has waited, and begins to act",
    "B writes a record",
    "A hears records 1 to 1 of B's log in e3",
    "B beats, the other hears it, and the answer comes",
    "B gets the acknowledgement of a0 up to 1 in e3",
    "B binds itself to the other's lease and acknowledgement",
    "B wants the other to be in sync",
    "the register gets the question to change e3 B#1 { b0 } to e4 B#1 { a0 b0 }",
)

FAULTS: dict[str, Fault] = {}
DOUBLES: dict[str, Fault] = {}  # switched off alone, these harm nothing: another rule holds


@contextmanager
def planted(name: str, *, only_under: bool = False) -> Iterator[Fault]:
    """Switch off a rule for as long as the context lasts; `only_under`: only what is changed beside it."""
    undo: list[tuple[Any, str, Any]] = []

    def plant(module: Any, attribute: str, value: Any) -> None:
        undo.append((module, attribute, getattr(module, attribute)))
        setattr(module, attribute, value)

    one = FAULTS.get(name) or DOUBLES[name]
    try:
        if one.under is not None:
            one.under(plant)
        if not only_under:
            one.plant(plant)
        yield one
    finally:
        for module, attribute, value in reversed(undo):
            setattr(module, attribute, value)


def fault(
    rule: str,
    *,
    prefix: tuple[str, ...] = (),
    under: Callable[[Plant], None] | None = None,
    masked_by: str = "",
    **bounds: Any,
) -> Callable[[Callable[[Plant], None]], Callable[[Plant], None]]:
    """Register a planted fault, or a double."""

    def register(plant: Callable[[Plant], None]) -> Callable[[Plant], None]:
        place = DOUBLES if masked_by else FAULTS
        place[plant.__name__] = Fault(rule, plant, Bounds(**bounds), prefix, under, masked_by)
        return plant

    return register


@fault("R5: witness consent", epochs=2, events=1, crashes=0)
def goes_solo_by_itself(plant: Plant) -> None:
    def uncouple(me: Pair, _who: Any, _now: int) -> list[Any]:
        if me.role is not Role.COUPLED:
            return []
        me.role = Role.SOLO
        return [*replication.commit(me), GoOn(me.epoch, Role.SOLO)]

    plant(ownership, "uncouple", uncouple)


@fault("R1: the lease is checked before each effect", epochs=2, events=1, crashes=0)
def acts_without_a_lease(plant: Plant) -> None:
    plant(lease, "may_act", lambda me, _now: me.role in ACTIVE)


@fault("R5: no act before uncoupling is learned", epochs=2, events=1, crashes=0)
def acts_alone_once_it_has_asked(plant: Plant) -> None:
    original = ownership.uncouple

    def uncouple(me: Pair, who: Any, now: int) -> list[Any]:
        effects = original(me, who, now)
        if effects and me.role is Role.COUPLED:
            me.role = Role.SOLO
            replication.commit(me)
        return effects

    plant(ownership, "uncouple", uncouple)


@fault("R7: the wait W before activation", epochs=2, events=0, crashes=0)
def activates_at_once(plant: Plant) -> None:
    plant(ownership, "has_waited", lambda *_: True)


@fault("R8: a new epoch at boot", epochs=3, events=1, crashes=1)
def resumes_its_epoch_at_boot(plant: Plant) -> None:
    def boot(cfg: Ownership | None, log_epoch: int, log: Any, now: int) -> Pair:
        me = original(cfg, log_epoch, log, now)
        if cfg is not None and log_epoch == cfg.epoch and log.last_epoch == log_epoch:
            me.role = Role.PENDING
        return me

    original = machine.boot
    plant(machine, "boot", boot)
    plant(ownership, "is_mine", lambda own, who: own.owner == who.node and own.has(who.member))


@fault("R2: a boot counts as a lease granted", epochs=2, events=0, crashes=1)
def forgets_its_grants_at_boot(plant: Plant) -> None:
    plant(machine, "granted_at", lambda now: now - 1)


@fault("R3: fsync before RepAck", epochs=2, events=1, crashes=1, slow_disk=True)
def acknowledges_before_fsync(plant: Plant) -> None:
    original = replication.on_rep

    def on_rep(me: Pair, who: Any, rep: Any) -> list[Any]:
        effects = original(me, who, rep)
        early = [Send(RepAck(rep.epoch, one.ack_index, who.store)) for one in effects if hasattr(one, "ack_index")]
        return effects + early

    plant(replication, "on_rep", on_rep)


@fault("R9: couple only after everything is acknowledged", epochs=4, events=1, crashes=0)
def couples_too_early(plant: Plant) -> None:
    plant(ownership, "has_caught_up", lambda _me: True)


@fault("R6: no takeover out of sync", epochs=3, events=1, crashes=0)
def takes_over_out_of_sync(plant: Plant) -> None:
    plant(ownership, "is_in_sync", lambda *_: True)


@fault("R9: JOINING before the couple Cas", epochs=3, events=1, crashes=0)
def couples_out_of_solo(plant: Plant) -> None:
    couple = ownership.couple

    def asks(me: Pair, who: Any, now: int) -> list[Any]:
        if me.role is not Role.SOLO or me.peer_index == NOTHING or me.peer_index < me.log.last:
            return []
        me.role, me.join_index = Role.JOINING, me.log.last
        effects = couple(me, who, now)
        me.role, me.join_index, me.couple_sent = Role.SOLO, 0, False
        return effects

    plant(ownership, "couple", asks)
    plant(ownership, "join", lambda *_: [])


@fault("R1: an owner with a couple Cas in flight needs a lease", epochs=4, events=0, crashes=0, prefix=JOINING_ASKED)
def acts_without_a_lease_while_joining(plant: Plant) -> None:
    original = lease.may_act
    plant(lease, "may_act", lambda me, now: me.role is Role.JOINING or original(me, now))


@fault("R4: an owner with a couple Cas in flight needs the acknowledgement", epochs=3, events=1, crashes=0)
def acknowledges_alone_while_joining(plant: Plant) -> None:
    def commit(me: Pair) -> list[Any]:
        if me.role in (Role.SOLO, Role.JOINING):
            me.commit = me.log.last
        elif me.role is Role.COUPLED:
            me.commit = max(me.commit, min(me.log.last, me.peer_index))
        return []

    plant(replication, "commit", commit)
    plant(ownership, "commit", commit)


@fault("R10: no remembered yield", epochs=4, events=0, crashes=1, yields=1)
def remembers_a_yield(plant: Plant) -> None:
    yielded, kept = ownership.on_yield, ownership.kept

    def on_yield(me: Pair, who: Any, offer: Any, now: int) -> list[Any]:
        effects = yielded(me, who, offer, now)
        me.skips_wait = me.skips_wait or bool(effects)
        return effects

    def keep(me: Pair, who: Any, now: int) -> list[Any]:
        remembered = me.skips_wait
        effects = kept(me, who, now)
        me.skips_wait = me.skips_wait or (remembered and me.role is not Role.ENDED)
        return effects

    plant(ownership, "on_yield", on_yield)
    plant(ownership, "kept", keep)


def replicates_whole_logs(plant: Plant) -> None:
    """The protocol before R3 allowed parts: the first Rep of a new epoch takes the place of the log."""
    original = replication.on_rep

    def on_rep(me: Pair, who: Any, rep: Any) -> list[Any]:
        end = rep.prev_index + len(rep.epochs)
        effects = original(me, who, rep)
        return [_whole(one, end, len(rep.epochs)) if rep.epoch > me.log_epoch else one for one in effects]

    plant(replication, "on_rep", on_rep)


def _whole(effect: Any, end: int, count: int) -> Any:
    if not isinstance(effect, Write) or effect.shape.last <= end:
        return effect
    return Write(end, count, effect.log_epoch, effect.ack_index, effect.shape.cut_after(end))


def _cell_falls(plant: Plant) -> None:
    plant(replication, "raised", lambda _old, new: new)
    plant(ownership, "raised", lambda _old, new: new)


def _answers_forget_it(plant: Plant) -> None:
    plant(ownership, "is_late", lambda me, own: own.epoch < me.epoch)
    plant(ownership, "is_log_newer", lambda _me, _own: False)


TRACE_A: dict[str, Any] = {
    "epochs": 4,
    "events": 1,
    "crashes": 1,
    "old_mail": True,
    "whole_logs": True,
    "prefix": A_IS_BACK_IN_SYNC,
    "under": replicates_whole_logs,
}


@fault("R3, R7, R11: log_epoch never falls, and late is also what is below it (trace a)", **TRACE_A)
def forgets_log_epoch(plant: Plant) -> None:
    _cell_falls(plant)
    _answers_forget_it(plant)


@fault("R3: log_epoch never falls", masked_by="R11 and R7: no value below log_epoch is obeyed", **TRACE_A)
def log_epoch_falls(plant: Plant) -> None:
    _cell_falls(plant)


@fault("R11: late is also what is below log_epoch", masked_by="R3: log_epoch does not fall by it", **TRACE_A)
def forgets_log_epoch_in_answers(plant: Plant) -> None:
    _answers_forget_it(plant)


PARTS = "R3: a suffix is dropped only at a differing epoch"


@fault(
    "R3, R7, R11: log_epoch, with parts of logs",
    masked_by=PARTS,
    epochs=4,
    events=1,
    crashes=1,
    old_mail=True,
    prefix=A_IS_BACK_IN_SYNC,
)
def forgets_log_epoch_with_parts(plant: Plant) -> None:
    forgets_log_epoch(plant)


@fault(
    "R11: register answers that come late are ignored",
    epochs=3,
    events=1,
    crashes=0,
    old_mail=True,
    prefix=JOINING_ASKED,
)
def obeys_late_answers(plant: Plant) -> None:
    plant(ownership, "is_late", lambda _me, _own: False)


@fault("R9: no return to solo once the couple Cas was sent", epochs=4, events=1, crashes=0)
def returns_to_solo_by_itself(plant: Plant) -> None:
    plant(ownership, "may_return", lambda _me: True)


@fault("R3: a suffix is dropped only at a differing epoch", epochs=3, events=2, crashes=0)
def drops_what_lies_beyond_a_rep(plant: Plant) -> None:
    def edit_of(shape: Any, prev: int, epochs: Any) -> Edit:
        return Edit(prev, 0) if prev < shape.last else Edit(None, 0)

    plant(replication, "edit_of", edit_of)


@fault("R3: acknowledged is what was sent, not the own last index", epochs=4, events=2, crashes=0)
def acknowledges_its_own_last_index(plant: Plant) -> None:
    plant(replication, "acknowledged_by", lambda _rep, shape: shape.last)


@fault("R16: in sync is the store, not the name", epochs=2, events=1, crashes=0, wipes=1)
def trusts_the_name_of_a_node(plant: Plant) -> None:
    def names(own: Ownership) -> list[str]:
        return [one.node for one in own.insync]

    plant(ownership, "is_in_sync", lambda cfg, who: who.node in names(cfg))
    plant(
        ownership,
        "is_mine",
        lambda own, who: own.owner == who.node and own.nonce == who.incarnation and who.node in names(own),
    )


@fault("R16: an acknowledgement counts for the store that gave it", epochs=4, events=1, crashes=0, wipes=1)
def counts_any_stores_acknowledgement(plant: Plant) -> None:
    plant(replication, "counts", lambda *_: True)
    heard = lease.on_beat_ack

    def on_beat_ack(me: Pair, who: Any, ack: Any, now: int) -> list[Any]:
        index, behind = me.peer_index, me.peer_is_behind
        effects = heard(me, who, ack, now)
        me.peer_index, me.peer_is_behind = max(index, NOTHING), behind
        return effects

    plant(lease, "on_beat_ack", on_beat_ack)


@fault("R15: an agent obeys no epoch below the highest it has persisted", epochs=2, events=0, crashes=0, commands=2)
def obeys_a_deposed_owner(plant: Plant) -> None:
    plant(agent, "stale_epoch", lambda *_: None)


@fault("R13: an epoch that the register gives twice", epochs=2, events=1, crashes=0, rollbacks=1)
def obeys_an_epoch_given_twice(plant: Plant) -> None:
    plant(ownership, "is_other", lambda *_: False)


@fault("R16: an empty disk reads the register before it grants", epochs=2, events=1, crashes=0, wipes=1)
def grants_without_having_read(plant: Plant) -> None:
    plant(lease, "grants", lambda me, _who: me.role is Role.STANDBY)


@fault(
    "R16: what an older disk has asked does not count as read",
    epochs=2,
    events=1,
    crashes=0,
    wipes=1,
    old_mail=True,
    prefix=("B reads the register", *B_TAKES_OVER),
)
def believes_answers_to_an_older_disk(plant: Plant) -> None:
    plant(ownership, "is_for", lambda *_: True)
    plant(steps, "is_asked_by_present_disk", lambda *_: True)


@fault(
    "R3: an older snapshot does not take the place of more",
    epochs=3,
    events=2,
    crashes=0,
    snapshots=2,
    prefix=(
        *JOINING_ASKED[:3],
        "A writes a record",
        "A writes a record",
        "A beats, the other hears it, and the answer comes",
    ),
)
def installs_an_older_snapshot(plant: Plant) -> None:
    plant(replication, "has_already", lambda log, one: log.has(one.index, one.index_epoch))


@fault("R3: a standby applies only what was compared", epochs=2, events=2, crashes=0, commits=True)
def applies_a_tail_of_its_own(plant: Plant) -> None:
    plant(lease, "applicable", lambda me, beat: min(beat.commit, me.log.last))


@fault("R2: nobody grants for an epoch that is over", epochs=2, events=1, crashes=1)
def grants_what_is_over(plant: Plant) -> None:
    plant(lease, "is_over", lambda *_: False)


@fault("R2: only a standby grants, and for no epoch that is over", epochs=2, events=0, crashes=0)
def claims_and_grants(plant: Plant) -> None:
    def on_beat(me: Pair, who: Any, beat: Any, now: int, _age: int = 0) -> list[Any]:
        me.last_grant_ms = now
        return [Send(BeatAck(beat.epoch, beat.sent_ms, who.store))]

    plant(lease, "on_beat", on_beat)


@fault(
    "R2: only a standby grants",
    masked_by="R2, R11: a lower epoch is over for whoever owns or claims, and a higher one makes an owner step down",
    epochs=3,
    events=1,
    crashes=0,
)
def claims_and_grants_what_is_not_over(plant: Plant) -> None:
    plant(lease, "grants", lambda *_: True)


@fault("R2: the lease counts from the send time", epochs=2, events=0, crashes=0, late_beats=True)
def lease_from_receipt(plant: Plant) -> None:
    plant(lease, "lease_end", lambda _sent, received, times: received + times.lease_ms)


def _believes_every_beginning(plant: Plant) -> None:
    plant(replication, "contradicts", lambda *_: False)


@fault(
    "R3: a standby's own snapshot covers only what was compared",
    epochs=2,
    events=2,
    crashes=0,
    commits=True,
    keeps=1,
    under=_believes_every_beginning,
)
def snapshots_a_tail_of_its_own(plant: Plant) -> None:
    plant(replication, "compared", lambda me: me.log.last if me.role is Role.STANDBY else 0)
