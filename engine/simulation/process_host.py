"""SimHost: a node's side of the guard on its simulated machine. Floor 10.

* Requests are kept until the guard has taken them, as in the real world: one that is killed loses none.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any

import msgspec

from engine.base.problem import EngineClosed
from engine.base.tasks import TaskScope
from engine.ports import ProcessReport, ProcessSpec
from engine.simulation.loop_nodes import NODE
from engine.simulation.processes import WIRE_MS, SimGuard, SimMachine

DIAL_MS = 1.0
LAUNCH_MS = 20.0


class SimHost:
    """Implements ports.ProcessHost for one incarnation of a node on a simulated machine."""

    def __init__(self, machine: SimMachine, check: Callable[[str], None] = lambda _: None) -> None:
        """`check(what)` is called before each use and raises when this incarnation may do nothing any more."""
        self._machine = machine
        self._check = check
        self._guard: SimGuard | None = None
        self._known: dict[str, str] = {}  # key → the last kind of report handed on
        self._unanswered: list[tuple[Any, ...]] = []
        self._unsent: list[tuple[Any, ...]] = []
        self._reports: list[ProcessReport] = []
        self._news = asyncio.Event()
        self._reason: str | None = None
        self._home = copy_context()
        self._scope = TaskScope(f"process host of {machine.name}", lambda error: self.end(str(error)))

    async def open(self) -> list[ProcessReport]:
        self._check("open the process host")
        self._machine.lane = NODE.get()
        self._home = copy_context()
        reports = await self._attach()
        self._known = {report.key: report.kind for report in reports}
        return reports

    async def _attach(self) -> list[ProcessReport]:
        await asyncio.sleep(DIAL_MS / 1_000)
        if self._machine.guard is None:
            await asyncio.sleep(LAUNCH_MS / 1_000)
        self._check("begin the guard")
        guard = self._machine.guard
        if guard is None:
            guard = self._machine.guard = SimGuard(self._machine)
        self._guard = guard
        return guard.welcome(self)

    def start(self, spec: ProcessSpec) -> None:
        self._check("start a process")
        script = f"{self.path(spec.folder)}/script"
        argv = spec.argv if spec.script is None else tuple(word.replace("{script}", script) for word in spec.argv)
        self._known.setdefault(spec.key, "")
        self._submit(("start", msgspec.structs.replace(spec, argv=argv)))

    def kill(self, key: str, *, now: bool = False) -> None:
        self._check("kill a process")
        self._submit(("kill", key, now))

    def lease(self, keys: Sequence[str], until_ms: int) -> None:
        self._check("extend leases")
        self._submit(("lease", tuple(keys), until_ms))

    def forget(self, keys: Sequence[str]) -> None:
        self._check("forget a process")
        for key in keys:
            self._known.pop(key, None)
        if keys:
            self._submit(("forget", tuple(keys)))

    async def reports(self) -> list[ProcessReport]:
        while not self._reports:
            if self._reason is not None:
                raise EngineClosed(self._reason)
            self._news.clear()
            await self._news.wait()
        self._check("read reports")
        batch, self._reports = self._reports, []
        return batch

    def path(self, folder: str) -> str:
        return self._machine.path(folder)

    async def close(self) -> None:
        self.end("it was closed")
        await self._scope.close()

    def end(self, reason: str) -> None:
        """Hear and say nothing more; what is under way to the guard still arrives."""
        if self._reason is None:
            self._flush()
            self._reason = reason
            self._news.set()

    # --- the wire

    def _submit(self, request: tuple[Any, ...]) -> None:
        if self._reason is not None:
            raise EngineClosed(self._reason)
        self._unanswered.append(request)
        if self._guard is not None:
            if not self._unsent:
                asyncio.get_running_loop().call_soon(self._flush)
            self._unsent.append(request)

    def _flush(self) -> None:
        requests, self._unsent = self._unsent, []
        if self._guard is not None:
            for request in requests:
                self._machine.later(WIRE_MS, self._guard.hear, self, request)

    def on_message(self, guard: SimGuard, message: tuple[Any, ...]) -> None:
        """Take in what a guard said; called in the environment."""
        if guard is not self._guard or self._reason is not None:
            return
        if message[0] == "taken":
            self._unanswered = [request for request in self._unanswered if request is not message[1]]
        else:
            self._hand_on(message[1])

    def on_lost(self, guard: SimGuard) -> None:
        """The guard is dead: begin another one, as this node."""
        if guard is self._guard and self._reason is None:
            self._guard = None
            self._unsent = []
            asyncio.get_running_loop().call_soon(self._revive_soon, context=self._home)

    def _revive_soon(self) -> None:
        if self._reason is None:
            self._scope.start(self._revive(), "revive")

    async def _revive(self) -> None:
        reports = await self._attach()
        self._unsent = list(self._unanswered)
        asked = {request[1].key for request in self._unanswered if request[0] == "start"}
        self._flush()
        told = dict.fromkeys(report.key for report in reports)
        for report in reports:
            if self._known.get(report.key) != report.kind:
                self._hand_on(report)
        for key, kind in list(self._known.items()):
            if kind in {"", "started"} and key not in told and key not in asked:
                at_ms = self._machine.now_ms()
                self._hand_on(ProcessReport(key, "lost", at_ms, sentence="the guard's record of it is gone"))

    def _hand_on(self, report: ProcessReport) -> None:
        if report.key in self._known:
            self._known[report.key] = report.kind
        self._reports.append(report)
        self._news.set()
