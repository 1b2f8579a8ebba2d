"""Running the seeds of a simulated test: one by one, the kept ones first, until one fails. Floor 10.

* A seed is a function of its number and its settings; whatever its test raises is a finding of that seed.
* What the person wants of this process (`WANTED`) comes from the pytest plug-in's options, else from the environment:
  UNDERSTUDY_SEED=17 replays one seed and prints its timeline, UNDERSTUDY_SEEDS=500 tries so many, UNDERSTUDY_CORPUS
  names the folder of the kept seeds, or is `off`.
* Real time is looked at for people's sake only; nothing that is simulated sees it.
"""

import asyncio
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from time import monotonic, process_time  # taken before escapes are forbidden: `look` runs inside of nodes

import msgspec

from engine.model.event import Event
from engine.simulation.corpus import Corpus, Entry, corpus_folder
from engine.simulation.escapes import forbid_escapes
from engine.simulation.faults import Storm
from engine.simulation.loop import VirtualLoop, run
from engine.simulation.report import SeedReport, Totals
from engine.simulation.settings import Settings
from engine.simulation.simulation import Simulation

STEPS_MAX = 5_000_000
LINES_SHOWN = 30  # of the timeline, in a failure's text
SEED_DIGITS_MAX = 18
PROGRESS_FIRST_S = 2.0  # nothing is said before
PROGRESS_MOST_S = 30.0  # between two lines; they get rarer
EVENTS_A_LOOK = 256  # between two looks at the clock while a seed runs

Test = Callable[..., Awaitable[None]]
Watch = Callable[[Simulation], None]


class Simulated(msgspec.Struct, frozen=True):
    """A simulated test: what it does, on what, what it is called, and the file it stands in."""

    test: Test
    settings: Settings
    name: str
    file: str


class SimulationFailed(AssertionError):
    """A seed failed: what was found, how to replay it, and the end of its timeline."""

    def __init__(self, seed: int, found: Sequence[str], timeline: Sequence[str], test: str, kept: str = "") -> None:
        self.seed = seed
        self.found = list(found)
        self.timeline = list(timeline)
        self.kept = kept
        last = "\n".join(self.timeline[-LINES_SHOWN:])
        super().__init__(
            f"seed {seed} of {test}:\n"
            + "\n".join(self.found)
            + f"\n\nReplay it, with its whole timeline: set UNDERSTUDY_SEED={seed} and run {test} alone."
            + (f"\nIt is kept in {kept} and will be run first." if kept else "")
            + (
                f"\nThe last {min(len(self.timeline), LINES_SHOWN)} lines of {len(self.timeline)}:\n{last}"
                if last
                else ""
            )
        )


class Wanted:
    """What the person wants of this process's simulated tests; None: as the environment says."""

    def __init__(self) -> None:
        self.seed: int | None = None
        self.seeds: int | None = None
        self.corpus: str | None = None
        self.tell: Callable[[str], None] = tell_stderr


def tell_stderr(text: str) -> None:
    """Say something to the person."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


WANTED = Wanted()


def number_in(name: str, least: int) -> int | None:
    """Read a number from the environment, None where there is none; raises ValueError with a sentence."""
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= SEED_DIGITS_MAX and int(text) >= least):
        raise ValueError(f"{name}={text!r} is no number from {least} on; write {name}=17, for example")
    return int(text)


def chosen_seeds(count: int) -> tuple[list[int], bool]:
    """Return the seeds to run, as the person wants, and whether one of them is being replayed."""
    one = number_in("UNDERSTUDY_SEED", 0) if WANTED.seed is None else WANTED.seed
    if one is not None:
        return [one], True
    many = number_in("UNDERSTUDY_SEEDS", 1) if WANTED.seeds is None else WANTED.seeds
    return list(range(count if many is None else many)), False


# --- one seed ---------------------------------------------------------------------------------------------------------


class SeedRun:
    """One seed that has been run: its report, and what there is to look at afterwards."""

    def __init__(self, seed: int) -> None:
        self.report = SeedReport(seed=seed)
        self.simulation: Simulation | None = None
        self.failure: Exception | None = None

    def timeline(self) -> list[str]:
        """Every line of it that is remembered."""
        return [] if self.simulation is None else list(self.simulation.cluster.lookout.timeline.lines())


def run_one(seed: int, test: Test, settings: Settings, watch: Sequence[Watch] = ()) -> SeedRun:
    """Run one seed to its end; what is wrong is in the report, never raised.

    `watch`: called with the simulation before it begins.
    """
    __tracebackhide__ = True  # pytest leaves these frames out
    done, begun = SeedRun(seed), process_time()
    with forbid_escapes() as escapes:
        try:
            run(_live(done, test, settings, watch), seed=seed, max_steps=STEPS_MAX)
        except Exception as error:  # noqa: BLE001 - whatever the test or the cluster raises, this seed has found it
            done.failure = error
    report, simulation = done.report, done.simulation
    report.cpu_s = process_time() - begun
    report.found = [] if done.failure is None else [_sentence(done.failure)]
    report.found += [f"escape: {one}" for one in escapes]
    if simulation is not None:
        cluster = simulation.cluster
        report.asked, report.endings = simulation.asked, dict(simulation.endings)
        report.met, report.faults = dict(cluster.lookout.sometimes.met), dict(simulation.storm.counts)
        report.messages = cluster.network.counts["frames_delivered"]
        report.processes = sum(len(node.machine.groups) for node in cluster.nodes.values())
        report.steps, report.virtual_s, report.digest = cluster.loop.steps, cluster.loop.time(), cluster.loop.digest()
    return done


async def _live(done: SeedRun, test: Test, settings: Settings, watch: Sequence[Watch]) -> None:
    __tracebackhide__ = True
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    callables = dict(settings.callables)
    cluster = settings.cluster.made(loop, loop.seed, jobs=settings.jobs, callables=callables)
    simulation = done.simulation = Simulation(cluster, Storm(cluster, settings.faults), callables)
    for one in watch:
        one(simulation)
    await simulation.begin()
    await test(sim=simulation)
    await simulation.end(settings.may_rest)


def _sentence(error: Exception) -> str:
    """Say what was raised and where; sentences of the checkers and of the test stand for themselves."""
    text = str(error)
    if isinstance(error, AssertionError) and text:
        return text
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}"


# --- many -------------------------------------------------------------------------------------------------------------


class Progress:
    """Says how far the seeds are, once it takes longer than one likes to wait in silence."""

    def __init__(self, name: str, count: int, totals: Totals, tell: Callable[[str], None]) -> None:
        self._name = name
        self._count = count
        self._totals = totals
        self._tell = tell
        self._began = monotonic()
        self._next, self._pause = self._began + PROGRESS_FIRST_S, PROGRESS_FIRST_S
        self._events = 0

    def watch(self, simulation: Simulation) -> None:
        """Look at the clock now and then while a seed runs."""

        def look(_node: str, _event: Event) -> None:
            self._events += 1
            if not self._events % EVENTS_A_LOOK:
                self.look(simulation)

        simulation.cluster.lookout.also(on_event=look)

    def look(self, simulation: Simulation) -> None:
        """Say how far it is, if it is time to."""
        now = monotonic()
        if now < self._next:
            return
        self._pause = min(self._pause * 1.5, PROGRESS_MOST_S)
        self._next = now + self._pause
        totals, cluster = self._totals, simulation.cluster
        faults = totals.faults.total() + sum(simulation.storm.counts.values())
        messages = totals.messages + cluster.network.counts["frames_delivered"]
        self._tell(
            f"{self._name}: {totals.seeds} of {self._count} seeds after {now - self._began:.0f} s, at seed "
            f"{simulation.seed} (virtual second {cluster.loop.time():.0f}); {faults:,} faults, {messages:,} messages"
        )


def run_seeds(
    one: Simulated, seeds: Sequence[int], totals: Totals, *, corpus: Corpus | None, tell: Callable[[str], None]
) -> None:
    """Run the kept seeds and then these; raises SimulationFailed for the first that fails."""
    __tracebackhide__ = True
    digest = one.settings.digest()
    kept: dict[int, Entry] = {} if corpus is None else {entry.seed: entry for entry in corpus.entries(digest)}
    if kept:
        shown = ", ".join(map(str, kept))
        tell(f"{one.name}: seeds that failed before are run first: {shown}")
    wanted = [*kept, *(seed for seed in seeds if seed not in kept)]
    progress = Progress(one.name, len(wanted), totals, tell)
    for seed in wanted:
        done = run_one(seed, one.test, one.settings, [progress.watch])
        totals.add(done.report)
        if done.report.found:
            path = None if corpus is None else corpus.keep(seed, digest, done.report.found[0])
            raise SimulationFailed(
                seed, done.report.found, done.timeline(), one.name, str(path or "")
            ) from done.failure
        if corpus is not None and seed in kept:
            corpus.passed(kept[seed])
        assert done.simulation is not None
        progress.look(done.simulation)


def corpus_of(one: Simulated, tell: Callable[[str], None]) -> Corpus | None:
    """Return the kept seeds of a test, where the person wants any."""
    wanted = WANTED.corpus or os.environ.get("UNDERSTUDY_CORPUS")
    folder = corpus_folder(one.file, wanted)
    return None if folder is None else Corpus(folder, f"{Path(one.file).name}::{one.name}", tell)


def run_test(one: Simulated) -> None:
    """Run a test's seeds as the person wants, or replay one.

    Raises SimulationFailed for the first seed that fails, AssertionError for what no seed met.
    """
    __tracebackhide__ = True
    seeds, replaying = chosen_seeds(one.settings.seeds)
    if replaying:
        replay(one, seeds[0])
        return
    totals = Totals()
    run_seeds(one, seeds, totals, corpus=corpus_of(one, WANTED.tell), tell=WANTED.tell)
    if never := totals.never():
        raise AssertionError(f"in none of {totals.seeds} seeds of {one.name}: " + "; ".join(never))


def replay(one: Simulated, seed: int) -> None:
    """Run one seed and print its timeline; raises SimulationFailed. The corpus stays as it is."""
    __tracebackhide__ = True
    done = run_one(seed, one.test, one.settings)
    WANTED.tell("\n".join([f"seed {seed} of {one.name}", *done.timeline(), *done.report.found]))
    if done.report.found:
        raise SimulationFailed(seed, done.report.found, [], one.name) from done.failure
