"""`version`: which versions this is made of. Floor 11."""

import importlib.metadata
import platform
import sqlite3

import click

from engine.base.wire import FEATURE_LEVEL
from engine.cli.face import Face
from engine.cli.output import output_option, write_json

DISTRIBUTION = "understudy"

EPILOG = """\b
Examples:
  python -m engine version
  python -m engine version --output json"""


@click.command("version", epilog=EPILOG)
@output_option
@click.pass_obj
def command(face: Face, output: str) -> None:
    """Say which versions this is made of.

    The feature level is what nodes tell each other: the highest kind of message and event they understand.
    """
    try:
        own = importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        own = "not installed"
    found = {
        DISTRIBUTION: own,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "feature_level": FEATURE_LEVEL,
    }
    if output == "json":
        write_json(face, found)
        return
    face.out(f"{DISTRIBUTION} {own}")
    face.out(f"Python {found['python']}, SQLite {found['sqlite']}, feature level {FEATURE_LEVEL}")
