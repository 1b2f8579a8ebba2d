"""Running append_script.py and judging what it left behind."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.journal.inspect import verify
from engine.journal.sqlite_store import SqliteStore, open_sqlite_store
from engine.journal.sqlite_thread import inline_place
from engine.ports import StoreFault
from tests.journal.stores import contents, entries, everything

ROOT = Path(__file__).parents[2]
SCRIPT = str(Path(__file__).with_name("append_script.py"))


def command(path: str, upto: int, synchronous: str = "FULL") -> list[str]:
    return [sys.executable, SCRIPT, path, str(upto), synchronous]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def acked(lines: Sequence[str]) -> int:
    """The highest index that was said to be durable."""
    numbers = [int(match[1]) for line in lines if (match := re.match(r"(?:acked|open) (\d+)$", line))]
    return max(numbers, default=0)


async def assert_sound(path: str, at_least: int) -> int:
    """Everything acknowledged is there, whole and unchanged, and the journal can go on. Returns its end."""
    try:
        assert verify(path).fault is None
    except StoreFault as fault:
        assert at_least == 0, fault
        assert str(fault).startswith("There is no journal"), fault  # killed while it was being made
    store = await open_sqlite_store(path, dial=inline_place)
    try:
        tip = store.tip.index
        assert tip >= at_least, f"record {at_least} was acknowledged, the journal ends at {tip}"
        found = await everything(store)
        assert contents(found) == contents(entries(store.first, tip - store.first + 1, size=200))
        await assert_cells_and_snapshot(store)
    finally:
        await store.close()
    return tip


async def assert_cells_and_snapshot(store: SqliteStore) -> None:
    """The cell came in one transaction with its record; the snapshot is whole and of this log."""
    tip = store.tip.index
    assert int(store.cell("cell") or b"0") == tip // 3 * 3
    saved = await store.snapshot()
    assert store.first == 1 or saved is not None
    if saved is not None:
        assert saved.state == b"%d " % saved.index * 4_000
        assert store.first <= saved.index + 1 <= tip + 1
