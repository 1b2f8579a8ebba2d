"""The subagent: starts attempts, watches them, reports. It has no journal. Floor 8.

* An attempt is begun once, whoever asks how often: processes by the host's durable start records, callables by the
  table of this incarnation (a later one has another incarnation number, and the agent's rules know what that means).
* What was reported as begun and is not known here (the state directory was lost, or restored from a backup) is unknown,
  never begun again: no record = never started holds only for records that are still there. One with a lease is not
  spoken of, so that it counts as ended when its lease has run out.
* An attempt that was offered is claimed when renewals are asked for, and begun by a grant; the guard keeps the lease.
* It obeys the director of the highest epoch it has heard of, over its own restarts too.
* Reports stay in the outbox until the director has them durable; then the host forgets too.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from engine.base.codec import encode
from engine.base.ids import NAME_LENGTH_MAX, Cursor, OrderId, attempt_folder, attempt_key, parse_attempt_key
from engine.base.limits import RESULT_BYTES_MAX
from engine.base.log import logger
from engine.base.problem import Problem, problem
from engine.base.tasks import TaskScope
from engine.base.wire import Accepted, Hello, Identity, Raw
from engine.jobs.process import ProcessJob
from engine.jobs.python import PythonJob, sentence_of
from engine.jobs.python_calls import PythonCalls
from engine.jobs.results import ResultFault, parse_results
from engine.model.command import (
    AskRenewals,
    GrantLeases,
    KillAttempt,
    OfferAttempt,
    Renewals,
    ReportEnded,
    ReportStarted,
    StartAttempt,
    ToSubagent,
)
from engine.model.job import LeaseTerms, Start
from engine.model.language import UNREADABLE, Language
from engine.model.outcome import Outcome, OutcomeKind, cut, failed, unknown
from engine.ports import ProcessReport, ProcessSpec, Store, World
from engine.rules.leases import fence_at, lease_end
from engine.runtime.outbox import Outbox
from engine.runtime.reception import Reception, Respond
from engine.runtime.session import Session

NotADirector = problem("NotADirector", "Node {node} of role {role} is no director; a subagent obeys its director only.")
StartUnreadable = problem("StartUnreadable", "A command of the director can not be read: {fault}.")
NoRunner = problem("NoRunner", "This subagent has no way to run a job of kind {kind!r}.")
StaleDirector = problem(
    "StaleDirector",
    "Epoch {epoch} is over: a director of agent {pair} with epoch {known} was obeyed here. Give the agent the journal"
    " of that director; or, of a pair, seed its register above {known}; or, if that journal is gone for good, remove"
    " the state of this subagent once its jobs have ended.",
)
TooManyDirectors = problem(
    "TooManyDirectors",
    "Directors of {limit} agents were obeyed here, which is the most; remove the state of this subagent once its jobs"
    " have ended.",
)

DIRECTORS_MAX = 100  # agents whose directors were obeyed, one after the other
OBEYED = "directors obeyed"  # the cell with the highest epoch of each
PARSED_AT_ONCE_BYTES_MAX = 32 << 10  # of a result file; checking a longer one would hold up the loop

log = logger("subagent")
_decode_obeyed = msgspec.msgpack.Decoder(dict[str, int]).decode
_decode_ask = msgspec.msgpack.Decoder(AskRenewals).decode
_decode_grant = msgspec.msgpack.Decoder(GrantLeases).decode
_ACCEPTED = encode(Accepted(0, -1))
NO_TERMS = LeaseTerms(0, 0)
_RECORD_GONE = "it began, and its subagent's record of it is gone"

_CAUSES = {
    "timed_out": (OutcomeKind.TIMED_OUT, "it ran longer than its timeout"),
    "killed": (OutcomeKind.KILLED, "it was killed on request"),
    "output": (OutcomeKind.FAILED, "it wrote more than ten times its output limit and was killed"),
    "fenced": (OutcomeKind.UNKNOWN, "its lease ran out, because the director was not heard, and it was ended"),
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
        store: Store,
    ) -> None:
        """`store`: for local cells only; it is closed with the subagent."""
        self.world = world
        self._store = store
        obeyed = store.cell(OBEYED)
        self._kept: dict[str, int] = {} if obeyed is None else _decode_obeyed(obeyed)  # agent → epoch, durable
        self._obeyed = dict(self._kept)  # with those of directors who are being let in
        self.outbox = Outbox()
        self._decode = language.decode_to_subagent
        self._host = world.process_host()
        self._started: dict[str, int] = {}  # attempts that were begun or adopted, until forgotten → when (0: not known)
        self._known_before: dict[str, None] = {}  # of them, those whose start this session may still send again
        self._claimed: dict[tuple[OrderId, int], OfferAttempt] = {}  # by order: offered in this session, not begun
        self._calls = PythonCalls(world, callables, self._ended)
        self._on_closed = on_closed
        self._is_over = False
        self._scope = TaskScope(world.node, self._failed)
        self._reception = Reception(
            world,
            Identity(cluster, self.role, world.node, world.incarnation),
            deliver=self._deliver,
            ask=self._ask,
            admit=self._admit,
            sole=("director",),
            on_failure=self._failed,
            on_ack=self._acknowledged,
            on_opened=self._opened,
            on_post=self._granted,
            settle=self._settle,
            source=self.outbox,
        )

    async def start(self, url: str) -> None:
        """Adopt what an earlier incarnation left running, then listen for the director."""
        await self._take(await self._host.open())
        self._scope.start(self._watch(), "watch")
        await self._reception.open(url)

    async def close(self, reason: str = "it was closed") -> None:
        """End; processes go on under the guard, callables are cancelled or abandoned. Safe to call twice."""
        self._is_over = True
        await self._reception.close()
        await self._scope.close()
        await self._calls.close()
        await self._host.close()
        await self._store.close()
        self.world.revoke(reason)

    def _failed(self, error: BaseException) -> None:
        if self._is_over:
            return  # what the end of the world breaks is no failure of its own
        self._is_over = True
        log.error("subagent ends", node=self.world.node, error=str(error))
        self.world.revoke(str(error))
        self._on_closed(error)

    def _admit(self, hello: Hello) -> Problem | None:
        """Obey, of an agent's directors, the one of the highest epoch heard of; it is durable before it is answered."""
        if hello.role != "director":
            return NotADirector(node=hello.node, role=hello.role)
        pair = (hello.pair or hello.node)[:NAME_LENGTH_MAX]
        known = self._obeyed.get(pair)
        if known is None and len(self._obeyed) >= DIRECTORS_MAX:
            return TooManyDirectors(limit=DIRECTORS_MAX)
        if known is not None and hello.epoch < known:
            return StaleDirector(epoch=hello.epoch, pair=pair, known=known)
        self._obeyed[pair] = hello.epoch
        return None

    async def _settle(self) -> Cursor:
        if self._kept != self._obeyed:
            kept = dict(self._obeyed)
            await self._store.set_cells({OBEYED: encode(kept)})
            self._kept = kept
        return self.outbox.tip

    # --- from the director --------------------------------------------------------------------------------------------

    def _deliver(self, session: Session, _number: int, raw: Raw, reply: Respond) -> None:
        try:
            command = self._decode(raw)
            _check(command)
        except UNREADABLE as error:
            reply(encode(StartUnreadable(fault=str(error))))
            return
        if not session.live:
            return
        if isinstance(command, KillAttempt):
            self._kill(command.key)
        else:
            self._take_on(command)
        reply(_ACCEPTED)

    def _take_on(self, command: StartAttempt | OfferAttempt) -> None:
        start, key = command.start, command.start.key
        if key not in self._started and key not in self._known_before:
            if start.begun and isinstance(command, OfferAttempt):
                pass  # it may still run under a guard whose directory is gone: only its lease says when it has ended
            elif start.begun:
                self._started[key] = 0
                self._ended(key, unknown(_RECORD_GONE))
            elif isinstance(command, OfferAttempt):
                self._claimed[start.order, start.added] = command  # an earlier attempt of it is over
            else:
                self._begin(start)
        self._known_before.pop(key, None)

    def _opened(self, _session: Session) -> None:
        """Begin a session: what was only claimed in the one before is offered again, if it is still wanted."""
        self._known_before = dict.fromkeys(self._started)
        self._claimed.clear()

    # --- leases -------------------------------------------------------------------------------------------------------

    def _claim(self, key: str) -> OfferAttempt | None:
        try:
            order, added, _ = parse_attempt_key(key)
        except ValueError:
            return None
        claim = self._claimed.get((order, added))
        return claim if claim is not None and claim.start.key == key else None

    def _ask(self, _session: Session, _number: int, raw: Raw, answer: Respond) -> None:
        """Say which of these attempts need a lease; what is granted for them counts from this instant."""
        asked_ms = self.world.clock.monotonic_ms()
        try:
            keys = _decode_ask(raw).keys
            needing = tuple(key for key in keys if key in self._started or self._claim(key) is not None)
        except UNREADABLE as error:
            answer(encode(StartUnreadable(fault=str(error))))
            return
        answer(encode(Renewals(asked_ms, needing)))

    def _granted(self, _session: Session, raw: Raw) -> None:
        """Begin what was claimed, and let the guard raise the deadlines of what runs."""
        now_ms = self.world.clock.monotonic_ms()
        try:
            grant = _decode_grant(raw)
            claims = {key: self._claim(key) for key in grant.keys}
        except UNREADABLE as error:
            log.warning("a grant can not be read", fault=str(error))
            return
        if grant.asked_ms > now_ms:
            return  # this was never asked here
        until_ms = lease_end(grant.asked_ms, now_ms, grant.span_ms)
        for claim in claims.values():
            if claim is not None and now_ms < fence_at(until_ms, claim.terms.grace_ms, claim.terms.margin_ms):
                del self._claimed[claim.start.order, claim.start.added]
                self._begin(claim.start, until_ms, claim.terms)
        running = [key for key, claim in claims.items() if claim is None and key in self._started]
        if running:
            self._host.lease(running, until_ms)

    # --- attempts -----------------------------------------------------------------------------------------------------

    def _begin(self, start: Start, lease_until_ms: int | None = None, terms: LeaseTerms = NO_TERMS) -> None:
        self._started[start.key] = self.world.clock.now_ms()
        job = start.job
        try:
            if isinstance(job, ProcessJob):
                spec = self._spec(start, job)
                if lease_until_ms is not None:
                    lease = {"lease_grace_ms": terms.grace_ms, "lease_margin_ms": terms.margin_ms}
                    spec = msgspec.structs.replace(spec, lease_until_ms=lease_until_ms, **lease)
                self._host.start(spec)
            elif isinstance(job, PythonJob):
                self._calls.begin(start, job)
            else:
                self._ended(start.key, failed(NoRunner(kind=type(job).__name__).sentence))
        except Exception as error:  # noqa: BLE001 - one attempt that can not be begun must not end all others
            log.note("attempt not begun", attempt=start.key, exc_info=error)
            self._ended(start.key, failed(f"it could not be started: {sentence_of(error)}"))

    def _kill(self, key: str) -> None:
        claim = self._claim(key)
        if claim is not None:
            del self._claimed[claim.start.order, claim.start.added]
            self._started[key] = 0
            self._ended(key, Outcome(OutcomeKind.KILLED, None, "it was killed before it began"))
        elif key in self._calls:
            self._calls.kill(key)
        else:
            self._host.kill(key)

    def _acknowledged(self, session: Session, cursor: Cursor) -> None:
        """Forget what ended; not that it was here, as long as a start of it may be on its way behind the Ack."""
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
        """Read what the process left as results; a large file is parsed apart, and its report comes later."""
        self._started.setdefault(report.key, 0)
        outcome = _process_outcome(report)
        raw: bytes | None = None
        if report.kind == "ended":
            path = f"{self._host.path(attempt_folder(report.key))}/result"
            try:
                raw = await self.world.read_file(path, RESULT_BYTES_MAX)
            except OSError as error:  # the job may have left anything there
                reason = error.strerror or str(error)
                outcome = _unless(outcome, f"the result file can not be read: {reason}", report.return_code)
        if raw is None or len(raw) <= PARSED_AT_ONCE_BYTES_MAX:
            self._parsed(report, outcome, *_parse(raw))
        else:
            self.world.call(
                _parse, {"raw": raw}, lambda found, error: self._parsed(report, outcome, *(found or ({}, str(error))))
            )

    def _parsed(self, report: ProcessReport, outcome: Outcome, results: dict[str, Any], fault: str) -> None:
        if fault:
            outcome = _unless(outcome, fault, report.return_code)
        self._ended(report.key, outcome, results, report)

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


def _check(command: ToSubagent) -> None:
    """Raise ValueError for a start that could never be reported, or a lease that its job could outlive."""
    if isinstance(command, KillAttempt):
        return
    start = command.start
    if start.key != attempt_key(start.order, start.added, start.attempt):
        raise ValueError(f"{start.key[:NAME_LENGTH_MAX]!r} is not the key of its attempt")
    if isinstance(command, OfferAttempt) and min(command.terms.grace_ms, command.terms.margin_ms) < 0:
        raise ValueError(f"its lease has the terms {command.terms}")


def _parse(raw: bytes | None) -> tuple[dict[str, Any], str]:
    """Return the results of a result file (none: no file), or what is wrong with it."""
    try:
        return ({} if raw is None else parse_results(raw)), ""
    except ResultFault as fault:
        return {}, str(fault)


def _unless(outcome: Outcome, sentence: str, return_code: int) -> Outcome:
    """Make a failure of a success; what failed by itself stays as it is."""
    return failed(sentence, return_code) if outcome.is_success else outcome


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
