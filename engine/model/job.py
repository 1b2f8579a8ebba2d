"""Job: what a step of kind `job` runs; the base of all job kinds, and what a subagent is told to start. Floor 2.

* A kind is a msgspec struct with this class as a mixin, in its own file in engine/jobs.
* `outlives`: a process under the guard survives the end of our own process; a callable inside it does not.
"""

import enum
from collections.abc import Mapping
from typing import ClassVar

import msgspec

from engine.base.codec import Value
from engine.base.ids import OrderId
from engine.base.limits import OUTPUT_BYTES_MAX
from engine.model.expression import Template


class Job:
    """The base of job kinds. `keyword` is the key in a workflow document that tells the kind."""

    keyword: ClassVar[str]
    outlives: ClassVar[bool]

    def templates(self) -> Mapping[str, Template]:
        """Return the texts of this kind that are evaluated for each attempt, by name; they arrive as arguments."""
        return {}


class OnLost(enum.StrEnum):
    """What follows when nobody saw how an attempt ended."""

    HOLD = "hold"
    RERUN = "rerun"
    FAIL = "fail"


class OnPartition(enum.StrEnum):
    """What becomes of an attempt whose director can not be heard."""

    CONTINUE = "continue"
    STOP = "stop"  # it holds a lease, and is ended when that runs out


class LeaseTerms(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How an attempt ends when its lease does; see engine/rules/leases.py."""

    grace_ms: int  # G: from TERM to KILL
    margin_ms: int  # K: KILL goes out so long before the lease ends


class Start(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One attempt, ready to run: everything evaluated, nothing left to decide. Spans in milliseconds."""

    key: str
    order: OrderId
    added: int
    attempt: int
    fence: int
    label: str
    job: Job
    arguments: dict[str, Value]
    environment: dict[str, str]
    directory: str | None = None
    timeout_ms: int | None = None
    kill_delay_ms: int = 5_000
    output_bytes_max: int = OUTPUT_BYTES_MAX
    begun: bool = False  # it was reported as begun: who does not know it has lost it, and must not begin it again
