"""`journal verify | dump | stat | restored`: look into journals without an engine, or beside one. Floor 11.

* Nothing is ever written, but by `restored`, which needs the state directory for itself.
* PATH is one journal, or a state directory with a journal for each of its nodes.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from engine.cli.exits import Ended, ExitCode
from engine.cli.face import Face
from engine.cli.output import debug_option, output_option, write_json, write_json_line
from engine.cli.request import DEFAULT_STATE

JOURNAL_NAME = "journal.db"
MAIN_NODE = "controller"
LINES_MAX = 10_000  # unless another limit is given
RECORDS_AT_ONCE = 1_000

EPILOG = """\b
Examples:
  python -m engine journal verify
  python -m engine journal dump .understudy --order report-1
  python -m engine journal dump .understudy/agent-local/journal.db --after 100 --limit 20
  python -m engine journal stat --output json
  python -m engine journal restored .understudy

Exit codes: 0 sound, 1 damaged, 74 there is no journal or it can not be read."""

_path = click.argument("path", metavar="[PATH]", default=DEFAULT_STATE, type=click.Path(path_type=Path))


@click.group("journal", epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Look into journals. PATH is a state directory or a journal.db, and .understudy if none is given."""


@command.command("verify", epilog=EPILOG)
@_path
@output_option
@debug_option
@click.pass_obj
def verify_command(face: Face, path: Path, output: str) -> int:
    """Check every record, snapshot and page; a damaged journal is named with the number of the record."""
    from engine.journal.inspect import verify

    found = [_asked(verify, one) for one in journals_in(path)]
    if output == "json":
        write_json(face, {"ok": all(one.fault is None for one in found), "journals": found})
    else:
        for one in found:
            snapshot = "no snapshot" if one.snapshot is None else f"snapshot at {one.snapshot}"
            records = f"records {one.first} to {one.last}" if one.last >= one.first else "no records"
            record = "" if one.damaged is None else f"record {one.damaged} "
            state = f"sound, {records}, epoch {one.epoch}, {snapshot}" if one.fault is None else ""
            face.out(f"{one.path}: {state or f'DAMAGED: {_after(one.fault, record)}'}")
    return ExitCode.FINISHED if all(one.fault is None for one in found) else ExitCode.FAILED


@command.command("stat", epilog=EPILOG)
@_path
@output_option
@debug_option
@click.pass_obj
def stat_command(face: Face, path: Path, output: str) -> int:
    """Say what journals hold and what they take on disk."""
    from engine.journal.inspect import stat

    found = [_asked(stat, one) for one in journals_in(path)]
    if output == "json":
        write_json(face, {"journals": found})
        return ExitCode.FINISHED
    for one in found:
        face.out(one.path)
        face.out(
            f"  records {one.first} to {one.last}: {one.records} here, {one.events} events, {one.content_bytes} bytes"
        )
        face.out(f"  on disk {one.file_bytes} bytes, write-ahead log {one.wal_bytes} bytes, format {one.version}")
        snapshot = "none" if one.snapshot is None else f"at record {one.snapshot}, {one.snapshot_bytes} bytes"
        face.out(f"  snapshot {snapshot}; {len(one.epochs)} epochs; cells: {', '.join(one.cells) or 'none'}")
    return ExitCode.FINISHED


@command.command("dump", epilog=EPILOG)
@_path
@click.option("--order", metavar="ORDER", help="Only what is about this order and its branches.")
@click.option(
    "--node", metavar="NODE", help=f"Which node's journal of a state directory; {MAIN_NODE} if none is given."
)
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="N", help="Begin behind this record.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=LINES_MAX, show_default=True, help="At most so many events."
)
@output_option
@debug_option
@click.pass_obj
def dump_command(
    face: Face, path: Path, order: str | None, node: str | None, after: int, limit: int, output: str
) -> int:
    """Write events, one a line: record and place, time in UTC, kind, fields. JSON output is one object a line.

    Journals of other versions can be read too; what is not known is shown as it is stored.
    """
    from engine.cli.records import events_of, line_of

    shown, is_damaged = 0, False
    for one in events_of(_records(_chosen(path, node), after)):
        is_damaged = is_damaged or one.fault is not None
        if one.fault is None and order is not None and not one.is_about(order):
            continue
        if shown == limit:
            face.err(f"There is more: the limit of {limit} is reached. Go on with --after {max(one.index - 1, 0)}.")
            break
        shown += 1
        if output == "json":
            write_json_line(face, one)
        else:
            face.out(line_of(one))
        if face.is_cut:
            break
    if order is not None and shown == 0:
        raise Ended(ExitCode.FAILED, f"There is nothing about order {order} in {_chosen(path, node)}.")
    return ExitCode.FAILED if is_damaged else ExitCode.FINISHED


@command.command("restored", epilog=EPILOG)
@_path
@debug_option
@click.pass_obj
def restored_command(face: Face, path: Path) -> int:
    """Say that a state directory was restored from a copy, before anything is started on it.

    A node of a pair that lacks what was acknowledged since must not pass for the one that had it: its data gets another
    identity, so that the other node fills it again. Nothing else is changed.
    """
    from engine.cli.restoring import renew

    if not path.is_dir():
        raise Ended(ExitCode.USAGE, f"{path} is no directory; name the whole state directory that was restored.")
    found = _asked(partial(renew, journals=journals_in(path)), path)
    for journal, is_renewed in found:
        face.out(f"{journal}: {'has another identity now' if is_renewed else 'is of no pair, and stays as it is'}")
    return ExitCode.FINISHED


def journals_in(path: Path) -> list[Path]:
    """Return the journals a path means: itself, or those of the nodes below it; raises Ended when there is none."""
    if not path.is_dir():
        return [path]
    if (path / JOURNAL_NAME).exists():
        return [path / JOURNAL_NAME]
    found = sorted(path.glob(f"*/{JOURNAL_NAME}"))
    if not found:
        raise Ended(ExitCode.STATE, f"There is no journal in {path}; name a state directory or a {JOURNAL_NAME}.")
    return found


def _chosen(path: Path, node: str | None) -> Path:
    """Return the one journal to be dumped."""
    found = journals_in(path)
    if node is None and len(found) == 1:
        return found[0]
    wanted = node or MAIN_NODE
    for one in found:
        if one.parent.name == wanted:
            return one
    names = ", ".join(one.parent.name for one in found)
    raise Ended(
        ExitCode.USAGE, f"There is no journal of {wanted} in {path}; there are those of {names}: choose with --node."
    )


def _records(path: Path, after: int) -> Iterator[Any]:
    from engine.journal.inspect import dump

    while records := _asked(partial(dump, after=after, limit=RECORDS_AT_ONCE), path):
        yield from records
        after = records[-1].index


def _asked(question: Any, path: Path) -> Any:
    """Ask about a journal; raises Ended when it can not be read."""
    from engine.ports import StoreFault

    try:
        return question(str(path))
    except StoreFault as fault:
        raise Ended(ExitCode.STATE, str(fault)) from None


def _after(fault: str, start: str) -> str:
    return fault if fault.startswith(start) else f"{start}{fault}"
