"""GuardHost: the asyncio side of the guard; finds or begins it, sends requests, hands on its reports. Floor 4.

* Implements ports.ProcessHost. Requests are kept until the guard has taken them, so a guard that is killed loses none:
  the next one gets them again, and since keys are started once, nothing happens twice.
* The loop never waits for a disk: what touches one runs in a thread (guard_launch.py).
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.base.log import logger
from engine.base.problem import EngineClosed
from engine.base.tasks import TaskScope
from engine.jobs.guard_launch import VERSION, GuardFault, launch, reap, socket_address
from engine.ports import Clock, ProcessReport, ProcessSpec, StoreFault

LINE_BYTES_MAX = 4 << 20  # one request; a larger one is refused here
UNANSWERED_MAX = 20_000  # requests the guard has not taken; a start beyond it is refused
UNANSWERED_BYTES_MAX = 64 << 20
KEYS_PER_REQUEST = 1_000
PATH_LENGTH_MAX = 1_000  # of keys and folders
REPORTS_PER_CALL_MAX = 1_000
WELCOME_S_MAX = 30.0  # a guard that is there and says nothing for so long is stuck
GOODBYE_S_MAX = 5.0
RETRY_S = 0.02
DIALS_MAX = 500
RESTARTS_MAX, RESTART_SPAN_MS = 5, 60_000

OLD_GUARD = "it ends with its last job"

_Row = tuple[str, str, int, int, int, str, str, int, int]
log = logger("guard")


class _Frame(msgspec.Struct):
    """What the guard says."""

    reports: list[_Row] = []
    taken: int = 0  # requests that were acted on since the frame before
    ready: int = 0  # the guard's pid: all that is known has been told
    version: int = 0  # with it
    leases: bool = False  # with it, and only from a guard that can end a job when its lease does
    closed: int | None = None  # how many jobs are left to guard
    bye: str = ""
    fault: str = ""
    removed: bool = False  # the state directory


_decode = msgspec.json.Decoder(_Frame).decode


class GuardHost:
    """Runs programs under the guard of a state directory."""

    def __init__(
        self,
        state_dir: str | Path,
        clock: Clock,
        *,
        linger_ms: int = 60_000,
        reserve_bytes: int = 64 << 20,
        running_max: int = 4_096,
        compact_bytes: int = 4 << 20,
        restarts_max: int = RESTARTS_MAX,
    ) -> None:
        self._state = os.path.realpath(state_dir)
        self._clock = clock
        self._options = {
            "linger_ms": linger_ms,
            "reserve_bytes": reserve_bytes,
            "running_max": running_max,
            "compact_bytes": compact_bytes,
        }
        self._restarts_max = restarts_max
        self._launches: deque[int] = deque()
        self._begun: list[int] = []  # pids of the guards that are our children
        self._scope = TaskScope("guard-host", self._failed)
        self._wire: _Wire | None = None
        self._known: dict[str, str] = {}  # key → the last kind of report handed on, "" before the first
        self._kills: dict[str, bool] = {}  # of jobs that have not ended: at once?
        self._unanswered: deque[tuple[str, bytes]] = deque()  # key of a start or "", and the request
        self._unanswered_bytes = 0
        self._unsent: list[bytes] = []
        self._reports: list[ProcessReport] = []
        self._news = asyncio.Event()
        self._reason: str | None = None
        self._removed = False  # the state directory, under the running guard: a new one would know nothing
        self._opened = self._closing = self._leases = False
        self.guard_pid = 0
        self.faults: list[str] = []  # what was found damaged when a guard was begun

    # --- the port -----------------------------------------------------------------------------------------------------

    async def open(self) -> list[ProcessReport]:
        """Find the guard or begin one; raises EngineClosed with the reason when that can not be."""
        try:
            await asyncio.to_thread(os.makedirs, self._state, 0o700, exist_ok=True)
            rows = await self._attach()
        except (GuardFault, OSError) as error:
            raise EngineClosed(self._fail(self._sentence(error))) from error
        return [_report(row) for row in rows]

    def start(self, spec: ProcessSpec) -> None:
        if sentence := self._objection(spec):
            self._hand_on(ProcessReport(spec.key, "refused", self._clock.now_ms(), sentence=sentence))
            return
        frame = _encode(["start", self._request(spec)])
        if len(frame) > LINE_BYTES_MAX:
            sentence = f"program, environment and script are {len(frame)} bytes long together, at most {LINE_BYTES_MAX}"
            self._hand_on(ProcessReport(spec.key, "refused", self._clock.now_ms(), sentence=sentence))
            return
        self._known.setdefault(spec.key, "")
        self._submit(frame, spec.key)

    def kill(self, key: str, *, now: bool = False) -> None:
        if len(key) > PATH_LENGTH_MAX:
            return  # it was never started
        if self._known.get(key) in {"", "started"}:
            self._kills[key] = now
        self._submit(_encode(["kill", key, now]))

    def lease(self, keys: Sequence[str], until_ms: int) -> None:
        if len(self._unanswered) < UNANSWERED_MAX:  # else the jobs end early, which is safe
            for part in _parts(keys):
                self._submit(_encode(["lease", part, until_ms]))

    def forget(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._known.pop(key, None)
        for part in _parts(keys):
            self._submit(_encode(["forget", part]))

    async def reports(self) -> list[ProcessReport]:
        while not self._reports:
            if self._reason is not None:
                raise (StoreFault if self._removed else EngineClosed)(self._reason)
            self._news.clear()
            await self._news.wait()
        batch = self._reports[:REPORTS_PER_CALL_MAX]
        del self._reports[:REPORTS_PER_CALL_MAX]
        return batch

    def path(self, folder: str) -> str:
        return os.path.join(self._state, folder)

    async def close(self) -> None:
        """Let go. A guard without a job ends with this; one with jobs ends when they have. Safe to call twice."""
        if self._closing:
            return
        self._closing = True
        await self._scope.close()
        wire, self._wire = self._wire, None
        if wire is not None:
            self._flush_to(wire)
            if await self._part(wire):
                self._begun = [pid for pid in self._begun if pid != self.guard_pid]  # that one goes on
        self._fail("it was closed")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S_MAX):
                for pid in self._begun:
                    await _ended(pid)
        reap()

    # --- requests -----------------------------------------------------------------------------------------------------

    def _objection(self, spec: ProcessSpec) -> str:
        """Say why a start can not even be asked for, or nothing."""
        if len(self._unanswered) >= UNANSWERED_MAX or self._unanswered_bytes >= UNANSWERED_BYTES_MAX:
            return f"the guard has not yet taken {len(self._unanswered)} earlier requests; try again later"
        if not spec.argv:
            return "there is no program to start"
        if max(len(spec.key), len(spec.folder)) > PATH_LENGTH_MAX:
            return f"key and folder must not be longer than {PATH_LENGTH_MAX} characters"
        if not {"", ".", ".."}.isdisjoint(spec.folder.split("/")):
            return f"{spec.folder!r} is no folder inside the state directory"
        if spec.lease_until_ms is not None and not self._leases:  # also while its connection is being made anew
            return f"the running guard (process {self.guard_pid}) is too old to end a job with its lease; {OLD_GUARD}"
        try:
            f"{spec.key}{spec.folder}".encode()
        except UnicodeEncodeError:
            return "key and folder must be Unicode text"
        return ""

    def _request(self, spec: ProcessSpec) -> dict[str, Any]:
        folder = self.path(spec.folder)
        script = f"{folder}/script"
        argv = spec.argv if spec.script is None else tuple(word.replace("{script}", script) for word in spec.argv)
        directory = folder if spec.directory is None else spec.directory
        timeout_ms = -1 if spec.timeout_ms is None else spec.timeout_ms
        return {**msgspec.structs.asdict(spec), "argv": argv, "directory": directory, "timeout_ms": timeout_ms}

    def _submit(self, frame: bytes, key: str = "") -> None:
        if self._reason is not None:
            raise EngineClosed(self._reason)
        self._unanswered.append((key, frame))
        self._unanswered_bytes += len(frame)
        if self._wire is not None:
            if not self._unsent:
                asyncio.get_running_loop().call_soon(self._flush)
            self._unsent.append(frame)

    def _flush(self) -> None:
        if self._wire is not None:
            self._flush_to(self._wire)

    def _flush_to(self, wire: "_Wire") -> None:
        if self._unsent:
            wire.transport.writelines(self._unsent)
            self._unsent = []

    def _taken(self, count: int) -> None:
        for _ in range(min(count, len(self._unanswered))):
            self._unanswered_bytes -= len(self._unanswered.popleft()[1])

    # --- the guard's side ---------------------------------------------------------------------------------------------

    async def _attach(self) -> list[_Row]:
        """Connect and become the owner, beginning a guard where there is none; returns all it knows."""
        for _ in range(DIALS_MAX):
            wire = await self._dial()
            if wire is None:
                await self._launch()
                continue
            try:
                async with asyncio.timeout(WELCOME_S_MAX):
                    welcome = await wire.welcome
            except TimeoutError as error:
                wire.transport.abort()
                sentence = f"the guard of {self._state} (process {self._lock_holder()}) does not answer; end it"
                raise GuardFault(sentence) from error
            except asyncio.CancelledError:
                wire.transport.abort()
                raise
            if wire.parted:
                raise GuardFault(wire.parted)
            if welcome:
                return wire.rows
            await asyncio.sleep(RETRY_S)  # it was just ending
        raise GuardFault(
            f"the guard of {self._state} (process {self._lock_holder()}) holds the lock and does not listen"
        )

    async def _dial(self) -> "_Wire | None":
        folder = os.open(self._state, os.O_RDONLY | os.O_DIRECTORY)
        link = socket.socket(socket.AF_UNIX)
        try:
            link.setblocking(False)
            link.connect(socket_address(folder))
            _, uid, _ = struct.unpack("iII", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if uid != os.geteuid():
                raise GuardFault(f"the guard of {self._state} belongs to another user")
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
            link.close()
            return None
        except BaseException:
            link.close()
            raise
        finally:
            os.close(folder)
        _, wire = await asyncio.get_running_loop().create_unix_connection(lambda: _Wire(self), sock=link)
        return wire

    async def _launch(self) -> None:
        """Begin a guard, unless somebody holds the lock: then wait a little."""
        now_ms = self._clock.monotonic_ms()
        while self._launches and self._launches[0] <= now_ms - RESTART_SPAN_MS:
            self._launches.popleft()
        if len(self._launches) > self._restarts_max:
            span_s = RESTART_SPAN_MS // 1_000
            hint = f"its last words are in {self.path('guard.err')}"
            raise GuardFault(f"the guard of {self._state} ended {len(self._launches)} times in {span_s} s; {hint}")
        begun = await asyncio.to_thread(launch, self._state, self._options, self._clock.now_ms())
        if begun is None:
            await asyncio.sleep(RETRY_S)
            return
        pid, faults = begun
        self._begun = [*self._begun[-RESTARTS_MAX:], pid]
        self._launches.append(now_ms)
        for fault in faults:
            log.error("guard's record file was damaged", state=self._state, fault=fault)
        self.faults = [*self.faults, *faults][-100:]

    def _lock_holder(self) -> str:
        try:
            return Path(self._state, "guard.lock").read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return "unknown"

    def heard(self, wire: "_Wire", frame: _Frame) -> None:
        """Take in a frame; `ready` makes its connection the one that counts, before anything else can arrive."""
        if frame.removed:
            self._removed = True
            wire.parted = f"The state directory {self._state} was removed while it was in use; nothing more is kept."
        elif frame.ready and frame.version != VERSION:
            wire.parted = (
                f"the running guard is of version {frame.version}, this program of {VERSION}; see docs/guard.md"
            )
            wire.transport.abort()
        elif frame.ready:
            self._wire, self.guard_pid, self._leases, self._unsent = wire, frame.ready, frame.leases, []
            wire.transport.writelines([request for _, request in self._unanswered])
            self._reconcile(wire.rows)
        elif wire is self._wire:
            self._taken(frame.taken)
            for row in frame.reports:
                self._hand_on(_report(row))
        else:
            wire.rows += frame.reports

    def lost(self, wire: "_Wire") -> None:
        """The connection is over: somebody else took the guard, or it was killed and another must begin."""
        if wire is not self._wire:
            return
        self._wire = None
        if wire.parted:
            self._begun = []  # the guard goes on without us
            self._fail(wire.parted)
        elif not self._closing:
            self._scope.start(self._revive(), "revive")

    async def _revive(self) -> None:
        log.warning("the guard is gone, another one begins", state=self._state, guard=self.guard_pid)
        reap()
        try:
            await self._attach()
        except (GuardFault, OSError) as error:
            self._fail(self._sentence(error))

    def _reconcile(self, rows: list[_Row]) -> None:
        """Hand on what a new connection tells and we did not know; at the first one `open` returns it all."""
        first, self._opened = not self._opened, True
        told = dict.fromkeys(row[0] for row in rows)
        asked = {key for key, _ in self._unanswered}
        for row in rows:
            if first:
                self._known[row[0]] = row[1]
            elif self._known.get(row[0]) != row[1]:
                self._hand_on(_report(row))
        for key, now in self._kills.items():  # a guard that was killed may have left a kill half done
            self._submit(_encode(["kill", key, now]))
        for key, kind in list(self._known.items()):
            if kind in {"", "started"} and key not in told and key not in asked:
                sentence = "the guard's record of it is gone"
                self._hand_on(ProcessReport(key, "lost", self._clock.now_ms(), sentence=sentence))

    def _sentence(self, error: Exception) -> str:
        if isinstance(error, OSError):
            return f"the guard of {self._state} can not begin: {error.strerror or error}"
        return str(error)

    async def _part(self, wire: "_Wire") -> bool:
        """Say goodbye; returns whether the guard has a reason to go on, else it has ended by then."""
        jobs = -1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S_MAX):
                wire.transport.write(_encode(["close", None]))
                jobs = await wire.goodbye
                wire.transport.close()
                await wire.over.wait()
                if jobs == 0:
                    await _ended(self.guard_pid)
        wire.transport.abort()
        await wire.over.wait()
        return jobs != 0

    # --- reports ------------------------------------------------------------------------------------------------------

    def _hand_on(self, report: ProcessReport) -> None:
        if report.key in self._known:
            self._known[report.key] = report.kind
        if report.kind != "started":
            self._kills.pop(report.key, None)
        self._reports.append(report)
        self._news.set()

    def _failed(self, error: BaseException) -> None:
        self._fail(f"{type(error).__name__}: {error}")

    def _fail(self, reason: str) -> str:
        if self._reason is None:
            self._reason = reason
        self._news.set()
        return self._reason


class _Wire(asyncio.Protocol):
    """One connection to a guard."""

    transport: asyncio.Transport

    def __init__(self, host: GuardHost) -> None:
        loop = asyncio.get_running_loop()
        self._host = host
        self._input = b""
        self.rows: list[_Row] = []  # what is told before it is ready
        self.parted = ""  # why the guard wants no more of us
        self.welcome: asyncio.Future[bool] = loop.create_future()
        self.goodbye: asyncio.Future[int] = loop.create_future()
        self.over = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            try:
                frame = _decode(line)
            except msgspec.MsgspecError as error:
                frame = _Frame(bye=f"the guard said what this program does not understand: {error}")
                self.transport.abort()
            self.parted = self.parted or frame.bye
            if frame.fault:
                log.error("guard refused a request", fault=frame.fault)
            self._host.heard(self, frame)
            if frame.ready:
                self.welcome.set_result(True)
            if frame.closed is not None:
                self.goodbye.set_result(frame.closed)

    def connection_lost(self, error: Exception | None) -> None:
        self.over.set()
        if not self.welcome.done():
            self.welcome.set_result(False)
        if not self.goodbye.done():
            self.goodbye.set_result(-1)  # unknown
        self._host.lost(self)


def _parts(keys: Sequence[str]) -> list[list[str]]:
    """Take keys apart into requests; those that the guard was never given are left out: it takes no longer line."""
    keys = [key for key in keys if len(key) <= PATH_LENGTH_MAX]
    return [list(keys[place : place + KEYS_PER_REQUEST]) for place in range(0, len(keys), KEYS_PER_REQUEST)]


def _encode(request: list[Any]) -> bytes:
    try:
        return msgspec.json.encode(request) + b"\n"
    except UnicodeEncodeError:  # the environment may hold bytes that are no text; they come through as lone surrogates
        return json.dumps(request).encode() + b"\n"


def _report(row: _Row) -> ProcessReport:
    report = ProcessReport(*row)
    if report.kind == "ended" and report.return_code < 0 and not report.sentence:
        with contextlib.suppress(ValueError):
            sentence = f"it was ended by signal {signal.Signals(-report.return_code).name}"
            return msgspec.structs.replace(report, sentence=sentence)
    return report


async def _ended(pid: int) -> None:
    """Return when a process has ended, whoever's child it is."""
    try:
        file = os.pidfd_open(pid)
    except OSError:
        return
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(file, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(file)
        os.close(file)
