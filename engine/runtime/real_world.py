"""The real world: this machine's clock, network, disk and processes, for one incarnation of one node. Floor 5.

* Revoking ends every capability at once: whatever a dead incarnation still tries is refused with EngineClosed.
* A node's folder holds its journal, its guard's files, its attempts' output, and the number of its incarnation.
"""

import asyncio
import errno
import os
import secrets
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engine.base.problem import EngineClosed
from engine.ports import ConnectionClosed, ProcessHost, SnapshotMaker, Store, StoreFault, Transport
from engine.runtime.real_calls import Calls, Done
from engine.runtime.real_clock import RealClock

INLINE_BYTES_MAX = 64 << 10
ID_BYTES = 16
CLOCK_S_MAX = 2**32 - 1  # a clock that is further ahead than the year 2106 counts no further


class RealWorld:
    """Implements ports.World."""

    def __init__(
        self,
        node: str,
        folder: Path,
        *,
        incarnation: int,
        transports: Mapping[str, Transport],
        open_store: Callable[[Path], Any],
        make_host: Callable[[Path, RealClock], ProcessHost],
        make_snapshot_maker: Callable[[Path, str, str], SnapshotMaker],
    ) -> None:
        self.node = node
        self.incarnation = incarnation
        self.clock = RealClock()
        self._folder = folder
        self._started_in = os.getcwd()
        self._environment: dict[str, str] | None = None
        self._transports = transports
        self._open_store = open_store
        self._make_host = make_host
        self._make_snapshot_maker = make_snapshot_maker
        self._calls: Calls | None = None
        self._revoked: str | None = None

    def new_id(self) -> str:
        return secrets.token_urlsafe(ID_BYTES)

    def jitter(self, span_ms: int) -> int:
        return secrets.randbelow(span_ms) if span_ms > 0 else 0

    def transport(self, url: str) -> tuple[Transport, str]:
        self._check()
        scheme, separator, address = url.partition("://")
        found = self._transports.get(scheme)
        if not separator or found is None:
            known = ", ".join(sorted(self._transports))
            raise ConnectionClosed(f"{url!r} names no transport of this engine; a URL begins with one of: {known}")
        return found, address

    async def open_store(self) -> Store:
        self._check()
        store: Store = await self._open_store(self._folder / "journal.db")
        return store

    def process_host(self) -> ProcessHost:
        self._check()
        return self._make_host(self._folder, self.clock)

    def snapshot_maker(self, store: Store, role: str, name: str = "") -> SnapshotMaker:
        self._check()
        return self._make_snapshot_maker(self._folder / "journal.db", role, name or self.node)

    def call(self, function: Callable[..., Any], arguments: Mapping[str, Any], done: Done) -> None:
        self._check()
        if self._calls is None:
            self._calls = Calls(self.node)
        self._calls.submit(function, arguments, done)

    async def read_file(self, path: str, size_bytes_max: int) -> bytes | None:
        self._check()
        try:
            size_bytes = os.stat(path).st_size
            if size_bytes <= INLINE_BYTES_MAX:
                return _read(path, size_bytes_max)
            return await asyncio.to_thread(_read, path, size_bytes_max)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def environment(self) -> dict[str, str]:
        if self._environment is None:  # copied once: reading os.environ costs half a millisecond
            inherited = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY_")}
            self._environment = {**inherited, "UNDERSTUDY_PYTHON": sys.executable}
        return self._environment

    def resolve(self, path: str) -> str:
        return os.path.join(self._started_in, path)

    def revoke(self, reason: str) -> None:
        if self._revoked is None:
            self._revoked = reason
            for transport in self._transports.values():
                transport.revoke(reason)
            if self._calls is not None:
                self._calls.close()

    def _check(self) -> None:
        if self._revoked is not None:
            raise EngineClosed(self._revoked)


def next_incarnation(folder: Path, now_ms: int = 0) -> int:
    """Raise and return the number of a node's incarnation, durably; raises StoreFault when the disk refuses.

    At least the seconds of the wall clock: a node whose folder was replaced by an empty or older one would else count
    below what others know of it, and be refused by them for as long as they run.
    """
    path = folder / "incarnation"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        kept = int(path.read_text()) if path.exists() else 0
        number = max(kept + 1, min(now_ms // 1_000, CLOCK_S_MAX))
        fresh = folder / "incarnation.new"
        with fresh.open("w") as file:
            file.write(str(number))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        _sync(folder)  # a number that came twice, after a power cut, would make the lost calls of the first look alive
    except ValueError as error:
        raise StoreFault(f"{path} does not hold a number ({error}); restore the folder from a backup") from error
    except OSError as error:
        raise StoreFault(f"the state folder {folder} can not be written: {error.strerror or error}") from error
    return number


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: str, size_bytes_max: int) -> bytes:
    # Opening a pipe, or reading a terminal, would wait for somebody who may never come.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no ordinary file", path)
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(size_bytes_max + 1)
    finally:
        os.close(descriptor)
