"""The journal of a node in one SQLite file, behind the `Store` port. Floor 4.

* One asyncio task owns the only connection that writes and checkpoints; it takes everything that waits as one
  transaction (group commit), and a caller's cancellation does not reach it.
* A second, read-only connection serves reads; it sees nothing that is not fsynced.
* A file is proved before the first write to it: by `open_sqlite_store`, or by the writer itself, whom a replay to the
  end saves the chain's proof.
* A refused call (a gap, a cut into the snapshot) raises StoreFault and changes nothing; any other failure is final.
* After a final failure the connections are closed so that SQLite does not carry the write-ahead log over.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar, cast

from engine.base.tasks import TaskScope
from engine.journal.faults import again
from engine.journal.refusals import READ_RECORDS_MAX, refuse_cells
from engine.journal.sqlite_open import guarded, open_reader, prove_chain, prove_pages, replay
from engine.journal.sqlite_read import (
    Loaded,
    Log,
    SnapshotHead,
    read_records,
    read_snapshot,
    snapshot_digest,
)
from engine.journal.sqlite_thread import SqliteDial, SqlitePlace, thread_place
from engine.journal.sqlite_write import (
    Adopt,
    Append,
    DropWaste,
    Install,
    StagePiece,
    Trim,
    Truncate,
    Work,
    checkpoint,
    connect_writer,
    write_group,
)
from engine.ports import Entry, Record, Snapshot, StoreFault, Tip

GROUP_BYTES_MAX = 8 << 20  # of one transaction, unless a single call needs more
GROUP_CALLS_MAX = 4_096
CALLS_WAITING_MAX = 100_000  # waiting for the disk; beyond either bound a call is refused
BYTES_WAITING_MAX = 256 << 20
CHECKPOINT_BYTES = 4 << 20  # written to the write-ahead log between two checkpoints
WAL_BYTES_MAX = 16 << 20  # beyond it reads wait for a checkpoint that empties the log (foreign readers do not)
SNAPSHOT_PIECE_BYTES = 1 << 20
PAGE_BYTES = 4_096
ROW_BYTES = 60  # of a record beside its content, and
GROUP_PAGES = 3  # of a transaction: for the estimate of the write-ahead log's length

T = TypeVar("T")


class _Waiting(NamedTuple):
    work: Work
    done: "asyncio.Future[object]"


async def open_sqlite_store(
    path: str, *, prove_first: bool = True, synchronous: str = "FULL", dial: SqliteDial = thread_place
) -> "SqliteStore":
    """Open the journal at `path`, creating it when it is not there; raises StoreFault with one sentence.

    The caller holds the lock of the state directory. `prove_first=False` leaves the proof to a `replay` from the
    snapshot on, which reads everything anyway; until it has reached the end, nothing is written.
    """
    reader, loaded = await open_reader(path, dial, synchronous)
    try:
        if prove_first:
            await prove_chain(path, reader, loaded.log)
            await prove_pages(path, reader)
    except BaseException:
        await reader.close()
        raise
    return SqliteStore(
        path, reader, loaded, chain_proved=prove_first, pages_proved=prove_first, synchronous=synchronous, dial=dial
    )


class SqliteStore:
    """An open journal; made by `open_sqlite_store`, ended by `close`."""

    def __init__(
        self,
        path: str,
        reader: SqlitePlace,
        loaded: Loaded,
        *,
        chain_proved: bool,
        pages_proved: bool,
        synchronous: str,
        dial: SqliteDial,
    ) -> None:
        self.path = path
        self._reader = reader
        self._writer: SqlitePlace | None = None
        self._connect_writer = partial(connect_writer, path, synchronous)
        self._dial = dial
        self._log: Log = loaded.log
        self._cells = loaded.cells
        self._serial = loaded.serial
        self._chain_proved = chain_proved
        self._pages_proved = pages_proved
        self._queue: deque[_Waiting] = deque()
        self._queue_bytes = 0
        self._wake = asyncio.Event()
        self._fault: StoreFault | None = None
        self._closing = False
        self._snapshot_lock = asyncio.Lock()
        self._reading = asyncio.Lock()  # held by each read, and by a checkpoint that must meet no reader
        self._wal_bytes = 0  # length of the write-ahead log, estimated between checkpoints
        self._checkpoint_due_bytes = CHECKPOINT_BYTES
        self._counts = dict.fromkeys(("commits", "calls", "records", "calls_per_commit_max", "checkpoints"), 0)
        self._scope = TaskScope(f"journal {path}", self._fail)
        self._writing = self._scope.start(self._write_all(), "writer")

    # --- the port: what is there -------------------------------------------------------------------------------------

    @property
    def tip(self) -> Tip:
        """The durable end of the log."""
        return self._log.tip

    @property
    def first(self) -> int:
        """The lowest index still readable."""
        return self._log.base.index + 1

    @property
    def fault(self) -> StoreFault | None:
        """Why the store cannot go on, or None."""
        return self._fault

    def cell(self, name: str) -> bytes | None:
        """Return a local cell as it is on disk."""
        return self._cells.get(name)

    def statistics(self) -> dict[str, int]:
        """Return counters since opening and what is kept and waiting now."""
        return self._counts | {
            "first": self.first,
            "tip": self.tip.index,
            "snapshot": self._log.snapshot.number if self._log.snapshot else 0,
            "calls_waiting": len(self._queue),
            "bytes_waiting": self._queue_bytes,
            "wal_bytes": self._wal_bytes,
        }

    async def read(self, after: int, *, records_max: int = 1_000, bytes_max: int = 4 << 20) -> list[Record]:
        """Read durable records behind `after`, checked, at most 1,000; raises LookupError when already trimmed."""
        self._refuse_when_over()
        if after >= self._log.tip.index:
            return []
        if after < self._log.base.index:
            raise LookupError(f"records up to {self._log.base.index} were trimmed")
        rows = min(records_max, READ_RECORDS_MAX)
        read = partial(read_records, after=after, records_max=rows, bytes_max=bytes_max)
        async with self._reading:
            records, _ = await self._final(self._reader.run(read))
        return records

    async def replay(self, after: int) -> AsyncIterator[list[Record]]:
        """Yield every durable record behind `after` in large batches, the whole chain checked on the way.

        Raises StoreFault naming the damaged record, LookupError when `after` was trimmed. A replay from the snapshot or
        from the beginning to the end is the proof of a store opened without one.
        """
        self._refuse_when_over()
        log = self._log
        start = next((tip for tip in (log.recovery, log.base) if tip.index == after), after)
        batches = replay(self.path, self._reader, start, log)
        try:
            async for records in batches:
                yield records
        except StoreFault as fault:
            self._fail(fault)
            raise
        if start in (log.recovery, log.base):
            self._chain_proved = True

    async def snapshot(self) -> Snapshot | None:
        """Read the snapshot with its state, checked."""
        self._refuse_when_over()
        async with self._reading:
            return await self._final(self._reader.run(partial(read_snapshot, path=self.path)))

    # --- the port: what changes it -----------------------------------------------------------------------------------

    async def append(self, entries: Sequence[Entry], cells: Mapping[str, bytes] | None = None) -> Tip:
        """Append entries and set cells, durable on return; raises StoreFault.

        Once it waits for the disk, cancelling the caller does not take the entries back.
        """
        return cast("Tip", await self._submit(Append(entries, cells)))

    async def set_cells(self, cells: Mapping[str, bytes]) -> None:
        """Set cells, durable on return."""
        await self.append((), cells)

    async def truncate_after(self, index: int, cells: Mapping[str, bytes] | None = None) -> Tip:
        """Drop every record above index and set cells; refused below the snapshot."""
        return cast("Tip", await self._submit(Truncate(index, cells)))

    async def add_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot of our own log in place of the one before; written in pieces, between appends."""
        async with self._snapshot_lock:
            head = await self._stage(snapshot)
            await self._submit(Adopt(head))
            await self._drop_waste()

    async def install_snapshot(self, snapshot: Snapshot, cells: Mapping[str, bytes] | None = None) -> Tip:
        """Replace the whole log by a snapshot: staged beside it, then switched in one transaction."""
        async with self._snapshot_lock:
            head = await self._stage(snapshot)
            tip = await self._submit(Install(head, cells))
            await self._drop_waste()
        return cast("Tip", tip)

    async def trim(self, upto: int) -> None:
        """Forget records up to `upto` or the snapshot's index, whichever is lower; in steps, between appends."""
        while await self._submit(Trim(upto)):
            pass

    async def close(self) -> None:
        """Write what waits, carry the write-ahead log over, close; after a failure, close only. Safe to call twice."""
        self._closing = True
        self._wake.set()
        await asyncio.wait([self._writing])
        await self._scope.close()

    # --- one task writes ---------------------------------------------------------------------------------------------

    async def _submit(self, work: Work) -> object:
        self._refuse_when_over()
        if work.cells:
            refuse_cells(self.path, work.cells)
        if len(self._queue) >= CALLS_WAITING_MAX or self._queue_bytes >= BYTES_WAITING_MAX:
            raise StoreFault(
                f"The disk of {self.path} does not keep up: {len(self._queue)} calls with {self._queue_bytes >> 20} MiB"
                " wait to be written."
            )
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(work, done))
        self._queue_bytes += work.weight
        self._wake.set()
        return await done

    async def _write_all(self) -> None:
        clean = False
        try:
            while self._fault is None:
                if self._queue:
                    await self._write_group()
                elif self._closing:
                    if self._writer is not None:
                        await self._checkpoint("TRUNCATE")
                    clean = True
                    break
                else:
                    self._wake.clear()
                    await self._wake.wait()
        except StoreFault as fault:
            self._fail(fault)
        finally:
            self._fail(StoreFault(f"The journal {self.path} is closed."))
            await self._close_places(clean)

    async def _write_group(self) -> None:
        if self._writer is None:
            await self._begin_writing()
        assert self._writer is not None
        group, size = self._take()
        write = partial(write_group, log=self._log, works=[one.work for one in group])
        try:
            self._log, results = await guarded(self.path, self._writer.run(write))
        except BaseException as error:
            fault = error if isinstance(error, StoreFault) else StoreFault(f"The journal {self.path} was interrupted.")
            for one in group:
                _reject(one, fault)
            raise
        for one, result in zip(group, results, strict=True):
            if isinstance(result, StoreFault):
                _reject(one, result)
                continue
            self._cells.update(one.work.cells or {})
            if not one.done.done():
                one.done.set_result(result)
        records = sum(one.work.records for one in group)
        self._count(group, records)
        self._wal_bytes += size + records * ROW_BYTES + GROUP_PAGES * PAGE_BYTES
        if self._wal_bytes >= self._checkpoint_due_bytes:
            await self._checkpoint()

    def _take(self) -> tuple[list[_Waiting], int]:
        group: list[_Waiting] = []
        size = 0
        while self._queue and len(group) < GROUP_CALLS_MAX and size < GROUP_BYTES_MAX:
            one = self._queue.popleft()
            group.append(one)
            size += one.work.weight
        self._queue_bytes -= size
        return group, size

    async def _begin_writing(self) -> None:
        if not self._chain_proved:
            await prove_chain(self.path, self._reader, self._log)
            self._chain_proved = True
        if not self._pages_proved:
            await prove_pages(self.path, self._reader)
            self._pages_proved = True
        self._writer = await guarded(self.path, self._dial(self._connect_writer))
        # After an fsync error the kernel may hold pages that never reached the disk and call them clean. Whatever the
        # last incarnation left is therefore written again, into the file itself, before anything is built on it.
        await self._checkpoint("TRUNCATE")

    async def _checkpoint(self, mode: str = "PASSIVE") -> None:
        assert self._writer is not None
        if self._wal_bytes >= WAL_BYTES_MAX:
            mode = "TRUNCATE"
        work = partial(checkpoint, log=self._log, mode=mode)
        if mode == "TRUNCATE":
            async with self._reading:
                frames, left = await guarded(self.path, self._writer.run(work))
        else:
            frames, left = await guarded(self.path, self._writer.run(work))
        self._counts["checkpoints"] += 1
        # Without readers the next commit starts the log anew; what is left was kept by one of them.
        self._wal_bytes = frames * PAGE_BYTES if left else 0
        self._checkpoint_due_bytes = self._wal_bytes + CHECKPOINT_BYTES

    async def _close_places(self, clean: bool) -> None:
        # Whoever closes last carries the write-ahead log over, unless it cannot write.
        order = (self._reader, self._writer) if clean else (self._writer, self._reader)
        interrupted: asyncio.CancelledError | None = None
        for place in order:
            if place is None:
                continue
            try:
                await place.close()
            except sqlite3.Error:
                continue  # it is lost either way, and what was acknowledged is on disk
            except asyncio.CancelledError as error:  # the end of somebody's loop: close the other one all the same
                place.abandon()
                interrupted = error
        if interrupted is not None:
            raise interrupted

    # --- snapshots in pieces -----------------------------------------------------------------------------------------

    async def _stage(self, snapshot: Snapshot) -> SnapshotHead:
        self._refuse_when_over()
        self._serial += 1
        serial = self._serial
        await self._drop_waste()
        # The digest of a large state would hold up the loop.
        checksum = await self._final(self._reader.run(lambda _: snapshot_digest(snapshot)))
        for place, start in enumerate(range(0, len(snapshot.state), SNAPSHOT_PIECE_BYTES)):
            await self._submit(StagePiece(serial, place, snapshot.state[start : start + SNAPSHOT_PIECE_BYTES]))
        size = len(snapshot.state)
        return SnapshotHead(serial, snapshot.index, snapshot.epoch, snapshot.hash, size, checksum)

    async def _drop_waste(self) -> None:
        while await self._submit(DropWaste()):
            pass

    # --- endings -----------------------------------------------------------------------------------------------------

    async def _final(self, work: Awaitable[T]) -> T:
        try:
            return await guarded(self.path, work)
        except StoreFault as fault:
            self._fail(fault)
            raise

    def _fail(self, error: BaseException) -> None:
        if self._fault is not None:
            return
        if not isinstance(error, StoreFault):
            error = StoreFault(f"The journal {self.path} cannot go on: {type(error).__name__}: {error}.")
        self._fault = error
        while self._queue:
            _reject(self._queue.popleft(), self._fault)
        self._queue_bytes = 0
        self._wake.set()

    def _refuse_when_over(self) -> None:
        if self._fault is not None:
            raise again(self._fault)
        if self._closing:
            raise StoreFault(f"The journal {self.path} is closed.")

    def _count(self, group: list[_Waiting], records: int) -> None:
        counts = self._counts
        counts["commits"] += 1
        counts["calls"] += len(group)
        counts["records"] += records
        counts["calls_per_commit_max"] = max(counts["calls_per_commit_max"], len(group))


def _reject(waiting: _Waiting, fault: StoreFault) -> None:
    if not waiting.done.done():
        waiting.done.set_exception(again(fault))
