"""shell: a script, run by /bin/sh or the interpreter that is named. Floor 4."""

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from engine.base.codec import Value
from engine.jobs.process import ProcessJob


class ShellJob(msgspec.Struct, ProcessJob, frozen=True, array_like=True, tag="shell"):
    """Run a script. Its text is never filled in: variables reach it through `environment`."""

    keyword: ClassVar[str] = "shell"

    shell: str
    interpreter: tuple[str, ...] = ("/bin/sh", "-e")

    def argv(self, arguments: Mapping[str, Value]) -> tuple[str, ...]:
        return (*self.interpreter, "{script}")

    def script_text(self) -> str | None:
        return self.shell
