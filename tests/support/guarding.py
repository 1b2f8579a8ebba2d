"""What tests of the guard share: a real clock, specs in one line, and waiting for reports instead of for time."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from engine.jobs import guard_launch
from engine.jobs.guard_host import GuardHost
from engine.ports import ProcessReport, ProcessSpec

WAIT_S_MAX = 60.0  # a bound for a broken test; nothing is measured against it


class WallClock:
    """Implements ports.Clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000


def environment(**more: str) -> dict[str, str]:
    """The least a shell needs, and the mark by which the leak check finds what is left running."""
    mark = {name: value for name, value in os.environ.items() if name == "UNDERSTUDY_TESTED_BY"}
    return {"PATH": "/usr/bin:/bin", **mark, **more}


def spec(key: str, *argv: str, **more: Any) -> ProcessSpec:
    """A spec whose folder is named like its key."""
    more.setdefault("environment", environment())
    return ProcessSpec(key, argv, folder=f"at/{key}", **more)


def shell(key: str, text: str, **more: Any) -> ProcessSpec:
    return spec(key, "/bin/sh", "-c", text, **more)


class Watch:
    """A host and all it has reported so far."""

    def __init__(self, host: GuardHost, known: Iterable[ProcessReport]) -> None:
        self.host = host
        self.all: list[ProcessReport] = list(known)

    async def until(self, *keys: str, kinds: tuple[str, ...] = ("ended", "refused", "lost")) -> list[ProcessReport]:
        """Wait for a report of one of these kinds for each key; returns the last one of each, in the order asked."""
        async with asyncio.timeout(WAIT_S_MAX):
            while True:
                found = {one.key: one for one in self.all if one.kind in kinds}
                if all(key in found for key in keys):
                    return [found[key] for key in keys]
                self.all += await self.host.reports()

    async def started(self, *keys: str) -> list[ProcessReport]:
        return await self.until(*keys, kinds=("started",))

    async def run(self, *specs: ProcessSpec) -> list[ProcessReport]:
        for one in specs:
            self.host.start(one)
        return await self.until(*(one.key for one in specs))

    def out(self, key: str, name: str = "out") -> bytes:
        return Path(self.host.path(f"at/{key}"), name).read_bytes()


async def guards_end() -> None:
    """Wait until every guard of this process has ended: one whose folder was removed goes with its last job."""
    for pid in list(guard_launch._launched):
        await gone(pid)
    guard_launch.reap()


@contextlib.asynccontextmanager
async def watching(state: Path, **options: int) -> AsyncIterator[Watch]:
    """Open a host, and let go of it at the end; when nothing is left running its guard ends too."""
    host = GuardHost(state, WallClock(), **options)
    try:
        yield Watch(host, await host.open())
    finally:
        await host.close()


def alive(pid: int) -> bool:
    """Tell whether a process lives; a zombie is dead."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {b"Z", b"X"}


async def gone(*pids: int) -> None:
    """Wait until processes that are not ours to wait for have ended."""
    async with asyncio.timeout(WAIT_S_MAX):
        for pid in pids:
            try:
                file = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            ended = asyncio.Event()
            asyncio.get_running_loop().add_reader(file, ended.set)
            try:
                await ended.wait()
            finally:
                asyncio.get_running_loop().remove_reader(file)
                os.close(file)


async def appears(path: Path, *, lines: int = 1) -> list[str]:
    """Wait until a job has written so many whole lines into a file of its own."""
    async with asyncio.timeout(WAIT_S_MAX):
        while True:
            with contextlib.suppress(FileNotFoundError):
                text = path.read_text()
                if text.count("\n") >= lines:
                    return text.splitlines()
            await asyncio.sleep(0)
