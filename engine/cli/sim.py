"""`sim run | replay | timeline`: workflows, and tests of them, in simulated clusters under faults. Floor 11.

* FILE is a workflow document, or a Python file with tests made by @simulate.
* A failing seed is told with what was found and with the command that replays it; the same command finds the same.
"""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from engine.cli.exits import Ended, ExitCode
from engine.cli.face import Face
from engine.cli.output import debug_option, output_option, write_json

F = TypeVar("F", bound=Callable[..., Any])

SEEDS_MAX = 10_000_000
SEED_MAX = 10**18 - 1
FOUND_SHOWN = 20  # sentences of one seed
LANES = "lanes.html"
NO_VARIABLE = "there is no variable"  # how orders end when a job has not given what a later step needs
JOBS_HINT = "Jobs are modelled: say with --jobs FILE which results they give (docs/simulation.md)."

EPILOG = """\b
Examples:
  python -m engine sim run workflow.yaml
  python -m engine sim run workflow.yaml --seeds 200 --controllers 2 --agents local=3
  python -m engine sim run test_payroll.py --seeds 500
  python -m engine sim replay 17 workflow.yaml
  python -m engine sim timeline 17 test_payroll.py --out lanes.html

Exit codes: 0 everything held, 1 a seed failed, 2 wrong usage, 74 a file can not be read or written,
78 the document, or the Python file, is wrong. docs/simulation.md explains the rest."""

_file = click.argument("file", type=click.Path(path_type=Path))
_seed = click.argument("seed", type=click.IntRange(0, SEED_MAX))


def _trial_options(function: F) -> F:
    """Add what says how a workflow document is tried; a Python file says it itself."""
    options = (
        click.option("--controllers", type=click.IntRange(1, 2), metavar="1|2", help="2 are a pair. [default: 1]"),
        click.option("--agents", metavar="a=2,b=1", help="How many subagents agents have. [default: 2 each]"),
        click.option("--orders", type=click.IntRange(1, 1_000), metavar="N", help="How many orders. [default: 5]"),
        click.option(
            "-p", "--arguments", "arguments", multiple=True, metavar="NAME=VALUE", help="A parameter of the workflow."
        ),
        click.option(
            "--seconds", type=click.FloatRange(0, 3_600), metavar="S", help="How long faults last. [default: 20]"
        ),
        click.option(
            "--jobs", type=click.Path(path_type=Path), metavar="FILE", help="What jobs do: YAML, label → durations."
        ),
        click.option("--test", metavar="NAME", help="Which test of a Python file."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.group("sim", epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Run a workflow, or tests of it, in simulated clusters under faults."""


@command.command("run", epilog=EPILOG)
@_file
@click.option("--seeds", type=click.IntRange(1, SEEDS_MAX), metavar="N", help="How many seeds. [default: 20]")
@_trial_options
@output_option
@debug_option
@click.pass_context
def run_command(context: click.Context, /, file: Path, seeds: int | None, output: str, **asked: Any) -> int:
    """Run many seeds: each is a whole cluster in virtual time, in which nodes die and messages are lost.

    Seeds of FILE that failed before are run first. Of each test the first seed that fails is told.
    """
    from engine.cli.sim_file import Asked, tests_in

    face = context.ensure_object(Face)
    wanted = Asked(**asked)
    told = []
    for one in tests_in(file, wanted):
        program = context.find_root().info_name or "python -m engine"
        again = f"{program} sim replay {{}} {shlex.quote(str(file))}{_with_test(wanted, file, one.name).words()}"
        told.append(_ran(face, one, seeds, again, json=output == "json"))
    if output == "json":
        write_json(face, {"ok": all(one["ok"] for one in told), "tests": told})
    return ExitCode.FINISHED if all(one["ok"] for one in told) else ExitCode.FAILED


@command.command("replay", epilog=EPILOG)
@_seed
@_file
@_trial_options
@debug_option
@click.pass_obj
def replay_command(face: Face, /, seed: int, file: Path, **asked: Any) -> int:
    """Run one seed again and print its timeline, and what was found. The options must be those of the run."""
    from engine.cli.sim_file import Asked, one_test_in
    from engine.simulation.seeds import run_one

    one = one_test_in(file, Asked(**asked))
    done = run_one(seed, one.test, one.settings)
    for line in done.timeline():
        face.out(line)
        if face.is_cut:
            break
    face.out()
    for sentence in done.report.found or ["nothing was found"]:
        face.out(f"seed {seed} of {one.name}: {sentence}")
    return ExitCode.FAILED if done.report.found else ExitCode.FINISHED


@command.command("timeline", epilog=EPILOG)
@_seed
@_file
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=LANES,
    show_default=True,
    metavar="HTML",
    help="Where to write it.",
)
@_trial_options
@debug_option
@click.pass_obj
def timeline_command(face: Face, /, seed: int, file: Path, out: Path, **asked: Any) -> int:
    """Run one seed again and draw it: a lane for each node, as one HTML file that needs no network."""
    from engine.cli.sim_file import Asked, one_test_in
    from engine.simulation.lanes import Watch, story_of
    from engine.simulation.lanes_page import page_of
    from engine.simulation.seeds import run_one

    one, watch = one_test_in(file, Asked(**asked)), Watch()
    done = run_one(seed, one.test, one.settings, [watch])
    if done.simulation is None:
        raise Ended(ExitCode.FAILED, f"seed {seed} of {one.name} could not begin: {'; '.join(done.report.found)}")
    page = page_of(story_of(done.simulation, watch, done.report.found, f"seed {seed} of {one.name}"))
    try:
        out.write_text(page, "utf-8")
    except OSError as error:
        raise Ended(ExitCode.STATE, f"{out} can not be written: {error.strerror or error}.") from None
    for sentence in done.report.found:
        face.err(f"seed {seed} of {one.name}: {sentence}")
    face.out(f"Wrote {out} ({len(page) // 1_000:,} kB); open it in a browser.")
    return ExitCode.FINISHED


def _ran(face: Face, one: Any, seeds: int | None, again: str, *, json: bool) -> dict[str, Any]:
    """Run the seeds of one test and say what came of them. `again`: the command that replays a seed, with `{}`."""
    from engine.simulation.report import Totals
    from engine.simulation.seeds import SimulationFailed, corpus_of, run_seeds

    totals = Totals()
    failure: dict[str, Any] | None = None
    numbers = range(one.settings.seeds if seeds is None else seeds)
    try:
        run_seeds(one, numbers, totals, corpus=corpus_of(one, face.err), tell=face.err)
    except SimulationFailed as failed:
        replay = again.format(failed.seed)
        failure = {"seed": failed.seed, "found": failed.found, "replay": replay, "kept": failed.kept or None}
    except KeyboardInterrupt:
        if not json:
            _say(face, one.name, totals)
        raise
    if not json:
        _say(face, one.name, totals)
        if any(NO_VARIABLE in ending for ending in totals.endings):
            face.out(f"  {JOBS_HINT}")
        if failure is not None:
            _say_failure(face, one.name, failure)
    never = [] if failure is not None else totals.never()
    if never:
        face.err(f"In none of {totals.seeds} seeds of {one.name}: {'; '.join(never)}. Try more seeds.")
    is_ok = failure is None and not never
    return {"test": one.name, "ok": is_ok, "failure": failure, "never": never, **totals.figures()}


def _say(face: Face, name: str, totals: Any) -> None:
    face.out(name)
    for line in totals.lines():
        face.out(f"  {line}")


def _say_failure(face: Face, name: str, failure: dict[str, Any]) -> None:
    found = failure["found"]
    face.out(f"  FAILED at seed {failure['seed']}:")
    lines = [line for sentence in found for line in sentence.splitlines()]
    for line in lines[:FOUND_SHOWN]:
        face.out(f"    {line}")
    if len(lines) > FOUND_SHOWN:
        face.out(f"    … and {len(lines) - FOUND_SHOWN} more")
    face.out(f"  Replay it: {failure['replay']}")
    if failure["kept"]:
        face.out(f"  It is kept in {failure['kept']} and will be run first.")


def _with_test(asked: Any, file: Path, name: str) -> Any:
    """Name the test in the command that replays it: a Python file may have several."""
    import msgspec

    return msgspec.structs.replace(asked, test=name) if file.suffix == ".py" else asked
