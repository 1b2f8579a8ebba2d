"""job: run a job on a subagent of an agent. Floor 3."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import ClassVar

import msgspec

from engine.base.clock import SPAN_MS_MAX
from engine.base.codec import Value
from engine.base.ids import AgentId, BundleId, is_name
from engine.base.limits import ATTEMPTS_MAX, OUTPUT_BYTES_MAX
from engine.model.event import AttemptAssigned, OrderEvent
from engine.model.expression import EvaluationError, Template
from engine.model.fields import Size, Span
from engine.model.job import Job, OnLost, OnPartition, Start
from engine.model.obstacle import Obstacle
from engine.model.order import Order, OrderState
from engine.model.workflow import Workflow, WorkflowId
from engine.rules.flow import expect, fault
from engine.rules.state import View
from engine.rules.statement import Statement

LIMIT_KEYS_KEPT_MAX = 4_096


class Execute(
    msgspec.Struct,
    Statement,
    frozen=True,
    array_like=True,
    tag="job",
    rename={"timeout_ms": "timeout", "kill_delay_ms": "kill_delay", "output_bytes_max": "output_limit"},
):
    """Run a job and go on when it succeeds. Its results become variables of the order.

    `run` is the job's kind; a document writes the kind's own key (`shell`, `command`, `python`) beside `job`.
    `limit`: how many attempts of this job may run at once on one agent. `on_lost`: what follows an attempt whose end
    nobody saw. `on_partition`: whether an attempt goes on when its director can not be heard.
    """

    keyword: ClassVar[str] = "job"

    job: str
    run: Job
    environment: dict[str, Template] = {}
    agent: AgentId | None = None
    bundle: BundleId | None = None
    directory: Template | None = None
    timeout_ms: Span | None = None
    kill_delay_ms: Span = Span(5_000)
    limit: int | None = None
    on_lost: OnLost = OnLost.HOLD
    output_bytes_max: Size = Size(OUTPUT_BYTES_MAX)
    on_partition: OnPartition = OnPartition.CONTINUE

    def faults(self) -> Iterable[str]:
        if not is_name(self.job):
            yield f"{self.job!r} can not be a job's name (letters, digits, _ . -)"
        for kind, other in (("agent", self.agent), ("bundle", self.bundle)):
            if other is not None and not is_name(other):
                yield f"{other!r} can not be the name of its {kind} (letters, digits, _ . -)"
        if self.limit is not None and self.limit < 1:
            yield f"its limit is {self.limit}, so it could never run"
        if self.timeout_ms is not None and not 0 < self.timeout_ms <= SPAN_MS_MAX:
            yield "its timeout is more than 0 and at most a hundred years"
        if not 0 <= self.kill_delay_ms <= SPAN_MS_MAX:
            yield "its kill_delay is between 0 and a hundred years"
        if self.output_bytes_max < 0:
            yield "its output_limit is less than 0"
        if self.on_partition is OnPartition.STOP and not self.run.outlives:
            yield (
                f"on_partition: stop is for programs, and a job of kind {self.run.keyword} runs inside our own process,"
                " where nobody can end it at an instant; leave on_partition out, on_lost says what follows"
            )
        for name in self.environment:
            if not name or "=" in name or "\0" in name:
                yield f"{name!r} can not be the name of an environment variable"

    @property
    def is_leased(self) -> bool:
        """Tell whether its attempts run only while they hold a lease."""
        return self.on_partition is OnPartition.STOP and self.run.outlives

    def place(self, workflow: Workflow) -> AgentId:
        return self.agent or workflow.agent

    def step(self, view: View, order: Order) -> list[OrderEvent]:
        if order.state is OrderState.READY and (sentence := self._start_fault(view, order)):
            return fault(view, order, sentence)
        chosen = view.state.choose(order, self.bundle, limit_key(order, self), self.limit)
        if isinstance(chosen, Obstacle):
            return expect(view, order, chosen)
        return [AttemptAssigned(order.id, view.now_ms, order.position, order.attempt + 1, chosen)]

    def _start_fault(self, view: View, order: Order) -> str | None:
        """Say why the next attempt can not be started, so that it is known before it is assigned."""
        if order.attempt >= ATTEMPTS_MAX:
            return f"the order has used all its {ATTEMPTS_MAX} attempts"
        if not self.environment and self.directory is None and not self.run.templates():
            return None
        try:
            evaluated = self.evaluate(view, msgspec.structs.replace(order, attempt=order.attempt + 1))
        except EvaluationError as error:
            return f"job {self.job}: {error}"
        nul = _nul_in(*evaluated) if self.run.outlives else None
        return f"job {self.job}: {nul} holds the character NUL, which can not be given to a process" if nul else None

    def evaluate(self, view: View, order: Order) -> tuple[dict[str, Value], dict[str, str], str | None]:
        """Return arguments, environment and working directory for an order's attempt; raises EvaluationError."""
        arguments = {
            name: template.evaluate(view.scope(order, template.names))
            for name, template in self.run.templates().items()
        }
        environment = {
            name: template.evaluate_text(view.scope(order, template.names))
            for name, template in self.environment.items()
        }
        directory = None
        if self.directory is not None:
            directory = self.directory.evaluate_text(view.scope(order, self.directory.names))
        return arguments, environment, directory

    def start(self, view: View, order: Order, key: str, fence: int) -> Start:
        """Return what the subagent is told; the same was evaluated in `step`, so it can not fail here."""
        arguments, environment, directory = self.evaluate(view, order)
        return Start(
            key=key,
            order=order.id,
            added=order.added,
            attempt=order.attempt,
            fence=fence,
            label=self.job,
            job=self.run,
            arguments=arguments,
            environment=environment,
            directory=directory,
            timeout_ms=self.timeout_ms,
            kill_delay_ms=self.kill_delay_ms,
            output_bytes_max=self.output_bytes_max,
            begun=order.begun,
        )


def _nul_in(arguments: Mapping[str, Value], environment: Mapping[str, str], directory: str | None) -> str | None:
    """Say what of a process's words holds a NUL, where such a word would end; text of a list or object escapes it."""
    for number, value in enumerate(arguments.values()):
        if isinstance(value, str) and "\0" in value:
            return f"word {number + 1} of its command"
    for name, text in environment.items():
        if "\0" in text:
            return f"its environment variable {name}"
    return "its directory" if directory is not None and "\0" in directory else None


def limit_key(order: Order, step: Execute) -> str:
    """Return the name under which the parallel attempts of a job are counted: over all versions of its workflow."""
    return _limit_key(order.workflow, step.job)


@lru_cache(maxsize=LIMIT_KEYS_KEPT_MAX)
def _limit_key(workflow: WorkflowId, job: str) -> str:
    return f"{workflow.partition('@')[0]}/{job}"
