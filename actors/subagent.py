"""The subagent: starts attempts, watches them, reports. It has no journal. Floor 8.

* An attempt is begun once, whoever asks how often: processes by the host's durable start records, callables by the
  table of this incarnation (a later one has another incarnation number, and the agent's rules know what that means).
* Reports stay in the outbox until the director has them durable; then the host forgets too.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from engine.base.codec import encode
from engine.base.ids import Cursor, attempt_folder, parse_attempt_key
from engine.base.limits import RESULT_BYTES_MAX
from engine.base.log import logger
from engine.base.problem import EngineClosed, Problem, problem
from engine.base.tasks import TaskScope
from engine.base.wire import Accepted, Hello, Identity, Raw
from engine.jobs.process import ProcessJob
from engine.jobs.python import CallableFault, PythonJob, find_callable, is_async, results_of
from engine.jobs.results import ResultFault, parse_results
from engine.model.command import KillAttempt, ReportEnded, ReportStarted
from engine.model.job import Start
from engine.model.language import UNREADABLE, Language
from engine.model.outcome import SUCCEEDED, Outcome, OutcomeKind, cut, failed, unknown
from engine.ports import ProcessReport, ProcessSpec, World
from engine.runtime.outbox import Outbox
from engine.runtime.reception import Reception, Respond
from engine.runtime.session import Session

NotADirector = problem("NotADirector", "Node {node} of role {role} is no director; a subagent obeys its director only.")
StartUnreadable = problem("StartUnreadable", "A command of the director can not be read: {fault}.")
NoRunner = problem("NoRunner", "This subagent has no way to run a job of kind {kind!r}.")

log = logger("subagent")
_ACCEPTED = encode(Accepted(0, -1))

_CAUSES = {
    "timed_out": (OutcomeKind.TIMED_OUT, "it ran longer than its timeout"),
    "killed": (OutcomeKind.KILLED, "it was killed on request"),
    "output": (OutcomeKind.FAILED, "it wrote more than ten times its output limit and was killed"),
    "disk": (OutcomeKind.FAILED, "the disk was nearly full, and it was killed for its output"),
}


class Subagent:
    """The subagent actor."""

    role = "subagent"

    def __init__(
        self,
        world: World,
        language: Language,
        cluster: str,
        callables: Mapping[str, Callable[..., Any]],
        on_closed: Callable[[BaseException], None],
    ) -> None:
        self.world = world
        self.outbox = Outbox()
        self._callables = callables
        self._found: dict[str, Callable[..., Any]] = {}
        self._decode = language.decode_to_subagent
        self._host = world.process_host()
        self._started: dict[
            str, int
        ] = {}  # attempts of this incarnation and adopted ones → when they were seen to start
        self._calls: dict[str, asyncio.Task[Any] | None] = {}
        self._deadlines: dict[str, asyncio.TimerHandle] = {}  # of blocking calls
        self._on_closed = on_closed
        self._scope = TaskScope(world.node, self._failed)
        self._reception = Reception(
            world,
            Identity(cluster, self.role, world.node, world.incarnation),
            deliver=self._deliver,
            admit=_admit,
            on_failure=self._failed,
            on_ack=self._acknowledged,
            source=self.outbox,
        )

    async def start(self, url: str) -> None:
        """Adopt what an earlier incarnation left running, then listen for the director."""
        await self._take(await self._host.open())
        self._scope.start(self._watch(), "watch")
        await self._reception.open(url)

    async def close(self, reason: str = "it was closed") -> None:
        """End; processes go on under the guard, callables are cancelled or abandoned. Safe to call twice."""
        await self._reception.close()
        for deadline in self._deadlines.values():
            deadline.cancel()
        await self._scope.close()
        await self._host.close()
        self.world.revoke(reason)

    def _failed(self, error: BaseException) -> None:
        log.error("subagent ends", node=self.world.node, error=str(error))
        self.world.revoke(str(error))
        self._on_closed(error)

    # --- from the director --------------------------------------------------------------------------------------------

    def _deliver(self, session: Session, _number: int, raw: Raw, reply: Respond) -> None:
        try:
            command = self._decode(raw)
        except UNREADABLE as error:
            reply(encode(StartUnreadable(fault=str(error))))
            return
        if not session.live:
            return
        if isinstance(command, KillAttempt):
            self._kill(command.key)
        elif command.start.key not in self._started:
            self._begin(command.start)
        reply(_ACCEPTED)

    def _begin(self, start: Start) -> None:
        self._started[start.key] = self.world.clock.now_ms()
        job = start.job
        if isinstance(job, ProcessJob):
            try:
                self._host.start(self._spec(start, job))
            except (EngineClosed, ValueError) as error:
                self._ended(start.key, failed(f"it could not be started: {error}"))
        elif isinstance(job, PythonJob):
            self._call(start, job)
        else:
            self._ended(start.key, failed(NoRunner(kind=type(job).__name__).sentence))

    def _kill(self, key: str) -> None:
        if key in self._calls:
            running = self._calls[key]
            if running is not None:
                running.cancel()
            return
        self._host.kill(key)

    def _acknowledged(self, session: Session, cursor: Cursor) -> None:
        if session.live:
            done = self.outbox.acknowledged(cursor.index)
            self._host.forget(done)
            for key in done:
                self._started.pop(key, None)

    # --- processes ----------------------------------------------------------------------------------------------------

    def _spec(self, start: Start, job: ProcessJob) -> ProcessSpec:
        folder = attempt_folder(start.key)
        environment = {
            **start.environment,
            "UNDERSTUDY_ORDER": start.order,
            "UNDERSTUDY_LABEL": start.label,
            "UNDERSTUDY_ATTEMPT": str(start.attempt),
            "UNDERSTUDY_FENCE": str(start.fence),
            "UNDERSTUDY_RESULT": f"{self._host.path(folder)}/result",
        }
        return ProcessSpec(
            key=start.key,
            argv=job.argv(start.arguments),
            environment={**self.world.environment(), **environment},
            folder=folder,
            directory=None if start.directory is None else self.world.resolve(start.directory),
            script=job.script_text(),
            timeout_ms=start.timeout_ms,
            kill_delay_ms=start.kill_delay_ms,
            output_bytes_max=start.output_bytes_max,
        )

    async def _watch(self) -> None:
        while True:
            await self._take(await self._host.reports())

    async def _take(self, reports: list[ProcessReport]) -> None:
        ended = {report.key for report in reports if report.kind != "started"}
        for report in reports:
            if report.kind == "started":
                self._started[report.key] = report.at_ms
                if report.key not in ended:
                    self._report_started(report)
            else:
                await self._process_ended(report)

    def _report_started(self, report: ProcessReport) -> None:
        order, added, attempt = parse_attempt_key(report.key)
        self.outbox.put(report.key, ReportStarted(order, added, attempt, report.at_ms, report.pid), ends=False)

    async def _process_ended(self, report: ProcessReport) -> None:
        results: dict[str, Any] = {}
        outcome = _process_outcome(report)
        if report.kind == "ended":
            path = f"{self._host.path(attempt_folder(report.key))}/result"
            raw = await self.world.read_file(path, RESULT_BYTES_MAX)
            try:
                results = {} if raw is None else parse_results(raw)
            except ResultFault as fault:
                outcome = failed(str(fault), report.return_code) if outcome.is_success else outcome
        self._ended(report.key, outcome, results, report)

    # --- callables ----------------------------------------------------------------------------------------------------

    def _call(self, start: Start, job: PythonJob) -> None:
        try:
            function = self._found.get(job.python)
            if function is None:
                function = self._found[job.python] = find_callable(job.python, self._callables)
        except CallableFault as fault:
            self._ended(start.key, failed(str(fault)))
            return
        if is_async(function):
            self._calls[start.key] = self._scope.start(self._await(start, function), start.key)
            return
        self._calls[start.key] = None
        if start.timeout_ms is not None:
            delay_s = start.timeout_ms / 1_000
            self._deadlines[start.key] = asyncio.get_running_loop().call_later(delay_s, self._call_overdue, start.key)
        self.world.call(function, start.arguments, lambda value, error: self._returned(start.key, value, error))

    async def _await(self, start: Start, function: Callable[..., Any]) -> None:
        limit_s = None if start.timeout_ms is None else start.timeout_ms / 1_000
        expired = False
        try:
            async with asyncio.timeout(limit_s) as limit:
                try:
                    value = await function(**start.arguments)
                finally:
                    expired = limit.expired()
            self._returned(start.key, value, None)
        except asyncio.CancelledError:
            self._calls.pop(start.key, None)
            self._ended(start.key, Outcome(OutcomeKind.KILLED, None, "it was cancelled on request"))
        except TimeoutError as error:
            if expired or limit.expired():
                self._calls.pop(start.key, None)
                self._ended(start.key, Outcome(OutcomeKind.TIMED_OUT, None, "it ran longer than its timeout"))
            else:
                self._returned(start.key, None, error)
        except Exception as error:  # noqa: BLE001 - whatever a person's callable raises is its failure
            self._returned(start.key, None, error)

    def _returned(self, key: str, value: Any, error: BaseException | None) -> None:
        if key not in self._calls:
            return
        del self._calls[key]
        if (deadline := self._deadlines.pop(key, None)) is not None:
            deadline.cancel()
        if error is not None:
            log.note("callable failed", attempt=key, exc_info=error)
            self._ended(key, failed(f"{type(error).__name__}: {error}"))
            return
        try:
            self._ended(key, SUCCEEDED, results_of(value))
        except CallableFault as fault:
            self._ended(key, failed(str(fault)))

    def _call_overdue(self, key: str) -> None:
        del self._deadlines[key]
        if self._calls.pop(key, self) is None:
            self._ended(key, unknown("it ran longer than its timeout, and a call in a thread can not be ended"))

    # --- reports ------------------------------------------------------------------------------------------------------

    def _ended(
        self, key: str, outcome: Outcome, results: dict[str, Any] | None = None, report: ProcessReport | None = None
    ) -> None:
        order, added, attempt = parse_attempt_key(key)
        at_ms = self.world.clock.now_ms() if report is None else report.at_ms
        ended = ReportEnded(
            order,
            added,
            attempt,
            at_ms,
            outcome,
            self._started.get(key, 0),
            results or {},
            0 if report is None else report.out_bytes,
            0 if report is None else report.err_bytes,
        )
        self.outbox.put(key, ended, ends=True)


def _process_outcome(report: ProcessReport) -> Outcome:
    if report.kind == "lost":
        return unknown(report.sentence)
    if report.kind == "refused":
        return failed(report.sentence)
    if report.cause in _CAUSES:
        kind, sentence = _CAUSES[report.cause]
        return Outcome(kind, report.return_code, sentence)
    if report.return_code == 0:
        return Outcome(OutcomeKind.SUCCEEDED, 0)
    return failed(cut(report.sentence), report.return_code)


def _admit(hello: Hello) -> Problem | None:
    return None if hello.role == "director" else NotADirector(node=hello.node, role=hello.role)
