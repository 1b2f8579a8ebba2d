"""The door of the pair: one input, its effects. Floor 3.

* `boot` makes the state of a new incarnation from what the disk holds; `hear` takes a message of the peer, `on_value`
  one of the register, `tick` the time; `kept`, `written`, `appended` say what the disk has done.
* Nothing here waits, and nothing here is lost if it is forgotten: whatever is still wanted is asked again by `tick`.
"""

from engine.base.pair import (
    AnyPairMessage,
    Beat,
    BeatAck,
    InstallSnapshot,
    Ownership,
    Rep,
    RepAck,
    RepNack,
    Stale,
    Yield,
)
from engine.rules.pair import lease, ownership, replication
from engine.rules.pair.log import LogShape
from engine.rules.pair.state import Effect, Pair, Role, Setting


def boot(cfg: Ownership | None, log_epoch: int, log: LogShape, now_ms: int) -> Pair:
    """Return a new incarnation's state: a standby, that may have granted a lease just before it died."""
    granted_ms = granted_at(now_ms)
    return Pair(cfg, log_epoch, log, last_grant_ms=granted_ms, good_beat_ms=now_ms, heard_ms=now_ms, commit=log.base)


def granted_at(boot_ms: int) -> int:
    """Return when the last lease may have been granted by an incarnation nobody can ask any more: until the boot."""
    return boot_ms


def hear(me: Pair, who: Setting, message: AnyPairMessage, now_ms: int, batch_age_ms: int = 0) -> list[Effect]:
    """Take a message of the peer (a snapshot only when all its parts are there)."""
    if me.role is Role.ENDED:
        return []
    match message:
        case Beat():
            return lease.on_beat(me, who, message, now_ms, batch_age_ms)
        case BeatAck():
            return lease.on_beat_ack(me, who, message, now_ms)
        case Rep():
            return replication.on_rep(me, who, message)
        case RepAck():
            return replication.on_rep_ack(me, who, message, now_ms)
        case RepNack():
            return replication.on_rep_nack(me, who, message)
        case InstallSnapshot():
            return replication.on_snapshot(me, who, message)
        case Yield():
            return ownership.on_yield(me, who, message, now_ms)
        case Stale():
            return ownership.on_stale(me, who, message)


def tick(me: Pair, who: Setting, now_ms: int) -> list[Effect]:
    """Do what the time asks for; to be called every quarter of a beat, and after each input."""
    if me.role is Role.ENDED:
        return []
    effects: list[Effect] = []
    for timer in ownership.TIMERS:
        if ownership.waits(me, who, now_ms) and timer is not ownership.activate:
            continue  # the register has been asked; nothing is inferred before it answers or the time is over
        effects.extend(timer(me, who, now_ms))
    return effects
