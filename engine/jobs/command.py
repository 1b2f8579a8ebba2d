"""command: a program with arguments, without a shell. Floor 4."""

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from engine.base.codec import Value
from engine.jobs.process import ProcessJob, argument_text, numbered
from engine.model.expression import Template


class CommandJob(msgspec.Struct, ProcessJob, frozen=True, array_like=True, tag="command"):
    """Run a program; each argument may hold `${expressions}` and stays one argument whatever they yield."""

    keyword: ClassVar[str] = "command"

    command: tuple[Template, ...]

    def templates(self) -> Mapping[str, Template]:
        return numbered(self.command)

    def argv(self, arguments: Mapping[str, Value]) -> tuple[str, ...]:
        return tuple(argument_text(arguments[str(number)]) for number in range(len(self.command)))
