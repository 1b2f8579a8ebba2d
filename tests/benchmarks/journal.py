"""Measures the journal beside the floor of bare sqlite3, in alternating rounds of one run; prints a table, or JSON.

Usage: python tests/benchmarks/journal.py [--seconds S] [--rounds N] [--records N] [--folder PATH] [--json PATH]
Figures mean nothing by themselves: compare them with the floor's of the same run. Durability is always on, except for
filling the journal that is replayed.
"""

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

from engine.base.ids import START, Cursor
from engine.journal.feed import Feed
from engine.journal.memory import MemoryStore
from engine.journal.record import EMPTY_TIP, link
from engine.journal.sqlite_store import SqliteStore, open_sqlite_store
from engine.ports import Entry

EVENTS = b"\x91" + b"e" * 179  # 180 bytes, about one small event
SIZES = (1, 10, 100, 1_000)
CALLERS = (16, 64, 256)

Figures = dict[str, dict[str, float]]


def entries(first: int, count: int) -> list[Entry]:
    return [Entry(index, 1, EVENTS) for index in range(first, first + count)]


class Metered:
    """An awaited coroutine, and the time it spends running (not waiting)."""

    def __init__(self, coroutine: Any) -> None:
        self.coroutine = coroutine
        self.seconds = 0.0

    def __await__(self) -> Generator[Any, None, Any]:
        while True:
            start = time.perf_counter()
            try:
                waited_for = self.coroutine.send(None)
            except StopIteration as end:
                self.seconds += time.perf_counter() - start
                return end.value
            self.seconds += time.perf_counter() - start
            yield waited_for


def fsyncs(folder: str, seconds: float) -> float:
    """How many fdatasync a second a file bears that grows by 4 KiB each time."""
    path = os.path.join(folder, "fsync")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        os.pwrite(descriptor, bytes(4_096), count * 4_096)
        os.fdatasync(descriptor)
        count += 1
    rate = count / (time.perf_counter() - start)
    os.close(descriptor)
    os.unlink(path)
    return rate


def floor(folder: str, size: int, seconds: float) -> float:
    """Rows a second of bare sqlite3: one executemany, one commit, no thread, no hash."""
    path = os.path.join(folder, "floor.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS r (n INTEGER PRIMARY KEY, e INT, v BLOB, m BLOB, h BLOB)")
        (first,) = connection.execute("SELECT coalesce(max(n), 0) + 1 FROM r").fetchone()
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            connection.execute("BEGIN IMMEDIATE")
            rows = [(index, 1, EVENTS, b"", bytes(16)) for index in range(first + count, first + count + size)]
            connection.executemany("INSERT INTO r VALUES (?, ?, ?, ?, ?)", rows)
            connection.execute("COMMIT")
            count += size
        return count / (time.perf_counter() - start)


async def appended(store: SqliteStore, size: int, seconds: float) -> tuple[float, float, float]:
    """Rows a second of one caller; what one append costs the loop, and the caller's own part of it, in µs."""
    count, calls, own, busy = 0, 0, 0.0, time.thread_time()
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        batch = entries(store.tip.index + 1, size)
        metered = Metered(store.append(batch))
        await metered
        own += metered.seconds
        count += size
        calls += 1
    rate = count / (time.perf_counter() - start)
    return rate, (time.thread_time() - busy) / calls * 1e6, own / calls * 1e6


async def grouped(store: SqliteStore, callers: int, seconds: float) -> tuple[float, float, float]:
    """Rows a second of many callers with one record each; median and 99th percentile of their waits, in ms."""
    end = store.tip.index
    waits: list[float] = []
    start = time.perf_counter()

    async def caller() -> None:
        nonlocal end
        while (now := time.perf_counter()) - start < seconds:
            end += 1
            await store.append([Entry(end, 1, EVENTS)])
            waits.append(time.perf_counter() - now)

    await asyncio.gather(*(caller() for _ in range(callers)))
    rate = len(waits) / (time.perf_counter() - start)
    waits.sort()
    return rate, waits[len(waits) // 2] * 1e3, waits[len(waits) * 99 // 100] * 1e3


async def replayed(folder: str, records: int) -> dict[str, float]:
    """Fill a journal, then open it with and without proof, and replay it."""
    path = os.path.join(folder, "replay.db")
    store = await open_sqlite_store(path, synchronous="OFF")
    for first in range(1, records + 1, 100):
        await store.append(entries(first, 100))
    await store.close()
    figures = {"file MiB": os.path.getsize(path) / (1 << 20)}
    start = time.perf_counter()
    store = await open_sqlite_store(path, prove_first=False)
    figures["open without proof, s"] = time.perf_counter() - start
    start = time.perf_counter()
    longest = 0.0
    async for batch in store.replay(0):
        longest = max(longest, len(batch))
    figures["replay, records/s"] = records / (time.perf_counter() - start)
    start = time.perf_counter()
    await store.append(entries(records + 1, 1))
    figures["first append after it, s"] = time.perf_counter() - start
    await store.close()
    start = time.perf_counter()
    store = await open_sqlite_store(path)
    figures["open with proof, s"] = time.perf_counter() - start
    await store.close()
    os.unlink(path)
    return figures


async def fed(rounds: int = 200, size: int = 500, readers: int = 3) -> dict[str, float]:
    """What publishing 500 records costs, and what each of three readers adds, in µs."""
    store = MemoryStore()
    feed = Feed(store, START)
    records = link(EMPTY_TIP, entries(1, rounds * size))
    places = [feed.reader(Cursor(0, 0)) for _ in range(readers)]
    publishing = reading = 0.0
    for number in range(rounds):
        waiting = [Metered(place.next()) for place in places]
        tasks = [asyncio.ensure_future(one) for one in waiting]
        await asyncio.sleep(0)
        start = time.perf_counter()
        feed.publish(records[number * size : (number + 1) * size])
        publishing += time.perf_counter() - start
        for one in await asyncio.gather(*tasks):
            if len(one) != size:
                raise AssertionError(len(one))
        reading += sum(one.seconds for one in waiting)
    feed.close("measured")
    await store.close()
    return {"publish 500, µs": publishing / rounds * 1e6, "per reader, µs": reading / rounds / readers * 1e6}


async def measure(folder: str, seconds: float, rounds: int, records: int) -> Figures:
    """Run all rounds and return medians."""
    seen: dict[str, dict[str, list[float]]] = {}

    def note(row: str, **values: float) -> None:
        for name, value in values.items():
            seen.setdefault(row, {}).setdefault(name, []).append(value)

    store = await open_sqlite_store(os.path.join(folder, "journal.db"))
    for _ in range(rounds):
        note("fdatasync", per_s=fsyncs(folder, seconds))
        for size in SIZES:
            bare = floor(folder, size, seconds)
            rate, loop_us, own_us = await appended(store, size, seconds)
            note(f"{size} a commit", floor=bare, journal=rate, ratio=rate / bare, loop_us=loop_us, caller_us=own_us)
        for callers in CALLERS:
            rate, median, worst = await grouped(store, callers, seconds)
            note(f"{callers} callers", journal=rate, p50_ms=median, p99_ms=worst)
    await store.close()
    figures: Figures = {
        row: {name: statistics.median(values) for name, values in columns.items()} for row, columns in seen.items()
    }
    figures[f"{records} records"] = await replayed(folder, records)
    figures["feed"] = await fed()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the journal.")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, default=1_000_000, help="in the journal that is replayed")
    parser.add_argument("--folder", help="on the disk to be measured (default: the temporary folder)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        figures = asyncio.run(measure(folder, chosen.seconds, chosen.rounds, chosen.records))
    if chosen.json:
        chosen.json.write_text(json.dumps({"benchmark": "journal", "figures": figures}, indent=2) + "\n")
    for row, columns in figures.items():
        text = "  ".join(
            f"{name} {value:,.3g}" if value < 100 else f"{name} {value:,.0f}" for name, value in columns.items()
        )
        sys.stdout.write(f"{row:>18}  {text}\n")


if __name__ == "__main__":
    main()
