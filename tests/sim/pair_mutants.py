"""Planted mistakes in the running pair: each removes one rule, and some seed must notice."""

from collections.abc import Callable
from typing import Any

import actors.agent
import engine.rules.agent
from engine.base.pair import Ownership, RepAck
from engine.journal.memory import MemoryStore
from engine.journal.sqlite_store import open_sqlite_store
from engine.pair.replica import Replica
from engine.rules.pair import lease, ownership, replication
from engine.rules.pair.lease import has_missed_beats, is_silent
from engine.rules.pair.log import Edit
from engine.rules.pair.state import NOTHING, GoOn, Role, Write
from engine.runtime.supervisor import SteppedDown
from engine.simulation import sql_disk
from engine.simulation.disk import SimDisk
from engine.simulation.faults import Faults
from tests.sim.pair_runs import PAIR_DRAWN, PAIR_JOBS_ONLY
from tests.sim.runs import Plan, Report, run_seed

Patch = Callable[[Any, str, Any], None]


def _plan(kinds: dict[str, float], **more: Any) -> Plan:
    faults = Faults(seconds=40, every_ms_max=4_000, kinds=kinds)
    return Plan(faults, controllers=2, agents={"a": 1}, acts={"add": 1}, options=PAIR_JOBS_ONLY, **more)


# An owner that is paused or cut off while work goes on; and one that comes back to agents that obey another by now.
AWAY = _plan({"pause active": 3, "isolate active": 3, "cut pair": 2})
PLANS = {
    "may_always_act": AWAY,
    "any_epoch_is_obeyed": _plan({"pause active": 3, "isolate active": 2, "cut agents": 3, "reset": 2}),
    "data_is_known_by_name": _plan({"empty disk": 3, "crash active": 2, "cut pair": 1}),
    "takes_over_out_of_sync": _plan({"crash standby": 2, "crash active": 2, "cut pair": 2, "register down": 1}),
}


def _seldom(kind: str, seconds: float) -> Faults:
    return Faults(seconds=seconds, every_ms_min=12_000, every_ms_max=16_000, kinds={kind: 1})


# Each answers one kind of fault, in good weather between: what the rule promises then is looked at in the fault itself.
PLANS |= {
    "goes_alone_without_asking": _plan({"cut pair": 3, "isolate active": 3}),
    "acts_alone_before_it_knows": _plan({"isolate active": 3, "cut pair": 1}),
    "couples_out_of_solo": _plan({"crash standby": 2, "crash joining": 2, "cut pair": 2, "clog pair": 2}),
    "lease_counts_from_receipt": _plan({"clog pair": 4, "cut register": 4, "cut pair": 1}),
    "bad_beats_are_good": Plan(_seldom("hung active", 90), controllers=2),
    "deposed_by_hearsay": Plan(_seldom("false stale", 40), controllers=2),
    "damage_is_not_looked_for": _plan({"bit flip": 1}),
    "a_restored_disk_keeps_its_id": _plan({"older disk": 3, "crash active": 2}),
    "sqlite_does_not_sync": _plan({"crash active": 2, "crash standby": 1, "crash agent": 1}, sql=True),
}


def may_always_act(patch: Patch) -> None:
    """R1: nobody asks whether a lease is valid."""
    patch(Replica, "may_act", lambda _: True)


def nobody_is_waited_for(patch: Patch) -> None:
    """R4: what is durable here counts as acknowledged."""

    async def acknowledged(_self: Any, _index: int) -> None:
        pass

    patch(Replica, "acknowledged", acknowledged)


def any_epoch_is_obeyed(patch: Patch) -> None:
    """R15: an agent obeys whoever calls."""
    patch(actors.agent, "stale_epoch", lambda *_: None)
    patch(engine.rules.agent, "stale_epoch", lambda *_: None)


def acknowledged_before_the_write(patch: Patch) -> None:
    """R3: a standby acknowledges what it is about to write."""
    write = Replica._write

    async def written(self: Any, effect: Any, taken: Any) -> None:
        if isinstance(effect, Write):
            self._peer.send(RepAck(effect.log_epoch, effect.ack_index, self.who.store))
        await write(self, effect, taken)

    patch(Replica, "_write", written)


def an_old_epoch_goes_on(patch: Patch) -> None:
    """R8: an owner that was restarted goes on in the epoch it had."""
    claim_again = ownership.claim_again

    def claimed(me: Any, who: Any, now_ms: int) -> Any:
        cfg = me.cfg
        if me.role is Role.STANDBY and me.has_read and cfg.owner == who.node and cfg.has(who.member):
            me.role = Role.PENDING
            return []
        return claim_again(me, who, now_ms)

    patch(ownership, "is_mine", lambda own, who: own.owner == who.node and own.has(who.member))
    patch(ownership, "TIMERS", tuple(claimed if one is claim_again else one for one in ownership.TIMERS))


def takes_over_out_of_sync(patch: Patch) -> None:
    """R6: who lacks records takes over too."""
    take_over = ownership.take_over

    def taken(me: Any, who: Any, now_ms: int) -> Any:
        missed = has_missed_beats(me, who.times, now_ms)
        if me.role is not Role.STANDBY or me.cfg is None or me.cfg.owner != who.peer or not missed:
            return []
        return ownership._ask_if_heard(me, who, ownership._mine(me, who, (who.member,)), now_ms)

    patch(ownership, "TIMERS", tuple(taken if one is take_over else one for one in ownership.TIMERS))


def nobody_waits_for_the_lease(patch: Patch) -> None:
    """R7: who takes over begins at once, while the lease it granted may be valid."""
    patch(ownership, "has_waited", lambda *_: True)
    patch(ownership, "has_missed_beats", lambda me, times, now_ms: now_ms - me.good_beat_ms >= times.beat_ms * 1.5)


def data_is_known_by_name(patch: Patch) -> None:
    """R16: in sync is whoever has the name, whatever is on its disk."""
    patch(Ownership, "has", lambda self, member: any(one.node == member.node for one in self.insync))


def _instead(patch: Patch, timer: Any, other: Any) -> None:
    patch(ownership, "TIMERS", tuple(other if one is timer else one for one in ownership.TIMERS))


def goes_alone_without_asking(patch: Patch) -> None:
    """R5: who hears nothing goes on alone, without the register's consent."""

    def uncouple(me: Any, who: Any, now_ms: int) -> Any:
        if me.role is not Role.COUPLED or not is_silent(me, who.times, now_ms):
            return []
        me.role = Role.SOLO
        return [*replication.commit(me), GoOn(me.epoch, Role.SOLO)]

    _instead(patch, ownership.uncouple, uncouple)


def acts_alone_before_it_knows(patch: Patch) -> None:
    """R5: who has asked to go on alone does so before it has the answer."""
    asks = ownership.uncouple

    def uncouple(me: Any, who: Any, now_ms: int) -> Any:
        if me.role is Role.COUPLED and is_silent(me, who.times, now_ms):
            effects = asks(me, who, now_ms)
            me.role = Role.SOLO
            return [*effects, *replication.commit(me), GoOn(me.epoch, Role.SOLO)]
        return asks(me, who, now_ms)

    _instead(patch, asks, uncouple)


def couples_out_of_solo(patch: Patch) -> None:
    """R9: the register is asked to couple by one who is not yet bound to the other's acknowledgement."""
    asks = ownership.couple

    def couple(me: Any, who: Any, now_ms: int) -> Any:
        if me.role is not Role.SOLO or me.peer_index < me.log.last or me.peer_index == NOTHING:
            return []
        me.role, me.join_index = Role.JOINING, me.log.last
        effects = asks(me, who, now_ms)
        me.role, me.join_index, me.couple_sent = Role.SOLO, 0, False
        return effects

    timers = [one for one in ownership.TIMERS if one is not ownership.join]
    patch(ownership, "TIMERS", tuple(couple if one is asks else one for one in timers))


def lease_counts_from_receipt(patch: Patch) -> None:
    """R2: a lease begins when its grant arrives."""
    patch(lease, "lease_end", lambda _sent_ms, received_ms, times: received_ms + times.lease_ms)


def drops_what_lies_beyond(patch: Patch) -> None:
    """R3: whatever lies behind what a Rep carries is dropped."""
    patch(replication, "edit_of", lambda shape, prev, _epochs: Edit(prev if prev < shape.last else None, 0))


def acknowledges_its_own_end(patch: Patch) -> None:
    """R3: a standby acknowledges its own last index, whatever was sent."""
    patch(replication, "acknowledged_by", lambda _rep, shape: shape.last)


def bad_beats_are_good(patch: Patch) -> None:
    """R6: a beat counts whatever its sender hears."""
    patch(lease, "is_good", lambda *_: True)


def deposed_by_hearsay(patch: Patch) -> None:
    """R15: an owner steps down because somebody says that its epoch is over."""
    patch(Replica, "hear_of", lambda self, epoch: self._on_ended(SteppedDown(f"somebody obeys epoch {epoch}")))


def damage_is_not_looked_for(patch: Patch) -> None:
    """A journal is read without its hashes."""
    patch(MemoryStore, "_check", lambda *_: None)


def a_restored_disk_keeps_its_id(patch: Patch) -> None:
    """R16: a disk that was restored from a backup has the store id of the one it replaces."""
    restore = SimDisk.restore
    patch(SimDisk, "restore", lambda self, backup, _forget=(): restore(self, backup))


def sqlite_does_not_sync(patch: Patch) -> None:
    """The journal is told durable before it is."""

    async def opened(path: str, **options: Any) -> Any:
        return await open_sqlite_store(path, **options, synchronous="OFF")

    patch(sql_disk, "open_sqlite_store", opened)


PAIR_MUTANTS: dict[str, Callable[[Patch], None]] = {
    one.__name__: one
    for one in (
        may_always_act,
        nobody_is_waited_for,
        any_epoch_is_obeyed,
        acknowledged_before_the_write,
        an_old_epoch_goes_on,
        takes_over_out_of_sync,
        nobody_waits_for_the_lease,
        data_is_known_by_name,
        goes_alone_without_asking,
        acts_alone_before_it_knows,
        couples_out_of_solo,
        lease_counts_from_receipt,
        drops_what_lies_beyond,
        acknowledges_its_own_end,
        bad_beats_are_good,
        deposed_by_hearsay,
        damage_is_not_looked_for,
        a_restored_disk_keeps_its_id,
        sqlite_does_not_sync,
    )
}


def run_pair_mutant_seed(name: str, seed: int) -> Report:
    """Run a seed as the plan for a mistake has it; planting it is the caller's part."""
    return run_seed(seed, PLANS.get(name, PAIR_DRAWN))
