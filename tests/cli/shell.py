"""`python -m engine` as a shell would call it, and workflows for it."""

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Self

ROOT = Path(__file__).resolve().parents[2]

HELLO = """\
name: hello
parameters:
  who: {type: string, default: world}
steps:
  - job: greet
    shell: echo "greeting=hello $WHO" > "$UNDERSTUDY_RESULT"
    environment: {WHO: "${who}"}
results:
  greeting: ${greeting}
"""

# Its second step waits until a file is there, so that a test decides how long it runs.
GATED = """\
name: gated
parameters:
  gate: string
steps:
  - job: first
    shell: echo 1 >> "$GATE.first"
    environment: {GATE: "${gate}"}
  - job: second
    shell: |
      echo 1 >> "$GATE.second"
      while [ ! -e "$GATE" ]; do sleep 0.02; done
    environment: {GATE: "${gate}"}
  - job: third
    shell: echo 1 >> "$GATE.third"
    environment: {GATE: "${gate}"}
"""


def environment() -> dict[str, str]:
    """Return the environment of a command: this clone, no settings of the person's own."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb"}


def engine(*arguments: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    argv = [sys.executable, "-m", "engine", *map(str, arguments)]
    return subprocess.run(argv, cwd=cwd, env=environment(), capture_output=True, text=True, check=False, timeout=100)


class Running:
    """A command that runs; ended at the end of the block, whatever happened."""

    def __init__(self, *arguments: str | Path, cwd: Path) -> None:
        argv = [sys.executable, "-m", "engine", *map(str, arguments)]
        self._err = (cwd / "stderr.txt").open("w+")
        self.process = subprocess.Popen(
            argv, cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=self._err, text=True
        )
        self.lines: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.out.close()
        self._err.close()

    @property
    def out(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def until(self, *words: str) -> str:
        """Read lines until one holds all the words."""
        for line in self.out:
            self.lines.append(line)
            if all(word in line for word in words):
                return line
        raise AssertionError(f"no line with {words} in {''.join(self.lines)}\n{self.err()}")

    def signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        self.process.send_signal(number)

    def ended(self) -> int:
        """Read to the end and return the exit code."""
        self.lines.extend(self.out)
        return self.process.wait(100)

    def err(self) -> str:
        """Return what was written to standard error."""
        self._err.seek(0)
        return self._err.read()


def write(folder: Path, text: str, name: str = "workflow.yaml") -> Path:
    """Write a workflow document."""
    path = folder / name
    path.write_text(text)
    return path
