"""Power cuts, made from one traced run: every file as it could be on disk after any number of system calls.

* A write is in the page cache until an fsync of its file has returned; a cut loses any part of what is not synced: each
  write wholly, from some sector on, or not at all, in any combination.
* Making and removing a file counts at once, as on a journaling file system.
* Lines written to stdout stand in the same order of calls, so that it is known what had been acknowledged.
"""

import os
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from engine.simulation.sql_files import Change, SimFile
from tests.journal.crashes import command, environment

TRACED = "openat,close,write,pwrite64,ftruncate,fsync,fdatasync,unlink"

_LINE = re.compile(r"(\d+)\s+(.*)")
_CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")


class Call(NamedTuple):
    """A system call that has returned."""

    name: str
    arguments: str
    result: int


class Disk:
    """All files of the journal after the calls seen so far, and the highest index acknowledged."""

    def __init__(self) -> None:
        self.files: dict[str, SimFile] = {}
        self.open: dict[int, str] = {}
        self.acked = 0

    def see(self, call: Call) -> bool:
        """Follow one call; tells whether a power cut behind it could look different from one before it."""
        if call.result < 0:
            return False
        if call.name == "openat":
            name = text(call.arguments).decode()
            if ".db" in name and not name.endswith("-shm"):
                self.open[call.result] = os.path.basename(name)
                self.files.setdefault(os.path.basename(name), SimFile())
            else:
                self.open.pop(call.result, None)
            return False
        if call.name == "unlink":
            self.files.pop(os.path.basename(text(call.arguments).decode()), None)
            return True
        number = int(call.arguments.split(",")[0])
        if call.name == "write" and number == 1:
            if match := re.match(rb"acked (\d+)\n", text(call.arguments)):
                self.acked = int(match[1])
            return match is not None
        if call.name == "close":
            self.open.pop(number, None)
            return False
        return number in self.open and self._change(self.files.get(self.open[number]), call)

    def _change(self, file: SimFile | None, call: Call) -> bool:
        if file is None:  # removed while it was open
            return False
        if call.name in {"fsync", "fdatasync"}:
            file.sync()
        elif call.name == "ftruncate":
            file.pending.append(Change(int(call.arguments.split(",")[1]), None))
        elif call.name == "pwrite64":
            file.pending.append(Change(int(call.arguments.rsplit(",", 1)[1]), text(call.arguments)[: call.result]))
        return True

    def cut(self, folder: Path, draw: random.Random) -> None:
        """Lay out the files as they may be after a power cut now."""
        for name, file in self.files.items():
            (folder / name).write_bytes(file.after_cut(draw)[0])


def text(arguments: str) -> bytes:
    """The first string among the arguments; strace was told to write every byte as \\xNN."""
    start = arguments.index('"') + 1
    return bytes.fromhex(arguments[start : arguments.index('"', start)].replace("\\x", ""))


def trace(folder: Path, upto: int, synchronous: str = "FULL") -> list[Call]:
    """Run append_script.py once and return all its calls that matter, in the order in which they returned."""
    path = folder / "traced.db"
    log = folder / "calls"
    options = ["-f", "-qq", "-xx", "-s", "1000000", "-o", str(log), "-e", f"trace={TRACED}"]
    subprocess.run(
        ["strace", *options, *command(str(path), upto, synchronous)],
        env=environment(),
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=100,
    )
    with open(log, encoding="ascii") as lines:
        return list(parse(lines))


def parse(lines: Iterator[str]) -> Iterator[Call]:
    """Join calls that were interrupted by another thread's, and drop everything else."""
    begun: dict[str, str] = {}
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        thread, rest = match[1], match[2]
        if rest.endswith("<unfinished ...>"):
            begun[thread] = rest.removesuffix("<unfinished ...>").rstrip()
            continue
        if resumed := _RESUMED.match(rest):
            rest = begun.pop(thread) + resumed[1]
        if call := _CALL.match(rest):
            yield Call(call[1], call[2], int(call[3]))
