"""What rule tests write workflows with."""

from collections.abc import Iterable
from typing import Any

from engine.jobs.python import PythonJob
from engine.jobs.shell import ShellJob
from engine.rules.instructions.job import Execute


def job(name: str = "a", **fields: Any) -> Execute:
    """A process: it outlives its subagent."""
    return Execute(name, ShellJob("true"), **fields)


def call(name: str = "a", **fields: Any) -> Execute:
    """A callable inside the subagent: it does not."""
    return Execute(name, PythonJob("operator:add"), **fields)


def kinds(events: Iterable[object]) -> list[str]:
    """The names of events."""
    return [type(event).__name__ for event in events]
