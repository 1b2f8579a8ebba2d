"""Language: which instructions, job kinds and commands an engine knows, and the codecs that follow from it. Floor 2.

* A value, not a global: two engines in one process may speak different languages.
* Encoded leaves are arrays that begin with their keyword; expressions are their source text.
"""

from typing import Any

import msgspec

from engine.base.registry import Registry
from engine.model.command import Command, ToAgent, ToSubagent
from engine.model.event import AnyEvent
from engine.model.expression import Expression, ExpressionError, Template
from engine.model.instruction import Instruction
from engine.model.job import Job
from engine.model.workflow import Workflow, content_version

# What decoding raises for bytes that are no message of this language.
UNREADABLE = (msgspec.MsgspecError, ExpressionError, ValueError, RecursionError)


class Language:
    """The registries of one engine with their encoder and decoders."""

    def __init__(self, instructions: Registry[Instruction], jobs: Registry[Job], commands: Registry[Command]) -> None:
        self.instructions = instructions
        self.jobs = jobs
        self.commands = commands
        self.encode = encode_leaves
        self.decode_event = self.decoder(AnyEvent).decode
        self.decode_events = self.decoder(list[AnyEvent]).decode
        self.decode_command = self.decoder(Command).decode
        self.decode_to_agent = self.decoder(ToAgent).decode
        self.decode_to_subagent = self.decoder(ToSubagent).decode

    def decoder(self, shape: Any) -> msgspec.msgpack.Decoder[Any]:
        """Return a MessagePack decoder of a type that may hold leaves of this language."""
        return msgspec.msgpack.Decoder(shape, dec_hook=self.decode_leaf)

    def decode_leaf(self, shape: type, raw: Any) -> Any:
        """Turn a decoded raw value into a leaf or an expression; msgspec's dec_hook."""
        if shape is Expression or shape is Template:
            if not isinstance(raw, str):
                raise msgspec.ValidationError("expected the text of an expression")
            return shape(raw)
        if shape is Instruction:
            return self.instructions.decode(raw, self.decode_leaf)
        if shape is Job:
            return self.jobs.decode(raw, self.decode_leaf)
        if shape is Command:
            return self.commands.decode(raw, self.decode_leaf)
        raise msgspec.ValidationError(f"no decoder for {shape.__name__}")

    def versioned(self, workflow: Workflow) -> Workflow:
        """Return the workflow with its content's digest as version if it has none."""
        if workflow.version:
            return workflow
        return msgspec.structs.replace(workflow, version=content_version(self.encode(workflow)))


def _encode_leaf(value: Any) -> str:
    if isinstance(value, Expression | Template):
        return value.source
    raise NotImplementedError(f"a {type(value).__name__} cannot be encoded")


encode_leaves = msgspec.msgpack.Encoder(enc_hook=_encode_leaf).encode  # the same in every language: a leaf knows itself
