"""The file format's version: which file is ours, and how an older one becomes today's. Floor 4.

* `PRAGMA application_id` says whose file it is, `PRAGMA user_version` how many of the numbered SQL files were applied.
* Each SQL file is applied in one transaction together with its number; a file of a newer version is refused.
* SQL files are never edited once released: a change of the format is a new file.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from functools import cache
from importlib import resources

from engine.ports import StoreFault

APPLICATION_ID = 0x554E4453  # "UNDS"


@cache
def migrations() -> tuple[str, ...]:
    """Read the numbered SQL files in their order; the n-th one leads to version n."""
    folder = resources.files("engine.journal").joinpath("migrations")
    files = sorted((one for one in folder.iterdir() if one.name.endswith(".sql")), key=lambda one: one.name)
    for number, one in enumerate(files, 1):
        if not one.name.startswith(f"{number:04}_"):
            raise RuntimeError(f"engine/journal/migrations/{one.name} should begin with {number:04}_")
    return tuple(one.read_text(encoding="utf-8") for one in files)


def newest_version() -> int:
    """Return the version this program writes."""
    return len(migrations())


def stored_version(connection: sqlite3.Connection, path: str) -> int:
    """Return the version of a file, 0 for an empty one; raises StoreFault for a foreign or a newer one."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == 0 and version == 0 and tables == 0:
        return 0
    if application != APPLICATION_ID:
        raise StoreFault(f"{path} is an SQLite file, but not a journal of ours; choose another state directory.")
    if version > newest_version():
        raise StoreFault(
            f"The journal {path} has version {version}, this program knows versions up to {newest_version()};"
            " start it with the newer program, or choose another state directory."
        )
    if version == 0:
        raise StoreFault(f"The journal {path} is damaged: its header lost the version. It was left as it is.")
    return int(version)


def migrate(connection: sqlite3.Connection, path: str) -> int:
    """Bring a file to the newest version and return the one it had; raises StoreFault as `stored_version` does."""
    before = stored_version(connection, path)
    for number, script in enumerate(migrations()[before:], before + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # the first error is the one to tell
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    return before


def statements(script: str) -> Iterator[str]:
    """Split a script into statements, because `executescript` would commit behind our back."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement.strip()
            statement = ""
