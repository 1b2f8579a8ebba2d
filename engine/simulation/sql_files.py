"""The files of a simulated disk below SQLite: what is on the disk, what is only in the page cache. Floor 10.

* A write counts once a sync of its file has come behind it. A power cut loses any part of what was not synced: each
  write wholly, from any sector of it on, or not at all, in any combination.
* After a sync that failed, the kernel may call the pages clean that it could not write: no later sync writes them.
* Making and removing a file counts at once, as on a journaling file system.
"""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

SECTOR_BYTES = 512


class Change(NamedTuple):
    """A write at a place, or a new length (`content` None)."""

    place: int
    content: bytes | None


class SimFile:
    """One file."""

    def __init__(self, durable: bytes = b"") -> None:
        self.durable = bytearray(durable)
        self.pending: list[Change] = []

    def sync(self) -> None:
        """Bring everything to the disk."""
        for change in self.pending:
            apply(self.durable, change)
        self.pending.clear()

    def forget(self) -> None:
        """Take for written what was not."""
        self.pending.clear()

    def after_cut(self, random: Random) -> tuple[bytes, bool]:
        """Return the content after a power cut now, and whether a write was torn."""
        content, is_torn = bytearray(self.durable), False
        for change in self.pending:
            fate = random.random()
            if fate < 0.4:
                continue
            if fate < 0.6 and change.content is not None:
                is_torn = True
                for start in range(0, len(change.content), SECTOR_BYTES):
                    if random.random() < 0.5:
                        apply(content, Change(change.place + start, change.content[start : start + SECTOR_BYTES]))
                continue
            apply(content, change)
        return bytes(content), is_torn


def apply(content: bytearray, change: Change) -> None:
    """Carry out one change."""
    if change.content is None:
        del content[change.place :]
        content.extend(bytes(change.place - len(content)))
        return
    content.extend(bytes(max(change.place - len(content), 0)))
    content[change.place : change.place + len(change.content)] = change.content


class SimFiles:
    """The files of one folder. Implements the Watcher of sql_vfs."""

    def __init__(self, contents: dict[str, bytes], fails: Callable[[str], int] = lambda _: 0) -> None:
        """`fails(what)` is asked before each `write` and `sync` for the error code it is to end with."""
        self.files = {name: SimFile(content) for name, content in contents.items()}
        self.forgets = False  # whether a sync that fails loses what it should have written
        self.seen = 0  # changes and syncs
        self._fails = fails
        self._recorded: list[Callable[[], object]] | None = None

    def record(self) -> list[Callable[[], object]]:
        """From now on note what happens and do it not: whoever has the list may do the first so many of it."""
        self._recorded = []
        return self._recorded

    def cut(self, random: Random) -> tuple[dict[str, bytes], bool]:
        """Return the contents after a power cut now, and whether a write was torn."""
        left, is_torn = {}, False
        for name, file in self.files.items():
            left[name], torn = file.after_cut(random)
            is_torn = is_torn or torn
        return left, is_torn

    # --- told by SQLite

    def wrote(self, name: str, place: int, content: bytes) -> int:
        code = self._fails("write")
        if not code:
            self._do(lambda: self._file(name).pending.append(Change(place, content)))
        return code

    def truncated(self, name: str, size_bytes: int) -> None:
        self._do(lambda: self._file(name).pending.append(Change(size_bytes, None)))

    def synced(self, name: str) -> int:
        code = self._fails("sync")
        if not code:
            self._do(lambda: self._file(name).sync())
        elif self.forgets:
            self._do(lambda: self._file(name).forget())
        return code

    def removed(self, name: str) -> None:
        self._do(lambda: self.files.pop(name, None))

    def _do(self, act: Callable[[], object]) -> None:
        self.seen += 1
        if self._recorded is None:
            act()
        else:
            self._recorded.append(act)

    def _file(self, name: str) -> SimFile:
        return self.files.setdefault(name, SimFile())
