"""The standard language: every instruction, job kind and operator command that ships. Floor 5."""

from collections.abc import Iterable
from functools import cache

import engine.jobs
import engine.rules.commands
import engine.rules.instructions
from engine.base.registry import Registry, leaves_of
from engine.model.instruction import Instruction
from engine.model.job import Job
from engine.model.language import Language
from engine.rules.operator_command import OperatorCommand


@cache
def standard_language() -> Language:
    """Return the language of an engine without extensions; the leaves are looked up once in a process."""
    return make_language()


def make_language(instructions: Iterable[type[Instruction]] = (), jobs: Iterable[type[Job]] = ()) -> Language:
    """Return the standard language with further leaves; raises ValueError when two share a keyword."""
    return Language(
        Registry(Instruction, [*leaves_of(engine.rules.instructions, Instruction), *instructions]),
        Registry(Job, [*leaves_of(engine.jobs, Job), *jobs]),
        Registry(OperatorCommand, leaves_of(engine.rules.commands, OperatorCommand)),
    )
