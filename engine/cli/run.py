"""`run FILE`: one order on the embedded engine, from a shell. Floor 11.

* Here is what can be said before the engine starts: the options, the document, the values. The rest is in session.py.
* The document is read before the state directory is touched, so that a wrong one changes nothing.
"""

import contextlib
import gc
import sys
from pathlib import Path
from typing import Any

import click

from engine.cli.exits import Ended, ExitCode
from engine.cli.face import Face
from engine.cli.output import debug_option, output_option
from engine.cli.request import DEFAULT_STATE, Request

EPILOG = """\b
Examples:
  python -m engine run workflow.yaml
  python -m engine run workflow.yaml -p year=2015 -p 'cities=["Oslo", "Rome"]'
  python -m engine run workflow.yaml --new --output json | jq .results
  python -m engine run workflow.yaml --release rerun

Ctrl-C lets running attempts end and suspends the order; the same command goes on with it later. A second Ctrl-C
cancels it and kills what runs, a third gives up waiting.

Exit codes: 0 finished, 1 failed, 2 wrong usage, 3 held, 4 cancelled, 5 suspended, 70 a mistake of ours,
74 the state directory can not be used, 75 it is in use, 78 the document is wrong."""


@click.command("run", epilog=EPILOG)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-p", "words", multiple=True, metavar="NAME=VALUE", help="A parameter of the workflow; may be repeated.")
@click.option(
    "--state",
    type=click.Path(),  # its text as given: as a Path nothing would look like the directory one is in
    default=DEFAULT_STATE,
    show_default=True,
    metavar="DIR",
    help="The state directory: journals, output of jobs, logs.",
)
@click.option("--new", is_flag=True, help="Begin a new order, also when an earlier one is unfinished.")
@click.option(
    "--release",
    type=click.Choice(["rerun", "fail"]),
    help="Say what follows the attempts whose end nobody saw, and go on.",
)
@click.option("--id", "order", metavar="ORDER", help="The order's id; with one that is known, this order is meant.")
@output_option
@debug_option
@click.pass_context
def command(
    context: click.Context,
    file: Path,
    words: tuple[str, ...],
    state: str,
    new: bool,
    release: str | None,
    order: str | None,
    output: str,
) -> int:
    """Run the workflow in FILE to its end, or go on with the order that was left unfinished.

    An unfinished order of this workflow in the state directory goes on, on the version of the workflow it began with;
    otherwise a new one begins. The exit code tells how it ended.
    """
    if not state:
        raise Ended(ExitCode.USAGE, "--state needs the name of a directory; write --state . for this one.")
    if new and release:
        raise Ended(ExitCode.USAGE, "--release is for an order that waits, --new begins another one; leave one out.")
    program = context.find_root().info_name or "python -m engine"
    request = Request(file, Path(state), words, new, release, order, program)
    return run(context.ensure_object(Face), request, output)


def run(face: Face, request: Request, output: str) -> int:
    """Run one order and say how it ended; returns the exit code, raises Ended."""
    gc.disable()  # importing makes a hundred thousand objects and no garbage; a third of the start went into the search
    try:
        import asyncio

        from engine.cli.closing import say_ending
        from engine.cli.document import read_workflow
        from engine.cli.log import Logging
        from engine.cli.session import Session
        from engine.cli.values import given_values
        from engine.language import standard_language

        gc.freeze()
    finally:
        gc.enable()
    workflow = read_workflow(request.file, standard_language())
    given = given_values(workflow, request.words)
    folder = str(request.file.absolute().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # so that a callable beside the document is found; behind everything else

    json = output == "json"
    screen = _screen(face, json)
    with Logging(debug=face.debug) as log, contextlib.redirect_stdout(sys.stderr) if json else contextlib.nullcontext():
        session = Session(request, workflow, given, face, screen, log)
        ending = asyncio.run(session.run())
    say_ending(face, request, ending.code, ending.table, ending.order, json=json)
    return ending.code


def _screen(face: Face, json: bool) -> Any:
    from engine.cli.lines import PlainScreen, SilentScreen

    if json:
        return SilentScreen(face)
    if face.is_terminal and not face.debug:
        from engine.cli.tree import LiveScreen

        return LiveScreen(face)
    return PlainScreen(face)
