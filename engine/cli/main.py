"""The command line's frame: which commands there are, and what a person sees when something goes wrong. Floor 11.

* `--help` and the names of commands cost no import of theirs; a command's module is imported when it is called.
* A person's mistake is one sentence and an exit code. A mistake of ours is one line, its details in a crash file.
"""

import difflib
import importlib
import traceback
from collections.abc import Sequence
from typing import Any

import click

from engine.cli.exits import Ended, ExitCode
from engine.cli.face import Face

# name → what it does; the command is `command` in the module engine.cli.<name>
COMMANDS = {
    "run": "Run a workflow to its end, or go on with the order that was left.",
    "check": "Say everything that is wrong with workflow documents.",
    "init": "Write a small workflow that runs.",
    "journal": "Look into journals: verify, dump, stat.",
    "sim": "Run a workflow, or tests of it, in simulated clusters under faults.",
    "version": "Say which versions this is made of.",
}

EPILOG = """\b
Examples:
  python -m engine init
  python -m engine run workflow.yaml
  python -m engine run workflow.yaml -p year=2015 --output json
  python -m engine check workflow.yaml

`COMMAND --help` tells more. Exit codes: docs/exit-codes.md."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, and which knows what a mistyped one may mean."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"engine.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"There is no command {args[0]!r}{meant(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)


def meant(word: str, known: Sequence[str] | dict[str, str]) -> str:
    """Return the end of a sentence about a wrong word: what it may have been meant to be, or what there is."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f": did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}."


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
def root() -> None:
    """Understudy: run workflows of jobs, and go on where they were when something dies."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `arguments` are those of the process if none are given."""
    face = Face()
    try:
        code = _ended(face, arguments)
    except Ended as ended:
        if ended.sentence:
            face.err(ended.sentence)
        code = ended.code
    except (KeyboardInterrupt, click.Abort):
        face.err("Interrupted.")
        code = ExitCode.INTERRUPTED
    except BrokenPipeError as error:
        face.cut(error)
        code = ExitCode.FINISHED
    except Exception as error:  # noqa: BLE001 - the outermost frame: nobody above could say it better
        from engine.cli.crash import report_crash

        report_crash(face, error)
        code = ExitCode.MISTAKE
    # Who stopped or said less because its output can not be written needs the disk mended, whatever else is well.
    return ExitCode.STATE if face.fault and code in (ExitCode.FINISHED, ExitCode.SUSPENDED) else code


def _ended(face: Face, arguments: Sequence[str] | None) -> ExitCode:
    """Run the command; click's own complaints become usage errors."""
    try:
        answer: Any = root.main(args=None if arguments is None else [*arguments], obj=face, standalone_mode=False)
    except SystemExit:  # click leaves so when standard output is gone, and for no other reason
        face.cut(BrokenPipeError())
        return ExitCode.FINISHED
    except OSError as error:
        if not _was_echoing(error):
            raise
        face.cut(error)
        return ExitCode.FINISHED
    except click.exceptions.NoArgsIsHelpError as asked:
        face.err(asked.ctx.get_help())
        return ExitCode.USAGE
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        if context is not None:
            face.err(context.get_usage())
            face.err(f"Try '{context.command_path} --help' for help.")
            face.err()
        raise Ended(ExitCode.USAGE, f"Error: {error.format_message()}") from None
    return ExitCode(answer) if isinstance(answer, int) else ExitCode.FINISHED


def _was_echoing(error: OSError) -> bool:
    """Tell whether click failed to write its own words (the help), which do not go through the face."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code is click.echo.__code__ for frame, _ in frames)
