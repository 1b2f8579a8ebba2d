"""A simulated machine: its guard, its processes, its files, and the truth about what ran on it. Floor 10.

* The guard lives on when the subagent dies, and processes live on when the guard dies; nothing lives through a reboot.
* A start record is durable before the process begins, an ending before it is reported; a key is started once.
* A process whose guard died is watched by the next one until it is gone; how it ended nobody saw: it is lost.
* `groups` is the ground truth for the checkers: one entry for each process that really began, with its two instants.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from engine.ports import ProcessReport, ProcessSpec
from engine.rules.leases import extended, fence_at
from engine.simulation.modelled_jobs import DEFAULT, Duration, JobEnd, JobModel, Process, run_of

if TYPE_CHECKING:
    from engine.simulation.loop import VirtualLoop

GROUPS_MAX = 1_000_000  # process groups remembered of one machine; beyond it a simulation is too long to be checked
WIRE_MS = 0.3  # from host to guard and back; both directions keep their order
RECORD_MS_MIN, RECORD_MS_MAX = 0.2, 3.0  # until a record of the guard is durable
LEASE_LOOK_SHARE = 0.6  # of what is left of a lease, until the guard looks again: so no clock error makes it late
LEASE_LOOK_MS_MIN = 1.0

LOST = "nobody saw how it ended, because its guard was killed"
REBOOTED = "the machine was restarted while it ran"

Tell = Callable[[str, str], None]


class ProcessGroup(msgspec.Struct):
    """A process that really ran."""

    key: str
    order: str
    attempt: int
    label: str
    machine: str
    boot: int
    started_ns: int
    ended_ns: int = 0  # 0: it runs
    how: str = ""
    code: int = 0  # its return code, once it has ended

    @property
    def is_running(self) -> bool:
        return self.ended_ns == 0


class _Record:
    """What the guard's file says of a key."""

    __slots__ = (
        "adopted",
        "at_ms",
        "boot",
        "cause",
        "ending",
        "group",
        "kill_now",
        "lease_until_ms",
        "pid",
        "process",
        "spec",
    )

    def __init__(self, spec: ProcessSpec, boot: int, at_ms: int) -> None:
        self.spec = spec
        self.boot = boot
        self.at_ms = at_ms
        self.pid = 0
        self.group: ProcessGroup | None = None
        self.process: Process | None = None
        self.ending: ProcessReport | None = None  # durable
        self.cause = ""  # why the guard is ending it
        self.kill_now: bool | None = None
        self.adopted = False
        self.lease_until_ms = spec.lease_until_ms  # written without an fsync: only a dead machine forgets it

    @property
    def fence_ms(self) -> int | None:
        """When TERM goes out because of the lease."""
        if self.lease_until_ms is None:
            return None
        return fence_at(self.lease_until_ms, self.spec.lease_grace_ms, self.spec.lease_margin_ms)


class SimMachine:
    """A computer of the simulation. Make it outside of any node."""

    def __init__(
        self, name: str, loop: "VirtualLoop", random: Random, jobs: Mapping[str, JobModel], tell: Tell = lambda *_: None
    ) -> None:
        """`jobs`: label → model; the label `*` stands for all others. `tell(machine, sentence)` is for the timeline."""
        self.name = name
        self.loop = loop
        self.random = random
        self.boot = 1
        self.wall_offset_ms = 0  # how wrong the wall clock is
        self.files: dict[str, bytes] = {}
        self.groups: list[ProcessGroup] = []
        self.records: dict[str, _Record] = {}  # the guard's file
        self.guard: SimGuard | None = None
        names = "guard_crashes reboots adopted lost repeated_starts fenced leases".split()
        self.counts = dict.fromkeys(names, 0)
        self.lane = ""  # the process of our node that used the guard last; its clock is the machine's
        self.on_begun: Callable[[ProcessGroup], None] = lambda _: None
        self.on_exited: Callable[[ProcessGroup], None] = lambda _: None
        self.tell = partial(tell, name)
        self._jobs = jobs
        self._incarnation = 0
        self._pids = 1_000
        self._context = copy_context()

    def next_incarnation(self) -> int:
        """Raise and return the number of the node's incarnation, durably."""
        self._incarnation += 1
        return self._incarnation

    def now_ms(self) -> int:
        """What the wall clock shows."""
        return self.loop.now_ns // 1_000_000 + self.wall_offset_ms

    def clock_ms(self) -> int:
        """What the monotonic clock shows, with its drift."""
        return self.loop.context_of(self.lane).run(self.loop.clock_ns) // 1_000_000

    def later(self, delay_ms: float, callback: Callable[..., None], *args: Any) -> asyncio.TimerHandle:
        """Call in the environment, whatever becomes of the nodes."""
        return self.loop.call_later(delay_ms / 1_000, callback, *args, context=self._context)

    def record_ms(self) -> float:
        """Draw how long it takes until a record is durable."""
        return self.random.uniform(RECORD_MS_MIN, RECORD_MS_MAX)

    def running(self) -> list[ProcessGroup]:
        """The processes that run now."""
        return [group for group in self.groups if group.is_running]

    # --- faults

    def crash_guard(self) -> bool:
        """Kill the guard, not its processes; False when there is none."""
        guard, self.guard = self.guard, None
        if guard is None:
            return False
        self.counts["guard_crashes"] += 1
        self.tell(f"guard killed, {len(self.running())} processes run on")
        guard.die()
        return True

    def reboot(self) -> None:
        """End everything that runs; records and files stay. Crashing the machine's node is the caller's part."""
        self.boot += 1
        self.counts["reboots"] += 1
        guard, self.guard = self.guard, None
        if guard is not None:
            guard.die()
        for record in self.records.values():
            if record.process is not None and record.group is not None and record.group.is_running:
                record.process.kill()
                record.group.how = "reboot"
        self.tell(f"machine rebooted, boot {self.boot}")

    # --- processes

    def spawn(self, record: _Record, on_exit: Callable[[JobEnd], None]) -> None:
        """Begin a recorded process."""
        if len(self.groups) >= GROUPS_MAX:
            raise RuntimeError(f"{self.name} has run {GROUPS_MAX} processes; end the simulation earlier")
        self._pids += 1
        run = run_of(record.spec, self.name)
        record.pid = self._pids
        record.group = ProcessGroup(run.key, run.order, run.attempt, run.label, self.name, self.boot, self.loop.now_ns)
        self.groups.append(record.group)
        self.tell(f"process {run.key} begins ({run.label})")
        self.on_begun(record.group)
        model = self._jobs.get(run.label) or self._jobs.get(DEFAULT) or Duration()
        random = Random(f"{self.loop.seed}/job/{run.key}")
        record.process = Process(run, model, self.loop, random, partial(self._exited, record, on_exit))

    def _exited(self, record: _Record, on_exit: Callable[[JobEnd], None], end: JobEnd) -> None:
        group = record.group
        assert group is not None
        group.ended_ns = self.loop.now_ns
        group.how, group.code = f"code {end.return_code}", end.return_code
        self.tell(f"process {group.key} ends, {group.how}")
        if end.results:
            path = record.spec.environment.get("UNDERSTUDY_RESULT", f"{self.path(record.spec.folder)}/result")
            self.files[path] = msgspec.json.encode(end.results)
        self.on_exited(group)
        on_exit(end)

    def path(self, folder: str) -> str:
        """The absolute path of an attempt's folder."""
        return f"/machines/{self.name}/{folder}"


class Owner(Protocol):
    """Whom a guard obeys: a host, called in the environment."""

    def on_message(self, guard: "SimGuard", message: tuple[Any, ...]) -> None:
        """Hear that a request was taken, or a report."""

    def on_lost(self, guard: "SimGuard") -> None:
        """Hear that the guard is dead."""


class SimGuard:
    """The guard of one machine, from its beginning to its death."""

    def __init__(self, machine: SimMachine) -> None:
        self.machine = machine
        self.is_alive = True
        self.owner: Owner | None = None
        self._recording: dict[str, _Record] = {}  # starts on their way to the disk
        self._ending: dict[str, ProcessReport] = {}  # endings on their way to the disk
        for record in list(machine.records.values()):
            if record.ending is None:
                self._adopt(record)

    def _adopt(self, record: _Record) -> None:
        """Watch over what an earlier guard began; what has ended meanwhile, or with the machine, is lost at once."""
        if record.boot != self.machine.boot:
            record.ending = self._lost(record, REBOOTED)
        elif record.group is None or not record.group.is_running:
            record.ending = self._lost(record, LOST)
        else:
            record.adopted = True
            self._watch_deadline(record)
            self._watch_lease(record)
            if record.kill_now is not None:
                self._end(record, "killed", 0 if record.kill_now else record.spec.kill_delay_ms)

    def _lost(self, record: _Record, sentence: str) -> ProcessReport:
        self.machine.counts["lost"] += 1
        return ProcessReport(record.spec.key, "lost", self.machine.now_ms(), record.pid, sentence=sentence)

    def die(self) -> None:
        """Be killed: of what was on its way to the disk some has arrived."""
        self.is_alive = False
        for record in self._recording.values():
            if self.machine.random.random() < 0.5:
                self.machine.records[record.spec.key] = record
        for key, report in self._ending.items():
            if key in self.machine.records and self.machine.random.random() < 0.5:
                self.machine.records[key].ending = report
        owner, self.owner = self.owner, None
        if owner is not None:
            self.machine.later(WIRE_MS, owner.on_lost, self)

    # --- from the host

    def welcome(self, host: Owner) -> list[ProcessReport]:
        """Obey this host from now on, and tell it everything that is not forgotten."""
        self.owner = host
        records = self.machine.records.values()
        self.machine.counts["adopted"] += sum(one.ending is None for one in records)
        return [report for record in records if (report := self._known(record)) is not None]

    def _known(self, record: _Record) -> ProcessReport | None:
        if record.ending is not None or record.group is None:
            return record.ending
        return ProcessReport(record.spec.key, "started", record.at_ms, record.pid)

    def hear(self, host: Owner, request: tuple[Any, ...]) -> None:
        """Act on one request."""
        if not self.is_alive or self.owner is not host:
            return
        verb, *arguments = request
        if verb == "start":
            self._start(arguments[0], request)
            return
        if verb == "kill":
            self._kill(*arguments)
        elif verb == "lease":
            self._lease(*arguments)
        else:
            for key in arguments[0]:
                record = self.machine.records.get(key)
                if record is not None and record.ending is not None:
                    del self.machine.records[key]
        self._say(("taken", request))

    def _start(self, spec: ProcessSpec, request: tuple[Any, ...]) -> None:
        """Take on a start; it counts as taken once its record is durable."""
        machine = self.machine
        known = machine.records.get(spec.key)
        if known is not None or spec.key in self._recording:
            machine.counts["repeated_starts"] += 1
            if known is not None and (report := self._known(known)) is not None:
                self._say(("report", report))
            self._say(("taken", request))
            return
        record = self._recording[spec.key] = _Record(spec, machine.boot, machine.now_ms())
        machine.later(machine.record_ms(), self._recorded, record, request)

    def _recorded(self, record: _Record, request: tuple[Any, ...]) -> None:
        if not self.is_alive or self._recording.pop(record.spec.key, None) is None:
            return
        machine = self.machine
        self._say(("taken", request))
        machine.records[record.spec.key] = record
        record.at_ms = machine.now_ms()
        if record.kill_now is not None:
            ended = ProcessReport(
                record.spec.key, "ended", record.at_ms, 0, -15, "killed", "it was killed before it began"
            )
            self._conclude(record, ended)
            return
        if record.fence_ms is not None and machine.clock_ms() >= record.fence_ms:
            ended = ProcessReport(record.spec.key, "ended", record.at_ms, 0, -15, "fenced", "its lease ran out")
            self._conclude(record, ended)
            return
        machine.spawn(record, partial(self._exited, record))
        self._watch_deadline(record)
        self._watch_lease(record)
        self._say(("report", ProcessReport(record.spec.key, "started", record.at_ms, record.pid)))

    def _kill(self, key: str, now: bool) -> None:
        record = self._recording.get(key) or self.machine.records.get(key)
        if record is None or record.ending is not None or key in self._ending:
            return
        record.kill_now = now
        if record.group is not None and record.group.is_running:
            self._end(record, "killed", 0 if now else record.spec.kill_delay_ms)

    # --- the processes

    def _watch_deadline(self, record: _Record) -> None:
        if record.spec.timeout_ms is not None and record.group is not None:
            due_ns = record.group.started_ns + record.spec.timeout_ms * 1_000_000
            self.machine.later(max(0, due_ns - self.machine.loop.now_ns) / 1e6, self._overdue, record)

    def _overdue(self, record: _Record) -> None:
        self._end(record, "timed_out", record.spec.kill_delay_ms)

    def _lease(self, keys: Sequence[str], until_ms: int) -> None:
        """Raise deadlines, but none of an attempt that is being ended for the one it has."""
        now_ms = self.machine.clock_ms()
        for key in keys:
            record = self._recording.get(key) or self.machine.records.get(key)
            if record is not None and record.lease_until_ms is not None and record.fence_ms is not None:
                record.lease_until_ms = extended(record.lease_until_ms, until_ms, record.fence_ms, now_ms)
                self.machine.counts["leases"] += 1

    def _watch_lease(self, record: _Record) -> None:
        """Look again and again how much is left of a lease, until it is over: TERM, then KILL."""
        if not self.is_alive or record.group is None or not record.group.is_running or record.fence_ms is None:
            return
        left_ms = record.fence_ms - self.machine.clock_ms()
        if left_ms > 0:
            self.machine.later(max(LEASE_LOOK_MS_MIN, left_ms * LEASE_LOOK_SHARE), self._watch_lease, record)
            return
        assert record.lease_until_ms is not None
        self.machine.counts["fenced"] += 1
        self.machine.tell(f"process {record.spec.key} is ended, its lease has run out")
        kill_ms = record.lease_until_ms - record.spec.lease_margin_ms
        self._end(record, "fenced", 0 if self.machine.clock_ms() >= kill_ms else record.spec.lease_grace_ms)
        self._kill_by(record, kill_ms)

    def _kill_by(self, record: _Record, at_ms: int) -> None:
        left_ms = at_ms - self.machine.clock_ms()
        if left_ms > 0:
            self.machine.later(max(LEASE_LOOK_MS_MIN, left_ms * LEASE_LOOK_SHARE), self._kill_by, record, at_ms)
        elif self.is_alive and record.process is not None:
            record.process.kill()

    def _end(self, record: _Record, cause: str, delay_ms: int) -> None:
        """Let a process end: TERM, and KILL after the delay."""
        if not self.is_alive or record.group is None or not record.group.is_running:
            return
        assert record.process is not None
        record.cause = record.cause or cause
        if delay_ms > 0:
            self.machine.later(delay_ms, self._kill_at_last, record)
            record.process.term()
        else:
            record.process.kill()

    def _kill_at_last(self, record: _Record) -> None:
        if self.is_alive and record.process is not None:
            record.process.kill()

    def _exited(self, record: _Record, end: JobEnd) -> None:
        """A child of this guard is gone; if this guard is gone too, the next one only sees that."""
        if self.is_alive:
            cause = record.cause or "exited"
            at_ms, code = self.machine.now_ms(), end.return_code
            ended = ProcessReport(
                record.spec.key, "ended", at_ms, record.pid, code, cause, "", end.out_bytes, end.err_bytes
            )
            self._conclude(record, ended)
        elif (guard := self.machine.guard) is not None and record.adopted:
            guard._conclude(record, guard._lost(record, LOST))

    def _conclude(self, record: _Record, report: ProcessReport) -> None:
        self._ending[record.spec.key] = report
        self.machine.later(self.machine.record_ms(), self._concluded, record, report)

    def _concluded(self, record: _Record, report: ProcessReport) -> None:
        if self.is_alive:
            self._ending.pop(record.spec.key, None)
            record.ending = report
            self._say(("report", report))

    def _say(self, message: tuple[Any, ...]) -> None:
        if self.owner is not None:
            self.machine.later(WIRE_MS, self.owner.on_message, self, message)
