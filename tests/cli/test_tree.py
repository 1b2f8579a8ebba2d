"""The live tree on a terminal. Tests: engine/cli/tree.py"""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from engine.cli.exits import ExitCode
from engine.cli.tree import Window
from tests.cli.shell import HELLO, environment, write

pytestmark = pytest.mark.acceptance

FORKING = """\
name: forking
steps:
  - fork_list: "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30]"
    as: number
    steps:
      - sleep: 10ms
  - job: last
    shell: exit 7
"""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def drawn(folder: Path, *arguments: str, lines: int = 24) -> tuple[int, str]:
    """Run a command on a terminal of a size and return its code and all that was written to it."""
    upper, lower = pty.openpty()
    fcntl.ioctl(lower, termios.TIOCSWINSZ, struct.pack("HHHH", lines, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", *arguments],
        cwd=folder,
        env={**environment(), "TERM": "xterm-256color", "LINES": "50", "COLUMNS": "200"},  # of another window
        stdin=lower,
        stdout=lower,
        stderr=lower,
    )
    os.close(lower)
    written = b""
    try:
        while piece := os.read(upper, 65_536):
            written += piece
    except OSError:  # the other side is closed
        pass
    os.close(upper)
    return process.wait(), written.decode()


def test_a_run_is_drawn_and_what_remains_is_the_whole_tree(tmp_path: Path) -> None:
    write(tmp_path, HELLO)
    code, written = drawn(tmp_path, "run", "workflow.yaml", "--id", "h-1")
    assert code == ExitCode.FINISHED
    assert "\x1b[" in written
    last = ESCAPES.sub("", written).replace("\r", "").splitlines()
    text = "\n".join(last[-5:])
    assert re.search(r"✓ h-1 +finished +\d", text)
    assert re.search(r"  ✓ greet +succeeded +\d", text)
    assert "Order h-1 finished after" in text
    assert "greeting = hello world" in text


def test_it_never_grows_over_the_window_while_it_lives(tmp_path: Path) -> None:
    write(tmp_path, FORKING)
    code, written = drawn(tmp_path, "run", "workflow.yaml", lines=12)
    assert code == ExitCode.FAILED
    frames = written.split("\x1b[2K")
    assert len(frames) > 3
    climbs = [len(found) for found in re.findall(r"((?:\x1b\[1A\x1b\[2K)+)", written)]
    assert all(length // len("\x1b[1A\x1b[2K") <= 12 for length in climbs)
    assert "return code 7" in written


def test_without_a_terminal_a_size_is_assumed() -> None:
    console = Window(file=io.StringIO(), width=70, height=20)
    assert console.size == (70, 20)


def test_without_a_terminal_nothing_is_drawn(tmp_path: Path) -> None:
    write(tmp_path, HELLO)
    argv = [sys.executable, "-m", "engine", "run", "workflow.yaml"]
    done = subprocess.run(
        argv, cwd=tmp_path, env={**environment(), "TERM": "xterm"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == ExitCode.FINISHED
    assert "\x1b" not in done.stdout + done.stderr
