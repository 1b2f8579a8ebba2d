"""Commands: requests that may be refused. Floor 2.

* `Command` is the plain base of operator commands; each is a leaf in engine/rules/commands.
* What nodes ask of each other is here, as a closed set: it is protocol.
"""

from typing import ClassVar

import msgspec

from engine.base.codec import Value
from engine.base.ids import OrderId
from engine.model.item import AnyItem
from engine.model.job import LeaseTerms, OnLost, Start
from engine.model.order import Mark, Order
from engine.model.outcome import Outcome
from engine.model.workflow import Workflow


class Command:
    """The base of operator commands: `keyword` names it on the wire, `right` is what the caller must hold."""

    keyword: ClassVar[str]
    right: ClassVar[str]


class NodeCommand(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """What one node asks of another, down a link."""


# --- controller → agent -----------------------------------------------------------------------------------------------


class AttachWorkflow(NodeCommand, frozen=True):
    """Know this workflow; sent before the first order of it in a session."""

    workflow: Workflow


class AttachItems(NodeCommand, frozen=True):
    """These are all your subagents and bundles now."""

    items: tuple[AnyItem, ...]


class AttachOrder(NodeCommand, frozen=True):
    """Run this order from here on."""

    order: Order


class MarkOrder(NodeCommand, frozen=True):
    """A person asked to suspend, cancel, kill or resume this order and its branches."""

    order: OrderId
    mark: Mark


class ReleaseHeld(NodeCommand, frozen=True):
    """A person decided what follows this lost attempt."""

    order: OrderId
    attempt: int
    choice: OnLost


# --- agent (director) → subagent --------------------------------------------------------------------------------------


class StartAttempt(NodeCommand, frozen=True):
    """Run this attempt, unless it was begun before."""

    start: Start


class OfferAttempt(NodeCommand, frozen=True):
    """Claim this attempt when you are asked for renewals, and begin it once a lease is granted.

    A command of its own: a subagent of a version without leases refuses it, where it would begin a plain start.
    """

    start: Start
    terms: LeaseTerms


class KillAttempt(NodeCommand, frozen=True):
    """End this attempt: TERM, then KILL after its delay."""

    key: str


class AskRenewals(NodeCommand, frozen=True):
    """Which of these leased attempts do you run or claim? A query, answered by Renewals."""

    keys: tuple[str, ...]


class Renewals(NodeCommand, frozen=True):
    """These I run or claim, and ask leases for; `asked_ms` is my monotonic clock before I said so."""

    asked_ms: int
    keys: tuple[str, ...]


class GrantLeases(NodeCommand, frozen=True):
    """Leases for these, `span_ms` from `asked_ms` of your clock on; sent outside of the streams, so it may be lost."""

    asked_ms: int
    span_ms: int
    keys: tuple[str, ...]


OrderCommand = MarkOrder | ReleaseHeld
ToAgent = AttachWorkflow | AttachItems | AttachOrder | MarkOrder | ReleaseHeld
ToSubagent = StartAttempt | OfferAttempt | KillAttempt


# --- subagent → agent: reports, the records of a subagent's outbox ----------------------------------------------------


class Report(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """What a subagent tells of one attempt; idempotent by order, `added` and attempt."""

    order: OrderId
    added: int
    attempt: int
    at_ms: int


class ReportStarted(Report, frozen=True):
    """Its process was seen to run."""

    pid: int


class ReportEnded(Report, frozen=True):
    """It ended, was refused, or is known to be lost."""

    outcome: Outcome
    started_ms: int
    results: dict[str, Value]
    out_bytes: int = 0
    err_bytes: int = 0


AnyReport = ReportStarted | ReportEnded
