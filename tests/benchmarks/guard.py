"""The guard's own rate beside bare ways to spawn, in alternating rounds: `python -m tests.benchmarks.guard`.

* Each way runs the same trivial program to its end; the guard does so with everything it promises: durable start and
  exit records, output to two files, environment and folder of its own, the look for what a job left behind.
* Figures are medians over the rounds; only ratios inside one run mean anything.
* `--profile` runs the guard once under cProfile and prints where its time goes.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from engine.jobs import guard_launch
from engine.jobs.guard_host import GuardHost
from engine.ports import ProcessSpec

PROGRAM = "/bin/true"
PROFILED = """
import cProfile, pstats, runpy, sys
profile = cProfile.Profile()
sys.argv = [{script!r}, *sys.argv[1:]]
try:
    profile.runcall(runpy.run_path, {script!r}, run_name="__main__")
finally:
    with open({output!r}, "w") as file:
        pstats.Stats(profile, stream=file).sort_stats("tottime").print_stats(25)
"""


class Clock:
    """Implements ports.Clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000


def by_posix_spawn(count: int, in_flight: int, _state: Path) -> None:
    running: deque[int] = deque()
    for _ in range(count):
        running.append(os.posix_spawn(PROGRAM, [PROGRAM], os.environ))
        if len(running) >= in_flight:
            os.waitpid(running.popleft(), 0)
    for pid in running:
        os.waitpid(pid, 0)


def by_popen(count: int, in_flight: int, _state: Path) -> None:
    running: deque[subprocess.Popen[bytes]] = deque()
    for _ in range(count):
        running.append(subprocess.Popen([PROGRAM], stdin=subprocess.DEVNULL, start_new_session=True))
        if len(running) >= in_flight:
            running.popleft().wait()
    for child in running:
        child.wait()


def by_asyncio(count: int, in_flight: int, _state: Path) -> None:
    async def run() -> None:
        left = iter(range(count))

        async def worker() -> None:
            for _ in left:
                child = await asyncio.create_subprocess_exec(PROGRAM, stdin=asyncio.subprocess.DEVNULL)
                await child.wait()

        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(worker())

    asyncio.run(run())


def by_guard(count: int, in_flight: int, state: Path) -> None:
    async def run() -> None:
        host = GuardHost(state, Clock())
        await host.open()
        numbers, running, missing = iter(range(count)), 0, count
        while missing:
            while running < in_flight and (number := next(numbers, None)) is not None:
                host.start(ProcessSpec(f"order/{number}/1", (PROGRAM,), dict(os.environ), f"attempts/{number}"))
                running += 1
            ended = [report for report in await host.reports() if report.kind != "started"]
            assert all(report.return_code == 0 for report in ended)
            host.forget([report.key for report in ended])
            running -= len(ended)
            missing -= len(ended)
        await host.close()

    asyncio.run(run())


WAYS: dict[str, Callable[[int, int, Path], None]] = {
    "posix_spawn": by_posix_spawn,
    "subprocess.Popen": by_popen,
    "asyncio.create_subprocess_exec": by_asyncio,
    "guard": by_guard,
}


def profile(count: int, in_flight: int) -> None:
    """Run the guard once under cProfile."""
    with tempfile.TemporaryDirectory() as folder:
        wrapper, output = Path(folder, "profiled.py"), Path(folder, "profile")
        wrapper.write_text(PROFILED.format(script=str(guard_launch.SCRIPT), output=str(output)))
        guard_launch.SCRIPT = wrapper
        by_guard(count, in_flight, Path(folder, "state"))
        print(output.read_text())


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1_000, help="processes of one way in one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--in-flight", type=int, default=64, help="of the guard; the bare ways have two per processor")
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    if given.profile:
        profile(given.count, given.in_flight)
        return 0
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(given.rounds):
        for name, way in WAYS.items():
            in_flight = given.in_flight if name == "guard" else 2 * (os.cpu_count() or 1)
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                way(given.count, in_flight, Path(folder, "state"))
                rates[name].append(given.count / (time.perf_counter() - began))
        print(f"round {number + 1}:", *(f"{name} {each[-1]:.0f}/s" for name, each in rates.items()), file=sys.stderr)
    bare = rates["posix_spawn"]
    print(f"{'':32}{'median /s':>10}{'÷ posix_spawn':>15}")
    for name, each in rates.items():
        ratio = statistics.median(one / base for one, base in zip(each, bare, strict=True))
        print(f"{name:32}{statistics.median(each):>10.0f}{ratio:>15.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
