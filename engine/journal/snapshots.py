"""Snapshots made by a process of their own, so that the loop never stops for one. Floor 4.

* `ProcessSnapshotMaker` is the node's half: it starts a program, waits for it in bounded time, and reads what it wrote.
* `make_snapshot_file` is the program's half: it reads the journal beside the running node, read-only, checks the chain,
  lets the caller replay, and writes the state to a file with a digest over everything.
* A snapshot that fails is no harm: `SnapshotFailed` is for the log, and the journal keeps its older one.
"""

import asyncio
import contextlib
import os
import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator

import msgspec

from engine.base.codec import encode
from engine.journal.faults import damage
from engine.journal.migrate import stored_version
from engine.journal.record import HASH_BYTES, ChainBroken
from engine.journal.refusals import READ_RECORDS_MAX
from engine.journal.sqlite_read import connect_reader, load, read_records, read_snapshot, snapshot_digest
from engine.ports import Record, Snapshot, Tip

TIME_MS_MAX = 600_000  # of one snapshot; then its process is killed
NICENESS = 10
COMPLAINT_BYTES_MAX = 4_096  # the end of what the program wrote to stderr
READ_BYTES_MAX = 4 << 20

_MAGIC = b"UNDSNAP1"
_length = struct.Struct("<I")
_HEAD_BYTES_MAX = 1_024

Replay = Callable[[Snapshot | None, Iterable[Record]], bytes]


class SnapshotFailed(Exception):
    """No snapshot came of it; the sentence says why. The node goes on with the one it has."""


class _Head(msgspec.Struct, frozen=True, array_like=True):
    index: int
    epoch: int
    hash: bytes
    digest: bytes
    size: int


class ProcessSnapshotMaker:
    """Makes snapshots by running a program, one at a time."""

    def __init__(self, argv: Callable[[str, int], list[str]], scratch: str, *, time_ms_max: int = TIME_MS_MAX) -> None:
        """`argv` builds the command line from the file to be written (`scratch`, ours alone) and the index."""
        self._argv = argv
        self._scratch = scratch
        self._time_ms_max = time_ms_max
        self._one_at_a_time = asyncio.Lock()

    async def make(self, upto: int) -> Snapshot:
        """Make the snapshot behind record `upto`, which must be acknowledged; raises SnapshotFailed.

        Cancelling it kills the process.
        """
        async with self._one_at_a_time:
            try:
                _remove(self._scratch)
                await self._run(self._argv(self._scratch, upto))
                # The state may be large, and its digest takes a second per GiB: not on the loop.
                snapshot = await asyncio.to_thread(read_snapshot_file, self._scratch)
            except OSError as error:
                raise SnapshotFailed(f"the snapshot behind record {upto} failed: {error}") from error
            finally:
                with contextlib.suppress(OSError):
                    _remove(self._scratch)
        if snapshot.index != upto:
            raise SnapshotFailed(f"the snapshot behind record {upto} turned out to be one behind {snapshot.index}")
        return snapshot

    async def _run(self, argv: list[str]) -> None:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            with contextlib.suppress(OSError):  # it may be over already
                os.setpriority(os.PRIO_PROCESS, process.pid, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
            async with asyncio.timeout(self._time_ms_max / 1_000):
                complaint = await _read_end(process.stderr)
                code = await process.wait()
        except TimeoutError:
            raise SnapshotFailed(f"the snapshot took longer than {self._time_ms_max} ms and was given up") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if code != 0:
            raise SnapshotFailed(f"the snapshot's process ended with {code}: {complaint or 'it said nothing'}")


def make_snapshot_file(journal: str, upto: int, out: str, replay: Replay) -> None:
    """Replay a journal up to record `upto` and write the state to the file `out`.

    `replay` gets the journal's snapshot (None: begin blank) and the records behind it up to `upto`, which it must take
    to the end, and returns the encoded state. Raises StoreFault, SnapshotFailed, OSError.
    """
    connection = connect_reader(journal)
    try:
        if stored_version(connection, journal) == 0:
            raise SnapshotFailed(f"there is no journal at {journal}")
        saved = read_snapshot(connection, journal)
        log = load(connection, journal).log
        walk = _Walk(Tip(saved.index, saved.epoch, saved.hash) if saved else log.base)
        if not walk.tip.index <= upto <= log.tip.index:
            span = f"{walk.tip.index} to {log.tip.index}"
            raise SnapshotFailed(f"a snapshot behind record {upto} cannot be made: the journal has {span}")
        state = replay(saved, walk.records(lambda at: _next(connection, journal, at, upto), upto))
    finally:
        connection.close()
    if walk.tip.index != upto:
        raise SnapshotFailed(f"the replay stopped behind record {walk.tip.index} instead of {upto}")
    write_snapshot_file(out, Snapshot(upto, walk.tip.epoch, walk.tip.hash, state))


class _Walk:
    """Where a replay stands."""

    def __init__(self, start: Tip) -> None:
        self.tip = start

    def records(self, read: Callable[[Tip], tuple[list[Record], Tip]], upto: int) -> Iterator[Record]:
        end = self.tip
        while end.index < upto:
            batch, end = read(end)
            yield from batch
            self.tip = end


def _next(connection: sqlite3.Connection, journal: str, at: Tip, upto: int) -> tuple[list[Record], Tip]:
    count = min(READ_RECORDS_MAX, upto - at.index)
    try:
        records, end = read_records(connection, at, records_max=count, bytes_max=READ_BYTES_MAX)
        if not records:
            raise ChainBroken(at.index + 1, "is missing")
    except ChainBroken as broken:
        raise damage(journal, broken) from None
    except LookupError:
        raise SnapshotFailed(f"the journal was replaced while record {at.index + 1} was to be read") from None
    return records, end


def write_snapshot_file(path: str, snapshot: Snapshot) -> None:
    """Write a snapshot to a file, durably, with a digest over all of it."""
    digest = snapshot_digest(snapshot)
    head = encode(_Head(snapshot.index, snapshot.epoch, snapshot.hash, digest, len(snapshot.state)))
    with open(path, "wb") as file:
        file.write(_MAGIC + _length.pack(len(head)) + head)
        file.write(snapshot.state)
        file.flush()
        os.fsync(file.fileno())


def read_snapshot_file(path: str) -> Snapshot:
    """Read a snapshot from a file and check it; raises SnapshotFailed, OSError."""
    with open(path, "rb") as file:
        start = file.read(len(_MAGIC) + _length.size)
        if len(start) < len(_MAGIC) + _length.size or not start.startswith(_MAGIC):
            raise SnapshotFailed(f"{path} is not a snapshot")
        (size,) = _length.unpack_from(start, len(_MAGIC))
        try:
            head = msgspec.msgpack.decode(file.read(min(size, _HEAD_BYTES_MAX)), type=_Head)
        except msgspec.MsgspecError as error:
            raise SnapshotFailed(f"{path} is not a snapshot: {error}") from None
        snapshot = Snapshot(head.index, head.epoch, head.hash, file.read(head.size + 1))
    whole = len(snapshot.state) == head.size and len(head.hash) == HASH_BYTES
    if not whole or snapshot_digest(snapshot) != head.digest:
        raise SnapshotFailed(f"{path} is not whole")
    return snapshot


async def _read_end(stream: asyncio.StreamReader | None) -> str:
    end = b""
    while stream is not None and (chunk := await stream.read(COMPLAINT_BYTES_MAX)):
        end = (end + chunk)[-COMPLAINT_BYTES_MAX:]
    return end.decode("utf-8", "replace").strip()


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
