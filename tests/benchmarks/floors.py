"""The machine's own rates and the bare loop: what everything else is divided by.

* fdatasync of a small write; SQLite commits of one row with synchronous=FULL; spawn and wait of /bin/true (guard.py).
* The bare loop: asyncio and SQLite without actors. Submission, step and completion of each order are made durable,
  with group commit; what waits for the disk goes in one transaction.
"""

import asyncio
import os
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiosqlite

from engine.base.tasks import TaskScope
from tests.benchmarks.guard import by_asyncio, by_popen, by_posix_spawn
from tests.benchmarks.measure import Bench, Stopwatch, Stuck, bounded, rate_of

ROW = bytes(200)
SPAWNS = {"posix_spawn + wait": by_posix_spawn, "Popen + wait": by_popen, "asyncio spawn + wait": by_asyncio}


def measure_disk(bench: Bench) -> None:
    """Measure fdatasync/s and SQLite commits/s."""
    bench.progress.say("the disk's own rates")
    folder = bench.folder("disk")
    bench.put("fdatasync/s", fdatasyncs(folder, bench.plan.floor_s))
    bench.put("SQLite FULL commits/s", commits(folder, bench.plan.floor_s))


def fdatasyncs(folder: Path, span_s: float) -> float:
    """Append 200 bytes and fdatasync, again and again."""
    file = os.open(folder / "plain", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def act() -> None:
        os.write(file, ROW)
        os.fdatasync(file)

    try:
        return rate_of(act, span_s)
    finally:
        os.close(file)


def commits(folder: Path, span_s: float) -> float:
    """Insert one row and commit, again and again."""
    connection = connect(folder / "rows.db")

    def act() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO record (body) VALUES (?)", (ROW,))
        connection.execute("COMMIT")

    try:
        return rate_of(act, span_s)
    finally:
        connection.close()


def connect(path: Path) -> sqlite3.Connection:
    """Open a database as durable as ours."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE record (number INTEGER PRIMARY KEY, body BLOB)")
    return connection


class Disk:
    """Rows made durable for many callers at once."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._news = asyncio.Event()

    async def keep(self) -> None:
        """Return when one more row is durable."""
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(kept)
        self._news.set()
        await kept

    async def write(self) -> None:
        """Write whatever waits, for ever."""
        connection: Any = self._connection
        while True:
            while not self._waiting:
                self._news.clear()
                await self._news.wait()
            group, self._waiting = self._waiting, deque()
            await connection._execute(_commit, connection._conn, len(group))
            for kept in group:
                if not kept.done():
                    kept.set_result(None)


def _commit(connection: sqlite3.Connection, count: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO record (body) VALUES (?)", [(ROW,)] * count)
    connection.execute("COMMIT")


Body = Callable[[Disk], Awaitable[None]]


async def bare_rate(bench: Bench, body: Body, count: int, in_flight: int) -> float:
    """Return how many bodies a second the bare loop gets through."""
    path = bench.folder("bare") / "rows.db"
    failures: list[BaseException] = []
    async with aiosqlite.Connection(lambda: connect(path), iter_chunk_size=64) as connection:
        disk = Disk(connection)
        scope = TaskScope("bare loop", failures.append)
        scope.start(disk.write(), "writer")
        try:
            async with bounded("the bare loop"):
                watch = Stopwatch()
                await spread(body, disk, count, in_flight)
                wall_s, _ = watch.read()
        finally:
            await scope.close()
    if failures:
        raise Stuck(f"the bare loop failed: {failures[0]}")
    return count / wall_s


async def spread(body: Body, disk: Disk, count: int, in_flight: int) -> None:
    """Run `count` bodies, so many at once."""
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            await body(disk)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(in_flight, count)):
            group.create_task(worker())


async def noop() -> None:
    """The job of all orders that are measured."""


async def one_step(disk: Disk) -> None:
    """Submission, step, completion."""
    await disk.keep()
    await noop()
    await disk.keep()
    await disk.keep()


async def three_steps(disk: Disk) -> None:
    """Submission, three steps, completion."""
    await disk.keep()
    for _ in range(3):
        await noop()
        await disk.keep()
    await disk.keep()


def fork_of(branches: int) -> Body:
    """Submission, a step in each branch, completion."""

    async def branch(disk: Disk) -> None:
        await noop()
        await disk.keep()

    async def fork(disk: Disk) -> None:
        await disk.keep()
        async with asyncio.TaskGroup() as group:
            for _ in range(branches):
                group.create_task(branch(disk))
        await disk.keep()

    return fork


def measure_bare(bench: Bench, shape: str) -> None:
    """Measure the bare loop on `one`, `chain` or `fork` (branches/s)."""
    plan = bench.plan
    bench.progress.say(f"the bare loop: {shape}")
    if shape == "one":
        rate = asyncio.run(bare_rate(bench, one_step, plan.orders, plan.in_flight))
    elif shape == "chain":
        rate = asyncio.run(bare_rate(bench, three_steps, plan.chains, plan.in_flight))
    else:
        body = fork_of(plan.branches)
        rate = plan.branches * asyncio.run(bare_rate(bench, body, plan.forks, plan.forks_in_flight))
    bench.put(f"bare loop, {shape}", rate)


# --- processes --------------------------------------------------------------------------------------------------------


def measure_spawns(bench: Bench) -> None:
    """Measure spawn and wait of /bin/true in bare ways, two at once for each processor."""
    for name, way in SPAWNS.items():
        bench.progress.say(name)
        count = bench.plan.processes
        watch = Stopwatch()
        way(count, 2 * (os.cpu_count() or 1), bench.place)
        bench.put(name, count / watch.read()[0])
