"""What was found, beside what must be reached: a table for people, JSON for programs.

* A row is a median over the rounds; `÷ floor` is the median of the ratios taken inside each round.
* must and stretch are the figures of the project's targets; they say nothing about a machine that is slower than the
  one they were read on, which is why the floor of the same rounds stands beside them.
"""

import dataclasses
import os
import platform
import sqlite3
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Bench, file_system

LESS_IS_BETTER = ("s", "×")


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: a series, its floor's series, and the targets in its own unit.

    `by_ratio`: the target is about figure ÷ floor.
    """

    series: str
    what: str
    unit: str
    floor: str = ""
    must: float | None = None
    stretch: float | None = None
    by_ratio: bool = False


ROWS: dict[str, tuple[Row, ...]] = {
    "floors": (
        Row("fdatasync/s", "fdatasync of 200 bytes", "/s"),
        Row("SQLite FULL commits/s", "SQLite, one row a commit, FULL", "/s"),
        Row("bare loop, one", "bare loop, one step", "/s"),
        Row("bare loop, chain", "bare loop, chain of three", "/s"),
        Row("bare loop, fork", "bare loop, branches of forks", "/s"),
        Row("posix_spawn + wait", "posix_spawn and wait, /bin/true", "/s"),
        Row("Popen + wait", "subprocess.Popen, the same", "/s"),
        Row("asyncio spawn + wait", "asyncio, the same", "/s"),
        Row("guard alone, shell", "guard alone, shell script", "/s"),
        Row("guard alone, command", "guard alone, command", "/s"),
        Row("one controller, one step", "one controller, one step", "/s"),
        Row("bare interpreter", "python -c pass", "s"),
    ),
    "P1": (
        Row("P1 async", "one step, async callable", "/s", "bare loop, one", 2_000, 5_000),
        Row("P1 sync", "one step, sync callable", "/s", "bare loop, one", 2_000, 5_000),
        Row("P1 async, processor µs", "processor time of it", "µs"),
    ),
    "P2": (
        Row("P2", "chain of three, orders", "/s", "bare loop, chain", 1_200, 3_000),
        Row("P2, processor µs", "processor time of it", "µs"),
    ),
    "P3": (
        Row("P3", "fork of 100, branches", "/s", "bare loop, fork", 5_000, 15_000),
        Row("P3, processor µs", "processor time of it", "µs"),
    ),
    "P4": (
        Row("P4 shell", "shell job, /bin/true", "/s", "guard alone, shell", 0.6, 0.85, by_ratio=True),
        Row("P4 command", "command job, /bin/true", "/s", "guard alone, command", 0.6, 0.85, by_ratio=True),
    ),
    "P6": (Row("P6", "P1 async with a coupled pair", "/s", "one controller, one step", 0.7, 0.9, by_ratio=True),),
    "P8": (
        Row("P8 controller", "restart, 10⁶ events, controller", "s", "", 10, 4),
        Row("P8 controller, read", "of it: reading rows", "s"),
        Row("P8 controller, check", "of it: hashes", "s"),
        Row("P8 controller, decode", "of it: decoding", "s"),
        Row("P8 controller, apply", "of it: applying", "s"),
        Row("P8 agent", "restart, 10⁶ events, agent", "s", "", 10, 4),
    ),
    "P10": (
        Row("P10", "cost, last ÷ first, of order ÷ floor", "×", "", 1.1),
        Row("P10 wall", "the same without the floor", "×"),
        Row("P10 processor", "the same in processor time", "×"),
    ),
    "P12": (Row("P12", "run of one job, from a shell", "s", "bare interpreter", 1.5, 0.7),),
}


def lines_of(bench: Bench) -> list[str]:
    """Write the table."""
    shape = "{:<5} {:<36} {:>11} {:>9} {:>9} {:<8} {:>8}"
    head = shape.format("", "what (median of the rounds)", "figure", "must", "stretch", "", "÷ floor")
    found = [head, "-" * len(head)]
    for name, rows in ROWS.items():
        for row in rows:
            figure = bench.median(row.series)
            if figure is None:
                continue
            ratio = bench.ratio(row.series, row.floor) if row.floor else None
            judged = ratio if row.by_ratio else figure
            found.append(
                shape.format(
                    name if row.must is not None else "",
                    row.what,
                    _text(figure, row.unit),
                    _text(row.must, "" if row.by_ratio else row.unit),
                    _text(row.stretch, "" if row.by_ratio else row.unit),
                    verdict(row, judged),
                    _text(ratio, ""),
                ).rstrip()
            )
    return [*found, *(f"* {note}" for note in bench.notes)]


def verdict(row: Row, judged: float | None) -> str:
    """Say whether a figure reaches its target: stretch, must, short; nothing where there is no target."""
    if row.must is None or judged is None:
        return ""
    sign = -1 if row.unit in LESS_IS_BETTER and not row.by_ratio else 1
    if row.stretch is not None and sign * judged >= sign * row.stretch:
        return "stretch"
    return "must" if sign * judged >= sign * row.must else "SHORT"


def _text(figure: float | None, unit: str) -> str:
    if figure is None:
        return ""
    if unit in ("/s", "µs"):
        return f"{figure:,.0f} {unit}"
    return f"{figure:.2f} {unit}".rstrip() if figure < 100 else f"{figure:,.0f} {unit}".rstrip()


def document_of(bench: Bench, date: str) -> dict[str, Any]:
    """Build the JSON document: machine, versions, plan, every round's figures, and the rows with their verdicts."""
    rows = [_row_document(bench, name, row) for name, rows in ROWS.items() for row in rows]
    return {
        "date": date,
        "machine": machine(bench.place),
        "versions": versions(),
        "plan": dataclasses.asdict(bench.plan),
        "rows": [row for row in rows if row["median"] is not None],
        "rounds": bench.series,
        "notes": bench.notes,
    }


def _row_document(bench: Bench, name: str, row: Row) -> dict[str, Any]:
    median = bench.median(row.series)
    ratio = bench.ratio(row.series, row.floor) if row.floor else None
    return {
        "benchmark": name,
        **dataclasses.asdict(row),
        "median": median,
        "ratio": ratio,
        "verdict": verdict(row, ratio if row.by_ratio else median),
    }


def machine(place: Path) -> dict[str, Any]:
    """Describe the machine, without its name."""
    model = next((line for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    memory = next((line for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "")
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "processor": model.partition(":")[2].strip(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": memory.partition(":")[2].strip(),
        "file_system": file_system(place),
        "load": os.getloadavg()[0],
    }


def versions() -> dict[str, str]:
    """Return the versions of what counts."""
    ours = {name: version(name) for name in ("aiosqlite", "msgspec")}
    return {
        "python": sys.version.split()[0],
        "build": platform.python_compiler(),
        "sqlite": sqlite3.sqlite_version,
        **ours,
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
