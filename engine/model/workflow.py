"""Workflow: a versioned list of instructions with typed parameters. Floor 2.

* Immutable. Several versions live side by side; an order keeps the one it started with.
* Without a version of its own a workflow's version is the digest of its content, so equal texts are one version.
"""

import enum
import hashlib
from collections.abc import Iterator
from typing import NewType

import msgspec

from engine.base.codec import Value
from engine.base.ids import AgentId
from engine.model.expression import Template
from engine.model.instruction import Instruction
from engine.model.position import Block, Position, block_of

WorkflowId = NewType("WorkflowId", str)  # "name@version"

DEFAULT_AGENT = AgentId("local")


class ParameterType(enum.StrEnum):
    """What a parameter may hold. `number` takes integers too; date is YYYY-MM-DD; duration is such as 1h 30m."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    LIST = "list"
    OBJECT = "object"
    DATE = "date"
    DURATION = "duration"


class Parameter(msgspec.Struct, frozen=True, array_like=True):
    """A declared variable of an order. A final one has its default always and can not be given by the caller."""

    type: ParameterType
    required: bool = True
    default: Value = None
    final: bool = False
    description: str = ""


class Workflow(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """A workflow. `results` are evaluated when an order ends; without any, all its variables are its result."""

    name: str
    version: str
    steps: tuple[Instruction, ...]
    parameters: dict[str, Parameter] = {}
    results: dict[str, Template] = {}
    agent: AgentId = DEFAULT_AGENT
    description: str = ""

    @property
    def id(self) -> WorkflowId:
        return workflow_id(self.name, self.version)

    def block(self, key: Block) -> tuple[Instruction, ...] | None:
        """Return the steps of a block, None when there is no such block."""
        blocks: dict[Block, tuple[Instruction, ...]] | None = self.__dict__.get("_blocks")
        if blocks is None:
            blocks = self.__dict__["_blocks"] = dict(walk_blocks(self.steps))
        return blocks.get(key)

    def at(self, position: Position) -> Instruction | None:
        """Return the instruction at a position; None past the end of its block. Raises LookupError for no block."""
        steps = self.block(block_of(position))
        if steps is None:
            raise LookupError(f"workflow {self.id} has no block at {position}")
        number = position[-1]
        return steps[number] if isinstance(number, int) and number < len(steps) else None

    def instructions(self) -> Iterator[tuple[Position, Instruction]]:
        """Yield every instruction with its position, outer ones first."""
        for key, steps in walk_blocks(self.steps):
            for number, step in enumerate(steps):
                yield (*key, number), step


def walk_blocks(steps: tuple[Instruction, ...]) -> Iterator[tuple[Block, tuple[Instruction, ...]]]:
    """Yield every block with its key, without recursion (documents may nest as deep as the loader allows)."""
    pending: list[tuple[Block, tuple[Instruction, ...]]] = [((), steps)]
    while pending:
        key, block = pending.pop()
        yield key, block
        for number, step in enumerate(block):
            pending.extend(((*key, number, branch), nested) for branch, nested in step.blocks())


def workflow_id(name: str, version: str) -> WorkflowId:
    """Build a workflow's id."""
    return WorkflowId(f"{name}@{version}")


def content_version(encoded: bytes) -> str:
    """Return the version of a workflow that names none: ten hexadecimal digits of its content's digest."""
    return hashlib.blake2b(encoded, digest_size=5).hexdigest()
