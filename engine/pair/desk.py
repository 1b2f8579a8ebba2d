"""Desk: what a person asks a node of a pair, answered in every state. Floor 6.

* A status is made at once from what is known; it also has the register asked, so that the next one is fresh.
* A switch-over and a forced takeover are bounded in time, one at a time; a refusal says what is in the way.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import msgspec

from engine.base.codec import DecodeError, encode
from engine.base.pair_query import (
    PAIR_QUERY_BYTES_MAX,
    AnyPairQuery,
    ForceTakeOver,
    GetPairStatus,
    PairDone,
    PairStatus,
    SwitchOver,
    decode_pair_query,
)
from engine.base.problem import EngineClosed, Problem, problem
from engine.base.tasks import TaskScope
from engine.base.wire import Raw
from engine.pair.forcing import Forcing
from engine.pair.replica import Replica
from engine.rules.pair.state import Role
from engine.runtime.reception import Respond
from engine.runtime.session import Session

OPEN_MAX = 64  # questions under way, of everybody together

PairQueryUnreadable = problem("PairQueryUnreadable", "The question about the pair can not be read: {fault}.")
PairBusy = problem("PairBusy", "There are {count} questions about this pair under way; ask again.")
NotTheOwner = problem("NotTheOwner", "{node} does not own the pair ({state}); ask {owner}, the owner of epoch {epoch}.")
NotHandedOver = problem("NotHandedOver", "{node} can not hand over, because it is {state}: {why}.")
ForceRefused = problem("ForceRefused", "{node} was not forced to take over: {why}.")

NOT_YET = {
    "solo": "the other node lacks something, and who takes over would lack it; bring it back and wait for coupled",
    "joining": "the other node has nearly everything; ask again when it is coupled",
    "fenced": "it hears no standby; bring the other node, or the path to it, back",
    "pending": "it has just become the owner; ask again when it is coupled",
    "yielded": "it is handing over already",
    "ended": "it is about to start again",
}


class Asked(Protocol):
    """The node, as far as the desk goes."""

    @property
    def replica(self) -> Replica: ...
    @property
    def is_connected(self) -> bool: ...
    def status(self) -> PairStatus: ...
    async def switch_over(self) -> Problem | None: ...


class Desk:
    """Answers what comes to the pair's own address from people."""

    def __init__(self, node: Asked, on_failure: Callable[[BaseException], None]) -> None:
        self._node = node
        self._scope = TaskScope("desk of a pair", on_failure)

    async def close(self) -> None:
        """Answer nothing any more; safe to call twice."""
        await self._scope.close()

    def ask(self, session: Session, number: int, raw: Raw, answer: Respond) -> None:
        """Take a question; one that changes something is answered when that is done, or not."""
        fault, query = _read(raw)
        if query is None:
            answer(encode(PairQueryUnreadable(fault=fault)))
        elif isinstance(query, GetPairStatus):
            self._node.replica.look()
            answer(encode(self._node.status()))
        elif len(self._scope) >= OPEN_MAX:
            answer(encode(PairBusy(count=len(self._scope))))
        else:
            self._scope.start(self._carry_out(query, answer), f"question {number} of {session.node}")

    async def _carry_out(self, query: SwitchOver | ForceTakeOver, answer: Respond) -> None:
        try:
            found = await (self._switch_over() if isinstance(query, SwitchOver) else self._force(query))
        except EngineClosed:
            return  # our World is gone
        answer(encode(found))

    async def _switch_over(self) -> PairDone | Problem:
        me, who = self._node.replica.me, self._node.replica.who
        refused = switch_over_fault(self._node.replica)
        refused = refused or await self._node.switch_over()
        if refused is not None:
            return refused
        return PairDone(
            f"{who.node} has come to a stop in epoch {me.epoch} and offers the pair to {who.peer}. See the status of"
            f" {who.peer}: it is coupled about a second from now. If it does not take the pair, {who.node} goes on."
        )

    async def _force(self, query: ForceTakeOver) -> PairDone | Problem:
        replica = self._node.replica
        why = force_fault(replica, self._node.is_connected, peer_is_off=query.peer_is_off)
        if why or not await replica.force_take_over():
            why = why or "it is busy with the register or its disk; ask again"
            return ForceRefused(node=replica.who.node, why=why)
        asked = await self._forced()
        if asked is None:
            said = f"the register has not given it the pair. {replica.register.sentence}".rstrip()
            why = f"{said} See its status before you ask again"
            return ForceRefused(node=replica.who.node, why=why)
        return PairDone(
            f"The register has given epoch {asked.asked.epoch} to {replica.who.node} alone. Its journal ends at"
            f" record {asked.own_last}; {_known(asked.peer_last, replica.who.peer)}. See its status: it acts"
            f" {replica.who.times.wait_ms / 1_000:g} s from now at most. Keep {replica.who.peer} off until its folder"
            " was moved away."
        )

    async def _forced(self) -> Forcing | None:
        """Return what the register has agreed to; None when no answer came while one may come."""
        replica = self._node.replica
        with suppress(TimeoutError):
            async with asyncio.timeout(replica.who.times.takeover_ms / 1_000):
                while replica.forcing is None or not replica.forcing.has_won:
                    await replica.change()
        return replica.forcing if replica.forcing is not None and replica.forcing.has_won else None


def switch_over_fault(replica: Replica) -> Problem | None:
    """Say why this node can not hand over; None when it can."""
    me, who, state = replica.me, replica.who, replica.status
    owner = "" if me.cfg is None else me.cfg.owner
    if me.role is Role.STANDBY:
        if not owner:
            owner = "nobody yet: the register has not said who"
        return NotTheOwner(node=who.node, state=state, owner=owner, epoch=me.epoch)
    if state != Role.COUPLED:
        return NotHandedOver(node=who.node, state=state, why=NOT_YET[state])
    return None


def force_fault(replica: Replica, is_connected: bool, *, peer_is_off: bool) -> str:
    """Say why this node must not be forced; an empty text when it may."""
    me, who = replica.me, replica.who
    if me.role is not Role.STANDBY:
        return f"it is {replica.status}, so it owns the pair already"
    if is_connected:
        return f"{who.peer} is connected right now, so it is not off"
    if me.cfg is None:
        return "it knows no value of the register; create or seed one there"
    if me.register_lost:
        return "the register has lost its state; seed it, with this node as the owner"
    if me.cfg.has(who.member):
        return "its data is complete, so it takes over by itself as soon as the register answers"
    if not peer_is_off:
        return f"say that {who.peer} is off, once you have seen that it is: nothing else keeps both from acting"
    return ""


def _known(peer_last: int, peer: str) -> str:
    if peer_last < 0:
        return f"of the journal of {peer} nothing is known"
    return f"{peer} had {peer_last} at least"


def _read(raw: Raw) -> tuple[str, AnyPairQuery | None]:
    length = len(memoryview(raw))
    if length > PAIR_QUERY_BYTES_MAX:
        return f"it has {length} bytes, {PAIR_QUERY_BYTES_MAX} is the most", None
    try:
        return "", decode_pair_query(raw)
    except (DecodeError, msgspec.MsgspecError, RecursionError, ValueError) as error:
        return str(error), None
