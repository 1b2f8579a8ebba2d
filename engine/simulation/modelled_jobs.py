"""What a simulated process does: how long it runs, how it ends, what it leaves behind. Floor 10.

* A job is modelled by its label: a `Duration`, or a coroutine function that gets a `JobRun` and returns how it ended.
* A coroutine runs as a node of its own: KILL ends it as a crash would, TERM cancels it, its time is virtual.
* What happens is drawn from the seed and the attempt's key alone, whatever else goes on in the world.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from engine.base.codec import Value
from engine.ports import ProcessSpec

if TYPE_CHECKING:
    from engine.simulation.loop import VirtualLoop

TERM, KILL = 15, 9
DURATION_MS_MAX = 366 * 86_400_000  # virtual time is free, but a test has to come to its end
MS_MIN = 5
DEFAULT = "*"  # the label under which the model of all other jobs is found


class Duration(msgspec.Struct, frozen=True, kw_only=True):
    """A process that takes a while and ends by itself; all rates are probabilities of an attempt.

    Raises ValueError for what can not be: a model that is wrong must not look like a workflow that is.
    """

    ms_min: int = MS_MIN
    ms_max: int = 500
    fail_rate: float = 0.0
    return_code: int = 1  # of one that fails
    results: dict[str, Value] = {}  # of one that succeeds
    stubborn_rate: float = 0.0  # ignores TERM
    term_ms_max: int = 50  # from TERM to the end of one that does not
    endless_rate: float = 0.0  # never ends by itself

    def __post_init__(self) -> None:
        for name in ("ms_min", "ms_max", "term_ms_max"):
            if not 0 <= getattr(self, name) <= DURATION_MS_MAX:
                raise ValueError(f"{name} must be from 0 to {DURATION_MS_MAX:,}, not {getattr(self, name)}")
        if self.ms_min > max(self.ms_max, MS_MIN):  # a small ms_max alone is meant as it stands
            raise ValueError(f"ms_min {self.ms_min} is above ms_max {self.ms_max}")
        for name in ("fail_rate", "stubborn_rate", "endless_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, not {getattr(self, name)}")


class JobEnd(msgspec.Struct, frozen=True):
    """How a process ended."""

    return_code: int = 0
    results: Mapping[str, Value] = {}
    out_bytes: int = 0
    err_bytes: int = 0


class JobRun(msgspec.Struct, frozen=True):
    """What a modelled job sees of its attempt."""

    key: str
    order: str
    label: str
    attempt: int
    fence: int
    argv: tuple[str, ...]
    environment: dict[str, str]
    script: str | None
    machine: str


Ended = JobEnd | int | Mapping[str, Value] | None
JobModel = Duration | Callable[[JobRun], Coroutine[Any, Any, Ended]]


def run_of(spec: ProcessSpec, machine: str) -> JobRun:
    """Read an attempt back from the program it was made into."""
    environment = spec.environment
    return JobRun(
        key=spec.key,
        order=environment.get("UNDERSTUDY_ORDER", ""),
        label=environment.get("UNDERSTUDY_LABEL", ""),
        attempt=int(environment.get("UNDERSTUDY_ATTEMPT", "0")),
        fence=int(environment.get("UNDERSTUDY_FENCE", "0")),
        argv=spec.argv,
        environment=environment,
        script=spec.script,
        machine=machine,
    )


def job_end(ended: Ended) -> JobEnd:
    """Read what a modelled job returned: a return code, results, or both; raises TypeError for anything else."""
    if ended is None:
        return JobEnd()
    if isinstance(ended, JobEnd):
        return ended
    if isinstance(ended, Mapping):
        return JobEnd(0, ended)
    if isinstance(ended, int):
        return JobEnd(int(ended))
    raise TypeError(f"a modelled job returns a return code, results, a JobEnd or nothing, not {ended!r}")


class Process:
    """A running process: independent of any guard; `on_exit` is called once with its end, in the environment."""

    def __init__(
        self, run: JobRun, model: JobModel, loop: "VirtualLoop", random: Random, on_exit: Callable[[JobEnd], None]
    ) -> None:
        """Begin it; call this in the environment."""
        self.lane = f"process {run.machine}:{run.key}"
        self.fault: BaseException | None = None  # what a modelled coroutine raised
        self._loop = loop
        self._random = random
        self._on_exit = on_exit
        self._model = model
        self._over = False
        self._is_told = False
        self._timer: asyncio.TimerHandle | None = None
        self._work: asyncio.Task[Ended] | None = None
        if isinstance(model, Duration):
            self._begin(model)
        else:
            self._work = loop.create_task(model(run), context=loop.context_of(self.lane))
            self._work.add_done_callback(self._returned)

    def _begin(self, model: Duration) -> None:
        draw = self._random.random
        span_ms = self._random.uniform(model.ms_min, model.ms_max)
        failing, self._is_stubborn = draw() < model.fail_rate, draw() < model.stubborn_rate
        end = JobEnd(model.return_code) if failing else JobEnd(0, model.results, out_bytes=10)
        if draw() >= model.endless_rate:
            self._timer = self._loop.call_later(span_ms / 1_000, self._exit, end)

    def _returned(self, work: "asyncio.Task[Ended]") -> None:
        if work.cancelled():
            self._exit(JobEnd(-TERM))
            return
        self.fault = work.exception()
        try:
            self._exit(job_end(work.result()) if self.fault is None else JobEnd(1))
        except TypeError as error:
            self.fault = error
            self._exit(JobEnd(1))

    def _exit(self, end: JobEnd) -> None:
        if not self._over:
            self._over = True
            self._on_exit(end)

    def term(self) -> None:
        """Ask it to end."""
        if self._over or self._is_told:
            return
        self._is_told = True
        if self._work is not None:
            self._work.cancel()
        elif isinstance(self._model, Duration) and not self._is_stubborn:
            self._stop()
            delay_ms = self._random.uniform(0, self._model.term_ms_max)
            self._timer = self._loop.call_later(delay_ms / 1_000, self._exit, JobEnd(-TERM))

    def kill(self) -> None:
        """End it at once."""
        if self._over:
            return
        self._stop()
        if self._work is not None:
            self._loop.crash(self.lane)
        self._exit(JobEnd(-KILL))

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
