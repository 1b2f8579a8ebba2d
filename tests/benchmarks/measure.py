"""What every benchmark needs: how much of everything, figures by name and round, progress, bounds of time.

* A figure belongs to a name and a round; floors are measured in the rounds of what stands on them, so a ratio is taken
  inside one round and its median over the rounds.
* Progress goes to stderr, a line every two seconds at most.
"""

import asyncio
import contextlib
import dataclasses
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TextIO

TELL_EVERY_S = 2.0
PART_S_MAX = 600.0  # one part of one round; beyond it the part counts as stuck


class Stuck(Exception):
    """A part of a benchmark did not end within its bound of time, or its result was wrong."""


class NotThere(Exception):
    """What a benchmark measures does not exist (yet, or on this machine); the sentence says what is missing."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much of everything. `*_s` are seconds of one measurement, the rest are counts of one round."""

    rounds: int = 5
    floor_s: float = 1.0  # of each of the machine's own rates
    orders: int = 10_000
    in_flight: int = 256
    chains: int = 5_000
    forks: int = 120
    branches: int = 100
    forks_in_flight: int = 8
    processes: int = 1_500
    processes_in_flight: int = 64
    restart_events: int = 1_000_000
    growth_orders: int = 1_000_000
    growth_first: int = 10_000  # where the cost is taken for the first time
    growth_slice: int = 1_000
    commands: int = 5  # runs of the command line, per round


FULL = Plan()
QUICK = Plan(
    rounds=3,
    floor_s=0.3,
    orders=3_000,
    chains=1_200,
    forks=32,
    processes=400,
    restart_events=100_000,
    growth_orders=20_000,
    growth_first=2_000,
    growth_slice=200,
    commands=2,
)
TINY = Plan(
    rounds=1,
    floor_s=0.01,
    orders=8,
    in_flight=4,
    chains=4,
    forks=2,
    branches=3,
    forks_in_flight=2,
    processes=4,
    processes_in_flight=2,
    restart_events=100,
    growth_orders=30,
    growth_first=10,
    growth_slice=5,
    commands=1,
)


class Progress:
    """Tells on a stream what is under way, when there is news and two seconds have passed."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._began = self._told = time.perf_counter()
        self.what = ""

    def say(self, what: str) -> None:
        """Name what begins now."""
        self.what = what
        self.at()

    def at(self, done: int = 0, of: int = 0) -> None:
        """Tell how far it has come."""
        now = time.perf_counter()
        if now - self._told >= TELL_EVERY_S:
            self._told = now
            count = f": {done:,} of {of:,}" if of else ""
            print(f"  {now - self._began:5.0f} s  {self.what}{count}", file=self._stream, flush=True)


class Bench:
    """One run of benchmarks: its plan, a place on the disk to be measured, and the figures found."""

    def __init__(self, plan: Plan, place: Path, progress: Progress | None = None) -> None:
        self.plan = plan
        self.place = place
        self.progress = progress or Progress()
        self.series: dict[str, list[float]] = {}
        self.notes: list[str] = []
        self._folders = 0

    def put(self, name: str, figure: float) -> None:
        """Keep a figure of the present round."""
        self.series.setdefault(name, []).append(figure)

    def note(self, sentence: str) -> None:
        """Keep a sentence that belongs below the table, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def folder(self, name: str) -> Path:
        """Return a fresh folder on the disk that is measured; it goes with the whole run."""
        self._folders += 1
        path = self.place / f"{self._folders}-{name}"
        path.mkdir()
        return path

    def median(self, name: str) -> float | None:
        """Return the median over the rounds."""
        figures = self.series.get(name)
        return statistics.median(figures) if figures else None

    def ratio(self, name: str, floor: str) -> float | None:
        """Return the median over the rounds of figure ÷ floor of the same round."""
        pairs = zip(self.series.get(name, ()), self.series.get(floor, ()), strict=False)
        ratios = [figure / below for figure, below in pairs if below]
        return statistics.median(ratios) if ratios else None


@contextlib.contextmanager
def temporary_place(parent: str | None = None) -> Iterator[Path]:
    """Make a folder for everything a run writes and remove it in the end."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent, ignore_cleanup_errors=True) as path:
        yield Path(path)


@contextlib.asynccontextmanager
async def bounded(what: str, limit_s: float = PART_S_MAX) -> AsyncIterator[None]:
    """Raise Stuck when the block takes longer than its bound."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        raise Stuck(f"{what} did not end within {limit_s:.0f} s") from None


class Stopwatch:
    """Wall time and processor time of this process, all its threads, since it was made."""

    def __init__(self, *, collect: bool = True) -> None:
        """`collect`: begin without garbage of what was measured before."""
        if collect:
            gc.collect()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Return seconds of wall time and of processor time."""
        return time.perf_counter() - self._wall, time.process_time() - self._cpu


def rate_of(act: Callable[[], object], span_s: float) -> float:
    """Return how often an act can be done in a second, one after the other, tried for `span_s`."""
    count, began = 0, time.perf_counter()
    while True:
        act()
        count += 1
        passed = time.perf_counter() - began
        if passed >= span_s:
            return count / passed


def alternating(number: int, *parts: Callable[[], None]) -> None:
    """Run the parts of a round, in every second round backwards, so that a drift of the machine cancels out."""
    for part in parts if number % 2 == 0 else reversed(parts):
        part()


def file_system(path: Path) -> str:
    """Return the kind of file system a path lies on, as the kernel calls it."""
    device = os.stat(path).st_dev
    found = "unknown"
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
            left, _, right = line.partition(" - ")
            major, minor = left.split()[2].split(":")
            if os.makedev(int(major), int(minor)) == device:
                found = right.split()[0]
    return found
