"""ProcessJob: what job kinds share that run a program under the guard. Floor 4.

* Variables reach a program by environment and argv only; nothing of an order becomes program text.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from engine.base.codec import Value
from engine.model.expression import Template
from engine.model.job import Job


class ProcessJob(Job):
    """A kind whose attempt is a process of its own."""

    outlives: ClassVar[bool] = True

    def argv(self, arguments: Mapping[str, Value]) -> tuple[str, ...]:
        """Return the program and its arguments; `{script}` stands for the path of `script_text`."""
        raise NotImplementedError

    def script_text(self) -> str | None:
        """Return the text of a script that is to lie beside the attempt, None without one."""
        return None


def argument_text(value: Value) -> str:
    """Write an evaluated argument as one word of an argv: text as it is, everything else as in templates."""
    return Template("${value}").evaluate_text({"value": value})


def numbered(templates: Sequence[Template]) -> dict[str, Template]:
    """Name the templates of a list by their place."""
    return {str(number): template for number, template in enumerate(templates)}
