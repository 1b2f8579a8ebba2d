"""Forcing: what is remembered of a forced takeover until the journal tells it (R14). Floor 6.

* It is durable before the register is asked, and confirmed in the very transaction that adopts the register's answer:
  so whatever crashes in between, the activation that follows journals it, and no other does.
"""

from typing import Any, Protocol

import msgspec

from engine.base.codec import encode
from engine.base.pair import Ownership
from engine.ports import Store
from engine.rules.forced import TakenOverByForce
from engine.runtime.mailbox import Work

FORCED = "pair forced"


class Forcing(msgspec.Struct, frozen=True, array_like=True):
    """What the register was asked for, and both last records as they were known then (-1: nothing is known)."""

    asked: Ownership
    own_last: int
    peer_last: int
    has_won: bool = False


_decode = msgspec.msgpack.Decoder(Forcing).decode


class Replication(Protocol):
    """What is asked of the replica."""

    @property
    def forcing(self) -> Forcing | None: ...


class Loop(Protocol):
    """What is asked of the role's loop."""

    @property
    def state(self) -> Any: ...
    def post(self, work: Work, *, urgent: bool = False) -> None: ...


def read_forcing(store: Store) -> Forcing | None:
    """Return what the disk remembers."""
    found = store.cell(FORCED)
    return None if found is None else _decode(found)


def cells_of(forcing: Forcing) -> dict[str, bytes]:
    """Return the local cell of it."""
    return {FORCED: encode(forcing)}


def post_forced(loop: Loop, replica: Replication) -> None:
    """Let the activation that begins journal a forced takeover that is not in its journal yet.

    To be called when the role has recovered and before its loop starts: so it is decided before anything from outside.
    """
    forcing = replica.forcing
    if forcing is None or not forcing.has_won or forcing.asked.epoch <= loop.state.forced_epoch:
        return
    fact = TakenOverByForce(forcing.asked.owner, forcing.asked.epoch, forcing.own_last, forcing.peer_last)
    loop.post(Work(fact), urgent=True)
