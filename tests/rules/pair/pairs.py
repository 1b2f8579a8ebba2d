"""Nodes in the states that the tests of the pair's rules begin with."""

from typing import TypeVar

from engine.base.pair import Member, Ownership
from engine.rules.pair.log import LogShape
from engine.rules.pair.state import Effect, Pair, Role, Setting
from engine.rules.pair.times import Times

TIMES = Times()
A = Setting("c", "A", "B", "a0", 1, TIMES)
B = Setting("c", "B", "A", "b0", 1, TIMES)
BOTH = (Member("A", "a0"), Member("B", "b0"))
NOW = 100_000

E1 = Ownership("c", 1, "A", BOTH, 1)

One = TypeVar("One", bound=Effect)


def log_of(*epochs: int) -> LogShape:
    return LogShape().appended(epochs)


def owner(role: Role = Role.COUPLED, *epochs: int, cfg: Ownership = E1) -> Pair:
    """Return A, that heard its peer just now and whose lease began just now."""
    if role in (Role.SOLO, Role.JOINING) and cfg is E1:
        cfg = Ownership("c", 1, "A", BOTH[:1], 1)
    return Pair(
        cfg=cfg,
        log_epoch=cfg.epoch,
        log=log_of(*epochs),
        role=role,
        lease_ms=NOW + TIMES.lease_ms,
        heard_ms=NOW,
        answered_ms=NOW,
        peer_store="b0",
        peer_index=0,
        has_read=True,
    )


def standby(*epochs: int, cfg: Ownership | None = E1, log_epoch: int = 1) -> Pair:
    """Return B, that heard a good beat just now."""
    return Pair(
        cfg=cfg,
        log_epoch=log_epoch,
        log=log_of(*epochs),
        good_beat_ms=NOW,
        last_grant_ms=NOW,
        answered_ms=NOW,
        has_read=cfg is not None,
    )


def only(effects: list[Effect], kind: type[One]) -> One:
    """Return the single effect, that is of this kind."""
    assert len(effects) == 1, effects
    assert isinstance(effects[0], kind), effects
    return effects[0]
