"""Problem: a refusal as a value, with a code, its arguments and one sentence for a person. Floor 0.

* A Problem is returned, never raised, inside the rules; at the faces it becomes the exception `Refused`.
* Each kind of problem is declared once, beside the rule that returns it: `UnknownOrder = problem("UnknownOrder", "…")`.
* The sentence says what happened, where, and what to do.
"""

from collections.abc import Callable

import msgspec

Argument = str | int | float | bool | None


class Problem(msgspec.Struct, frozen=True, array_like=True, tag="Problem"):
    """A refusal: a stable code for programs, the arguments behind it, and the sentence for people."""

    code: str
    sentence: str
    arguments: dict[str, Argument] = {}

    def __str__(self) -> str:
        return self.sentence


class Refused(Exception):
    """A command was refused; `problem` says why. Raised only at the faces (library, command line, client)."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.sentence)
        self.problem = problem


class EngineClosed(Exception):
    """The node ended (a failed disk, a revoked world, a close); what was not acknowledged is not known to be kept."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the engine is closed: {reason}")
        self.reason = reason


_declared: dict[str, str] = {}


def problem(code: str, sentence: str) -> Callable[..., Problem]:
    """Declare a kind of problem; the result builds a Problem from keyword arguments named in the sentence's braces.

    A code may be declared once; a second declaration is a mistake of ours and raises ValueError.
    """
    if code in _declared:
        raise ValueError(f"problem {code} is declared twice")
    _declared[code] = sentence

    def build(**arguments: Argument) -> Problem:
        return Problem(code, sentence.format_map(arguments), dict(arguments))

    return build


def declared_problems() -> dict[str, str]:
    """Return every declared code with its sentence, in the order of declaration."""
    return dict(_declared)
