"""`init [DIR]`: a small workflow that runs, to begin with. Floor 11."""

import os
import shlex
from pathlib import Path

import click

from engine.cli.exits import Ended, ExitCode
from engine.cli.face import Face
from engine.cli.output import debug_option

FILE_NAME = "workflow.yaml"

EPILOG = """\b
Examples:
  python -m engine init
  python -m engine init my-flow && python -m engine run my-flow/workflow.yaml"""

TEMPLATE = """\
# A workflow for Understudy. Run it, kill it, run it again: it goes on where it was.
#
#   {run}
#   {run} -p name=Ada
#   {check}
#
# Jobs get variables in their environment, never pasted into their text. A line name=value that a job writes into the
# file $UNDERSTUDY_RESULT becomes a variable of the order.
name: first

parameters:
  name:
    type: string
    default: world
    description: who is greeted

steps:
  - job: greet
    shell: |
      echo "Hello, $NAME!"
      echo "greeting=Hello, $NAME!" > "$UNDERSTUDY_RESULT"
    environment:
      NAME: ${name}

  # Two branches at the same time. The order goes on when both have ended, with what they said.
  - fork:
      loud:
        - job: shout
          shell: echo "said=$(echo "$GREETING" | tr '[:lower:]' '[:upper:]')" > "$UNDERSTUDY_RESULT"
          environment:
            GREETING: ${greeting}
      slow:
        - sleep: 1s
        - job: whisper
          shell: echo "said=$(echo "$GREETING" | tr '[:upper:]' '[:lower:]')" > "$UNDERSTUDY_RESULT"
          environment:
            GREETING: ${greeting}
    collect: [said]

results:
  greeting: ${greeting}
  echoes: ${said}
"""


@click.command("init", epilog=EPILOG)
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Write it over a file that is there.")
@debug_option
@click.pass_context
def command(context: click.Context, folder: Path, force: bool) -> int:
    """Write a small workflow into DIR (this directory if none is given) and say how to run it."""
    face = context.ensure_object(Face)
    program = context.find_root().info_name or "python -m engine"
    path = folder / FILE_NAME
    run, check = (f"{program} {name} {shlex.quote(str(path))}" for name in ("run", "check"))
    text = TEMPLATE.replace("{run}", run).replace("{check}", check)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
        with open(os.open(path, flags, 0o666), "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        which = path if path.exists() else folder
        raise Ended(ExitCode.STATE, f"{which} is there already; choose another directory, or add --force.") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise Ended(ExitCode.STATE, f"{path} can not be written: {reason}; choose another directory.") from None
    face.out(f"Wrote {path}. Run it:")
    face.out(f"  {run}")
    return ExitCode.FINISHED
