"""SqlDisk: a simulated disk on which a node's journal is the real one: SQLite's files, and our own SQL. Floor 10.

* The store is the journal's own SqliteStore; its functions run inline, in virtual time, and the files lie in a folder
  of the environment's. Simulated code never names them: the disk is the exception from the rule that nodes have none.
* A write of the store takes the time of an fsync, and then happens at once. A power cut in that time runs it up to one
  of its system calls, as the seed says, and loses any part of what was not synced by then.
* After a cut the files lie in a new folder; whatever a dead incarnation still holds belongs to the old one.
* What is durable is read from the files, never kept beside them.
* No draw depends on bytes that SQLite makes up (the salts of its log): the same seed gives the same cuts.
"""

import contextlib
import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, TypeVar

from engine.journal.faults import FAULTS
from engine.journal.memory import Image
from engine.journal.sqlite_read import load, read_records, read_snapshot, read_tip
from engine.journal.sqlite_store import SqliteStore, open_sqlite_store
from engine.journal.sqlite_thread import Connector, SqlitePlace
from engine.ports import Record, StoreFault, Tip
from engine.simulation.disk import QUICK, DiskPace, SimDisk
from engine.simulation.sql_files import SimFiles
from engine.simulation.sql_vfs import close_quietly, connect_watched, unwatch, watch

NAME = "journal.db"
READ_RECORDS = 1_000
READ_BYTES = 64 << 20
IOERR_FSYNC, FULL = 1_034, 13  # SQLite's own codes

T = TypeVar("T")


class SqlDisk(SimDisk):
    """The disk of one node. `dispose` closes what is open and removes the files."""

    def __init__(
        self,
        folder: str,
        random: Random,
        pace: DiskPace = QUICK,
        on_durable: Callable[[list[Record]], None] | None = None,
        *,
        on_dropped: Callable[[int], None] = lambda _: None,
        on_installed: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`folder`: an existing one of this disk's own, best on a file system in memory."""
        super().__init__(random, pace, on_durable, on_dropped=on_dropped, on_installed=on_installed)
        self._root = os.path.realpath(folder)
        self._places: list[_Place] = []  # open connections
        self._waiting: tuple[_Place, Callable[[sqlite3.Connection], object]] | None = None  # a write under way
        self._failing = 0  # the errno with which the present write is to fail
        self._moves = 0
        self._folder = ""
        self._files = SimFiles({})
        self._serial = 0  # of the snapshot in the image
        self._move({})

    @property
    def path(self) -> str:
        """Where the journal lies at present."""
        return os.path.join(self._folder, NAME)

    async def open_store(self, name: str, check: Callable[[str], None] = lambda _: None) -> SqliteStore:
        """Open the journal for a new incarnation, as the real world does; raises StoreFault."""
        self._incarnation += 1
        number = self._incarnation

        async def dial(connector: Connector) -> SqlitePlace:
            self.refuse_dead(number)
            place = _Place(self, number, connect_watched(connector), check)
            self._places.append(place)
            return place

        return await open_sqlite_store(self.path, prove_first=False, dial=dial)

    def refuse_dead(self, incarnation: int) -> None:
        """Refuse what an earlier incarnation wants; raises StoreFault."""
        if incarnation != self._incarnation:
            raise StoreFault("The journal belongs to another incarnation now.")

    async def carry_out(self, place: "_Place", function: Callable[[sqlite3.Connection], T]) -> T:
        """Do one write of the store."""
        self._waiting = (place, function)
        number = await self.pause()
        self.refuse_dead(place.incarnation)
        self._waiting, self._failing = None, number
        try:
            result = function(place.connection)
        finally:
            self._failing = 0
        self._look(place.connection)
        return result

    def let_go(self, place: "_Place") -> None:
        """Close a connection; whoever closes last carries the log over, with syncs of its own."""
        if place in self._places:
            self._places.remove(place)
            close_quietly(place.connection)

    def _fails(self, what: str) -> int:
        if self._failing == errno.ENOSPC and what == "write":
            return FULL
        if self._failing not in (0, errno.ENOSPC) and what == "sync":
            self._files.forgets = self.random.random() < 0.5
            return IOERR_FSYNC
        return 0

    # --- power cuts and other disks

    def lose_power(self) -> None:
        """Cut the power in the middle of what is being written, if anything is; every open store is refused."""
        before, is_writing = self._durable.tip, self._waiting is not None
        self._write_a_part()
        left, is_torn = self._files.cut(self.random)
        self._move(left)
        self._durable = self._read_image()
        self.counts["crashes"] += 1
        is_kept = self._durable.tip != before
        self.counts["kept_writes"] += is_kept
        self.counts["lost_writes"] += is_writing and not is_kept
        self.counts["torn_writes"] += is_torn
        self._tell()

    def replace(self) -> None:
        self._move({})
        self._serial = 0
        super().replace()

    def backup(self) -> Any:
        """Return the files as they are now."""
        return self._contents()

    def restore(self, backup: Any, forget: Sequence[str] = ()) -> None:
        self._move(backup)
        self._edit(lambda connection: connection.executemany("DELETE FROM cell WHERE name = ?", [(n,) for n in forget]))
        self._sound = None
        self._durable = self._read_image()
        self.counts["restored"] += 1
        self._tell()

    def damage(self, index: int) -> None:
        """Flip a bit in the events of a durable record, in the file. While the node is down."""
        super().damage(index)
        flipped = self._durable.records[index - self._durable.base.index - 1].events
        change = "UPDATE record SET events = ? WHERE number = ?"
        self._edit(lambda connection: connection.execute(change, (flipped, index)))

    def dispose(self) -> None:
        """Close what is open and remove all files."""
        self._leave()
        shutil.rmtree(self._root, ignore_errors=True)

    def _write_a_part(self) -> None:
        if self._waiting is None:
            return
        (place, function), self._waiting = self._waiting, None
        steps = self._files.record()
        with contextlib.suppress(*FAULTS, StoreFault):
            function(place.connection)
        for step in steps[: self.random.randint(0, len(steps))]:
            step()

    def _move(self, contents: Mapping[str, bytes]) -> None:
        """Let the files lie in a new folder, out of the reach of what is open."""
        self._leave()
        self._moves += 1
        self._folder = os.path.join(self._root, str(self._moves))
        _lay_out(self._folder, contents)
        self._begin(contents)

    def _begin(self, contents: Mapping[str, bytes]) -> None:
        self._files = SimFiles(dict(contents), self._fails)
        watch(self._folder, self._files)

    def _leave(self) -> None:
        self._incarnation += 1
        self._waiting = None
        unwatch(self._folder)
        self._files.record()  # what is closed below belongs to nobody any more
        for place in self._places:
            close_quietly(place.connection)
        self._places.clear()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _contents(self) -> dict[str, bytes]:
        contents = {}
        for name in sorted(self._files.files):
            with open(os.path.join(self._folder, name), "rb") as file:
                contents[name] = file.read()
        return contents

    def _edit(self, act: Callable[[sqlite3.Connection], object]) -> None:
        """Change the files from outside, as a person or a cosmic ray does."""
        connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            act(connection)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()
        with open(self.path, "rb") as file:
            self._begin({NAME: file.read()})

    # --- what is durable

    def _read_image(self) -> Image:
        """Read all that is in the files, from a copy of them; nothing where they can not be read."""
        copy = os.path.join(self._root, "look")
        _lay_out(copy, self._contents())
        connection = sqlite3.connect(os.path.join(copy, NAME), isolation_level=None)
        self._durable, self._serial = Image(), 0
        try:
            self._take(connection)
            return self._durable
        except (*FAULTS, StoreFault):
            return Image()  # if anything was told of it, the checkers miss it now
        finally:
            connection.close()
            shutil.rmtree(copy)

    def _look(self, connection: sqlite3.Connection) -> None:
        """Take in what a write has changed."""
        self._take(connection)
        self._tell()

    def _take(self, connection: sqlite3.Connection) -> None:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'log'").fetchone() is None:
            return  # the tables are still to be made
        image, loaded = self._durable, load(connection, self.path)
        base, tip, saved = loaded.log
        image.cells = loaded.cells
        if (0 if saved is None else saved.serial) != self._serial:
            image.saved, self._serial = read_snapshot(connection, self.path), 0 if saved is None else saved.serial
        if image.base != base:
            kept = image.records[base.index - image.base.index :] if image.tip_at(base.index) == base else []
            image.base, image.records = base, kept
        while image.tip.index > tip.index or (image.records and not _is_stored(connection, image.tip)):
            image.records.pop()
        while image.tip.index < tip.index:
            records, _ = read_records(connection, image.tip, records_max=READ_RECORDS, bytes_max=READ_BYTES)
            if not records:
                return
            image.records += records


class _Place:
    """Where one connection of one incarnation lives. Implements SqlitePlace."""

    def __init__(
        self, disk: SqlDisk, incarnation: int, connection: sqlite3.Connection, check: Callable[[str], None]
    ) -> None:
        self.incarnation = incarnation
        self.connection = connection
        self._disk = disk
        self._check = check
        (only_reads,) = connection.execute("PRAGMA query_only").fetchone()
        self._writes = not only_reads

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        self._disk.refuse_dead(self.incarnation)
        if not self._writes:
            return function(self.connection)
        self._check("fsync")
        return await self._disk.carry_out(self, function)

    async def close(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        self._disk.let_go(self)


def _is_stored(connection: sqlite3.Connection, tip: Tip) -> bool:
    return read_tip(connection, tip.index) == tip


def _lay_out(folder: str, contents: Mapping[str, bytes]) -> None:
    os.makedirs(folder)
    for name, content in contents.items():
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content)
