"""The writer's system calls, one by one: killed at each, EIO and ENOSPC at each; nothing acknowledged is lost.

A sample in CI, every call with `-m soak`. Tests: engine/journal/sqlite_store.py, engine/journal/sqlite_write.py
"""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.journal.crashes import acked, assert_sound, command, environment

CALLS = ("pwrite64", "fdatasync", "fsync", "ftruncate", "unlink", "openat")
UPTO = 60  # records: two snapshots, two trims, several checkpoints
SAMPLE = 4  # places of each call and each way to fail, in CI

pytestmark = pytest.mark.slow


@cache
def why_not() -> str | None:
    """Why system calls cannot be tampered with here, or None."""
    if shutil.which("strace") is None:
        return "needs strace"
    tried = subprocess.run(["strace", "-f", "-e", "inject=getppid:error=EIO", "true"], capture_output=True, check=False)
    return None if tried.returncode == 0 else "strace may not trace here"


def run(path: Path, *options: str) -> list[str]:
    traced = ["strace", "-f", "-qq", "-o", str(path) + ".trace", *options, *command(str(path), UPTO)]
    ended = subprocess.run(traced, capture_output=True, text=True, env=environment(), check=False, timeout=100)
    return ended.stdout.splitlines()


def counted(folder: Path, call: str) -> int:
    """The highest number of times that one thread makes a call on the journal's files in an undisturbed run."""
    path = folder / "counted.db"
    lines = run(path, "-P", str(path), "-P", f"{path}-wal", "-P", f"{path}-journal", "-e", f"trace={call}")
    assert lines[-1] == "closed"
    threads: dict[str, int] = {}
    for line in Path(str(path) + ".trace").read_text().splitlines():
        if re.search(rf"\b{call}\(", line):
            threads[line.split()[0]] = threads.get(line.split()[0], 0) + 1
    return max(threads.values(), default=0)


def places(total: int, sample: int) -> list[int]:
    """Evenly spread numbers of calls, the first and the last among them."""
    if total <= sample:
        return list(range(1, total + 1))
    return sorted({1 + round(step * (total - 1) / (sample - 1)) for step in range(sample)})


async def tamper(folder: Path, call: str, way: str, number: int) -> str:
    """Run with one call tampered with, and judge; returns the last line the script said."""
    path = folder / f"{call}-{number}.db"
    only = [option for suffix in ("", "-wal", "-journal") for option in ("-P", f"{path}{suffix}")]
    inject = f"inject={call}:{way}:when={number}"
    lines = run(path, *only, "-e", f"trace={call}", "-e", inject)
    if path.exists() and path.stat().st_size:
        await assert_sound(str(path), acked(lines))
    else:
        assert acked(lines) == 0
    for leftover in folder.glob(f"{call}-{number}.db*"):
        leftover.unlink()
    return lines[-1] if lines else ""


async def tamper_with_all(folder: Path, call: str, way: str, sample: int) -> list[str]:
    total = counted(folder, call)
    return [await tamper(folder, call, way, number) for number in places(total, sample)]


@pytest.fixture(autouse=True)
def needs_strace() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.parametrize("call", CALLS)
async def test_killed_at_a_system_call(ram_path: Path, call: str) -> None:
    last = await tamper_with_all(ram_path, call, "signal=KILL", SAMPLE)
    assert not [line for line in last if line.startswith("fault")]
    # Commits are grouped by time, so a run may make a call less than the counted one: the last place may not be met.
    assert last.count("closed") <= (1 if len(last) > 1 else 0), last


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
async def test_an_error_at_a_write_or_fsync(ram_path: Path, call: str, error: str) -> None:
    last = await tamper_with_all(ram_path, call, f"error={error}", SAMPLE)
    assert last
    for line in last:
        assert line.startswith("fault The disk of ") or line == "closed", line
    assert any(line.startswith("fault") for line in last)
    if (call, error) == ("pwrite64", "ENOSPC"):
        assert any(" is full; " in line for line in last)


@pytest.mark.soak
@pytest.mark.parametrize("way", ["signal=KILL", "error=EIO", "error=ENOSPC"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.timeout(3_000)
async def test_every_system_call(ram_path: Path, call: str, way: str) -> None:
    await tamper_with_all(ram_path, call, way, 10**6)
