"""Modelled jobs of which everything is drawn: how long, with which return code, with which results. Floor 10.

* A draw is a small value (`Uniform`, `Exponential`, `LogNormal`, `Choice`), so it can be read, compared and kept.
* What comes of it depends on the seed and on the attempt's key and machine alone, as for every modelled job.
* A coroutine of somebody's own draws from `chances(run)` in the same way.
"""

import asyncio
import math
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from engine.base.codec import Value
from engine.simulation.modelled_jobs import JobEnd, JobRun

if TYPE_CHECKING:
    from engine.simulation.loop import VirtualLoop

SPAN_MS_MAX = 30 * 86_400_000.0  # of one attempt, whatever is drawn


class Uniform(msgspec.Struct, frozen=True, tag=True):
    """Any number between two, each as likely."""

    low: float
    high: float

    def draw(self, random: Random) -> float:
        return random.uniform(self.low, self.high)


class Exponential(msgspec.Struct, frozen=True, tag=True):
    """A number with this mean: mostly less, now and then many times as much."""

    mean: float

    def draw(self, random: Random) -> float:
        return random.expovariate(1 / self.mean)


class LogNormal(msgspec.Struct, frozen=True, tag=True):
    """Half of the numbers are below the median; `sigma` 0.5 is usual for programs, 1.5 is wild."""

    median: float
    sigma: float = 0.5

    def draw(self, random: Random) -> float:
        return random.lognormvariate(math.log(self.median), self.sigma)


class Choice(msgspec.Struct, frozen=True, tag=True):
    """One of these values. `weights`: one for each; without them all are as likely."""

    values: tuple[Any, ...]
    weights: tuple[float, ...] | None = None

    def draw(self, random: Random) -> Any:
        return random.choices(self.values, self.weights)[0]


Draw = Uniform | Exponential | LogNormal | Choice


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """A job that takes a drawn time, then ends with a drawn return code, and with drawn results if that is 0.

    `ms`: how long, in milliseconds. `return_codes`: code → weight. `results`: name → a value, or a draw of it.
    `stubborn_rate`: the probability that an attempt ignores TERM.
    """

    ms: Draw = Uniform(5, 500)
    return_codes: Mapping[int, float] = msgspec.field(default_factory=lambda: {0: 1.0})
    results: Mapping[str, Draw | Value] = {}
    stubborn_rate: float = 0.0

    async def __call__(self, run: JobRun) -> JobEnd:
        """Be one attempt."""
        random = chances(run)
        span_s = min(max(float(self.ms.draw(random)), 0.0), SPAN_MS_MAX) / 1_000
        code = random.choices(list(self.return_codes), list(self.return_codes.values()))[0]
        results = {name: _drawn(one, random) for name, one in self.results.items()}
        await _pass(span_s, is_stubborn=random.random() < self.stubborn_rate)
        return JobEnd(code, results if code == 0 else {})


def chances(run: JobRun) -> Random:
    """Return the generator of an attempt: the same seed, machine and attempt give the same numbers."""
    loop: VirtualLoop = asyncio.get_running_loop()  # type: ignore[assignment]  # jobs are modelled nowhere else
    return Random(f"{loop.seed}/job/{run.machine}/{run.key}")


def _drawn(one: Any, random: Random) -> Any:
    return one.draw(random) if isinstance(one, Draw) else one


async def _pass(span_s: float, *, is_stubborn: bool) -> None:
    """Let a span of virtual time pass, TERM or no TERM."""
    loop = asyncio.get_running_loop()
    end = loop.time() + span_s
    while (left_s := end - loop.time()) > 0:
        try:
            await asyncio.sleep(left_s)
        except asyncio.CancelledError:
            if not is_stubborn:
                raise
