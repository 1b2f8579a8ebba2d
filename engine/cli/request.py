"""Request: what a person asked of `run`. Floor 11."""

import shlex
from pathlib import Path

import msgspec

DEFAULT_STATE = ".understudy"


class Request(msgspec.Struct, frozen=True):
    """The arguments of `run`; `program` is how the command line was called."""

    file: Path
    state: Path = Path(DEFAULT_STATE)
    words: tuple[str, ...] = ()  # of -p
    new: bool = False
    release: str | None = None
    order: str | None = None
    program: str = "python -m engine"

    def again(self, *options: str) -> str:
        """Return the command that goes on with the same order, with further options."""
        state = () if str(self.state) == DEFAULT_STATE else ("--state", str(self.state))
        order = () if self.order is None else ("--id", self.order)
        return f"{self.program} run {shlex.join([str(self.file), *state, *order, *options])}"
