"""Outcome: how an attempt or an order ended. Floor 2.

* `unknown` is an outcome of its own: we could not see how the process ended, and never guess.
"""

import enum

import msgspec

from engine.base.limits import MESSAGE_LENGTH_MAX


class OutcomeKind(enum.StrEnum):
    """The ways in which something ends."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    KILLED = "killed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The kind, a process's return code where there was one (negative: the signal), and a sentence."""

    kind: OutcomeKind
    return_code: int | None = None
    message: str = ""

    @property
    def is_success(self) -> bool:
        return self.kind is OutcomeKind.SUCCEEDED

    def __str__(self) -> str:
        code = "" if self.return_code is None else f" with return code {self.return_code}"
        return f"{self.kind.replace('_', ' ')}{code}{': ' if self.message else ''}{self.message}"


SUCCEEDED = Outcome(OutcomeKind.SUCCEEDED)
CANCELLED = Outcome(OutcomeKind.CANCELLED)


def failed(message: str, return_code: int | None = None) -> Outcome:
    """Build a failure; the sentence is cut at MESSAGE_LENGTH_MAX characters."""
    return Outcome(OutcomeKind.FAILED, return_code, cut(message))


def unknown(message: str) -> Outcome:
    """Build the outcome of something whose end nobody saw."""
    return Outcome(OutcomeKind.UNKNOWN, None, cut(message))


def cut(message: str) -> str:
    """Bound a sentence, visibly."""
    return message if len(message) <= MESSAGE_LENGTH_MAX else f"{message[: MESSAGE_LENGTH_MAX - 1]}…"
