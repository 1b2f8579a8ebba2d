"""@simulate: a test of somebody's own workflow, run over many seeds with kills, cuts and lost messages. Floor 10.

* The test is an async function whose argument `sim` is a Simulation; it becomes a plain function for any test runner.
* Each seed is a fresh cluster in virtual time. Everything a test needs can be imported from here.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from engine.simulation.audit import Rests, rests
from engine.simulation.disk import DiskPace
from engine.simulation.faults import NO_FAULTS, Faults
from engine.simulation.modelled_draws import Choice, Drawn, Exponential, LogNormal, Uniform, chances
from engine.simulation.modelled_jobs import Duration, JobEnd, JobModel, JobRun
from engine.simulation.network import Weather
from engine.simulation.seeds import Simulated, SimulationFailed, Test, run_test
from engine.simulation.settings import ONE_OF_EACH, Agents, Cluster, Settings
from engine.simulation.simulation import SimOrder, Simulation
from engine.simulation.trial import workflow_file

__all__ = [
    "Agents",
    "Choice",
    "Cluster",
    "DiskPace",
    "Drawn",
    "Duration",
    "Exponential",
    "Faults",
    "JobEnd",
    "JobRun",
    "LogNormal",
    "SimOrder",
    "Simulation",
    "SimulationFailed",
    "Uniform",
    "Weather",
    "chances",
    "simulate",
    "workflow_file",
]

SEEDS = 20
DRAWN_FAULTS = Faults()  # kinds and pace are drawn from the seed
ARGUMENTS_CHARS_MAX = 80  # of a test's arguments in its name

_PLAIN = (str, int, float, bool, type(None))


def simulate(
    *,
    seeds: int = SEEDS,
    cluster: Cluster = ONE_OF_EACH,
    faults: Faults | None = DRAWN_FAULTS,
    jobs: Mapping[str, JobModel] | None = None,
    callables: Mapping[str, Callable[..., Any]] | None = None,
    may_rest: Rests = rests,
) -> Callable[[Test], Callable[..., None]]:
    """Run an async test over many seeds; its argument `sim` is a Simulation, other arguments come from the runner.

    `cluster`: what it runs on, a controller and an agent unless told otherwise. `faults` None: none at all. `jobs`:
    what the processes of shell and command jobs do, by label, `*` for the others: a `Duration`, a `Drawn`, or an async
    function that is the job. `callables`: for python jobs, by name. `may_rest`: which orders may stay unfinished.
    """
    settings = Settings(
        seeds=seeds,
        cluster=cluster,
        faults=NO_FAULTS if faults is None else faults,
        jobs=dict(jobs or {}),
        callables=dict(callables or {}),
        may_rest=may_rest,
    )

    for label, model in settings.jobs.items():
        if not callable(model) and not isinstance(model, Duration):
            raise TypeError(f"jobs: {label!r} is {model!r}; give a Duration, a Drawn, or an async function")

    def decorate(test: Test) -> Callable[..., None]:
        if not inspect.iscoroutinefunction(test):
            raise TypeError(f"{test.__qualname__} is no async function, so it can not be simulated")
        signature = inspect.signature(test)
        if "sim" not in signature.parameters:
            raise TypeError(f"{test.__qualname__} takes no argument `sim`, so it can not be simulated")
        plain = Simulated(test, settings, test.__qualname__, inspect.getfile(test))

        @functools.wraps(test)
        def simulated(*args: Any, **named: Any) -> None:
            __tracebackhide__ = True
            bound = functools.partial(test, *args, **named)
            run_test(Simulated(bound, settings, plain.name + _told(args, named), plain.file))

        others = [one for name, one in signature.parameters.items() if name != "sim"]
        simulated.__signature__ = signature.replace(parameters=others, return_annotation=None)  # type: ignore[attr-defined]
        simulated.simulated = plain  # type: ignore[attr-defined]  # how the pytest plug-in and the command line know it
        del simulated.__wrapped__  # it would show runners the async function behind
        return simulated

    return decorate


def _told(args: tuple[Any, ...], named: Mapping[str, Any]) -> str:
    """Tell the runs of a test with several arguments apart, by those that can be written down."""
    plain = [repr(one) for one in args if isinstance(one, _PLAIN)]
    plain += [f"{name}={one!r}" for name, one in named.items() if isinstance(one, _PLAIN)]
    return f"[{', '.join(plain)[:ARGUMENTS_CHARS_MAX]}]" if plain else ""
