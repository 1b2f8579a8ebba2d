"""Planted mistakes in the running pair: each removes one rule, and some seed must notice."""

from collections.abc import Callable
from typing import Any

import actors.agent
import engine.rules.agent
from engine.base.pair import Ownership, RepAck
from engine.pair.replica import Replica
from engine.rules.pair import ownership
from engine.rules.pair.lease import has_missed_beats
from engine.rules.pair.state import Role, Write
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
    )
}


def run_pair_mutant_seed(name: str, seed: int) -> Report:
    """Run a seed as the plan for a mistake has it; planting it is the caller's part."""
    return run_seed(seed, PLANS.get(name, PAIR_DRAWN))
