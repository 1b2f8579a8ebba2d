"""What random clusters have to do: workflows, orders, and people who suspend, cancel, kill and release."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec

from engine.base.ids import BundleId, SubagentId
from engine.jobs.command import CommandJob
from engine.jobs.python import PythonJob
from engine.jobs.shell import ShellJob
from engine.model.event import AttemptEnded, Event
from engine.model.expression import Template
from engine.model.item import BundleItem, SubagentItem
from engine.model.job import Job, OnLost
from engine.model.order import OrderState
from engine.model.outcome import OutcomeKind
from engine.rules.commands.add_order import AddOrder
from engine.rules.commands.add_orders import AddOrders
from engine.rules.commands.cancel_order import CancelOrder
from engine.rules.commands.change_item import ChangeItem
from engine.rules.commands.delete_order import DeleteOrder
from engine.rules.commands.deploy_workflow import DeployWorkflow
from engine.rules.commands.release_attempt import ReleaseAttempt
from engine.rules.commands.resume_order import ResumeOrder
from engine.rules.commands.suspend_order import SuspendOrder
from engine.rules.operator_command import OperatorCommand
from engine.simulation.cluster import SUBAGENT_PARALLEL_MAX, SimCluster
from engine.simulation.loop import NODE
from engine.simulation.modelled_jobs import DEFAULT, Duration, JobModel
from tests.support.workflows import Options, random_workflow

ORDERS_MAX = 60
ORDERS_AT_ONCE = 6  # at the beginning
PEOPLE = 3
WORKFLOWS_MAX = 4
LEAVES = (*["job"] * 6, *["sleep"] * 2, "fail", "finish")

JOBS: dict[str, JobModel] = {
    DEFAULT: Duration(ms_max=2_500, fail_rate=0.12, stubborn_rate=0.1, results={"n": 7}),
    "job1": Duration(ms_max=200, fail_rate=0.05),
    "job2": Duration(ms_min=1_000, ms_max=9_000, fail_rate=0.2, stubborn_rate=0.5),
}


def pick_job(draw: Random) -> Job:
    """A process or a callable."""
    kind = draw.randrange(5)
    if kind == 0:
        return CommandJob((Template("work"), Template("${n}")))
    if kind in {1, 2}:
        return ShellJob("work")
    arguments = {"order": Template("${order.id}"), "attempt": Template("${order.attempt}")}
    return PythonJob("call" if kind == 3 else "call_blocking", arguments)


@dataclass
class Call:
    """A callable that was really called."""

    order: str
    added: int
    attempt: int
    lane: str
    is_over: bool = False
    has_failed: bool = False


class Calls:
    """The truth about callables: S5 for what runs inside our own processes."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.calls: list[Call] = []
        self.breaches: list[str] = []
        self.is_dead: Callable[[str], bool] = lambda _: False
        self.added_of: Callable[[str, int], int] = lambda *_: 0

    def begin(self, order: str, attempt: int) -> Call:
        added = self.added_of(order, attempt)
        for one in self.calls:
            if (one.order, one.added) != (order, added):
                continue
            if one.attempt == attempt:
                self.breaches.append(
                    f"S5: attempt {attempt} of {order} was called twice, in {one.lane} and {NODE.get()}"
                )
            elif not one.is_over and not self.is_dead(one.lane):
                self.breaches.append(
                    f"S5: attempt {attempt} of {order} was called while {one.attempt} ran in {one.lane}"
                )
        call = Call(order, added, attempt, NODE.get())
        self.calls.append(call)
        return call

    async def call(self, order: str, attempt: int) -> dict[str, Any] | None:
        call = self.begin(order, attempt)
        try:
            await asyncio.sleep(self.random.random() ** 3 * 5)
            return self.result(call)
        finally:
            call.is_over = True

    def call_blocking(self, order: str, attempt: int) -> dict[str, Any] | None:
        call = self.begin(order, attempt)
        call.is_over = True
        return self.result(call)

    def result(self, call: Call) -> dict[str, Any] | None:
        call.has_failed = self.random.random() < 0.1
        if call.has_failed:
            raise ValueError("it failed by chance")
        return self.random.choice((None, {"text": "some result"}, {"n": 1}))

    def ended(self, node: str, event: Event) -> None:
        """S5: a result without a return code is that of the attempt's own call, which is over."""
        if not isinstance(event, AttemptEnded) or event.outcome.return_code is not None:
            return
        kind, added = event.outcome.kind, self.added_of(event.order, event.attempt)
        own = [one for one in self.calls if (one.order, one.added, one.attempt) == (event.order, added, event.attempt)]
        if kind is OutcomeKind.SUCCEEDED:
            is_true = any(one.is_over and not one.has_failed for one in own)
        elif kind is OutcomeKind.FAILED:
            is_true = not own or own[0].has_failed  # without a call it could not be begun
        else:
            return
        if not is_true:
            self.breaches.append(f"S5: {node} journals that attempt {event.attempt} of {event.order} {kind}: {own}")


# What people do, and how often. A run does not have everything: what is done, and how densely, is drawn for each.
ACTS: dict[str, float] = {
    "add": 9,
    "add several": 1,
    "repeat": 1,
    "cancel": 1,
    "suspend": 2,
    "resume": 2,
    "release": 1,
    "delete": 1,
    "change": 1,
    "branch": 1,
}


def draw_acts(draw: Random) -> dict[str, float]:
    """Choose what is done in one run; orders are always added."""
    return {act: weight * draw.uniform(0.2, 2) for act, weight in ACTS.items() if act == "add" or draw.random() < 0.7}


@dataclass
class Workload:
    """What one run has to do, drawn from the seed. `acts`: name → weight. `options`: of the workflows."""

    cluster: SimCluster
    random: Random
    seconds: float
    acts: dict[str, float]
    options: dict[str, Any] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)

    async def prepare(self) -> None:
        """Deploy the first workflows, make bundles, and add some orders."""
        for _ in range(2):
            await self._deploy()
        for agent in self.cluster.agents:
            priorities = {SubagentId(one): self.random.randint(1, 2) for one in self.cluster.subagents(agent)}
            await self.cluster.change_item(BundleItem(BundleId(f"bundle-{agent}"), agent, priorities))  # type: ignore[arg-type]
        await self.cluster.submit(AddOrders(tuple(self._add() for _ in range(ORDERS_AT_ONCE))))

    async def run(self) -> None:
        """Do random things until the time is over, several people at once."""
        async with asyncio.TaskGroup() as group:
            for _ in range(PEOPLE):
                group.create_task(self._person())

    async def _person(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self.seconds
        every_s = self.random.uniform(0.05, 1.0)
        while loop.time() < end:
            await asyncio.sleep(self.random.expovariate(1 / every_s))
            command = self._choose()
            if command is not None:
                await self.cluster.submit(command)

    async def _deploy(self) -> None:
        await self.cluster.submit(self._new_workflow())

    def _new_workflow(self) -> DeployWorkflow:
        agents = list(self.cluster.agents)
        bundles = [f"bundle-{agent}" for agent in agents] if len(agents) == 1 and self.random.random() < 0.5 else []
        drawn: dict[str, Any] = {
            "agents": agents,
            "bundles": bundles,
            "job": pick_job,
            "wait_ms_max": 4_000,
            "steps_max": self.random.choice((3, 12, 25)),
            "leaves": LEAVES,
        }
        options = Options(**(drawn | self.options))
        name = f"w{self.random.randrange(WORKFLOWS_MAX)}"
        workflow = random_workflow(self.random, options, name)
        if name not in self.names:
            self.names.append(name)
        return DeployWorkflow(workflow)

    def _choose(self) -> OperatorCommand | None:
        draw = self.random
        act = draw.choices(list(self.acts), list(self.acts.values()))[0]
        if act in {"add", "add several"}:
            if len(self.orders) >= ORDERS_MAX:
                return None
            return self._add() if act == "add" else AddOrders(tuple(self._add() for _ in range(3)))
        if act == "change":
            return self._change() if draw.random() < 0.7 else self._new_workflow()
        order = draw.choice(self.orders)
        match act:
            case "repeat":
                return AddOrder(order, draw.choice(self.names))  # a repetition, or a refusal
            case "cancel":
                return CancelOrder(order, kill=draw.random() < 0.6)
            case "suspend":
                return SuspendOrder(order)
            case "resume":
                return ResumeOrder(order)
            case "release":
                return ReleaseAttempt(order, draw.choice((OnLost.RERUN, OnLost.FAIL)))
            case "delete":
                return DeleteOrder(order)
        return self._branch_command(order)

    def _add(self) -> AddOrder:
        order = f"o{len(self.orders)}"
        self.orders.append(order)
        scheduled_ms = self.cluster.nodes["controller"].machine.now_ms() + 3_000 if self.random.random() < 0.1 else 0
        return AddOrder(order, self.random.choice(self.names), {}, None, scheduled_ms, self.random.randrange(3))

    def _change(self) -> ChangeItem:
        subagent = self.random.choice(self.cluster.names("subagent"))
        agent = subagent.rpartition("-")[0]
        parallel_max = self.random.choice((1, 2, SUBAGENT_PARALLEL_MAX))
        disabled = self.random.random() < 0.2
        url = self.cluster.nodes[subagent].url
        return ChangeItem(SubagentItem(SubagentId(subagent), agent, url, parallel_max, disabled))  # type: ignore[arg-type]

    def _branch_command(self, order: str) -> OperatorCommand | None:
        """Do something to a branch of an order."""
        if self.cluster.acting is None:
            return None
        branches = [one for one in self.cluster.controller_state.orders if one.startswith(f"{order}|")]
        if not branches:
            return None
        branch = self.random.choice(branches)
        return self.random.choice((SuspendOrder(branch), ResumeOrder(branch), CancelOrder(branch, kill=True)))

    # --- after the storm

    async def enable_all(self) -> None:
        """Let subagents take attempts again; the others are left alone, for a change wakes whoever stands in line."""
        await self.cluster.until(self.cluster.is_served, "a controller serves")
        for item in list(self.cluster.controller_state.subagents.values()):
            if item.disabled:
                await self.cluster.change_item(msgspec.structs.replace(item, disabled=False))

    async def decide_resting(self) -> int:
        """Be the person that resting orders wait for; return how many did."""
        orders = list(self.cluster.controller_state.orders.values())
        count = 0
        for order in orders:
            command = self._release(order)
            if command is not None:
                count += 1
                await self.cluster.submit(command)
        return count

    def _release(self, order: Any) -> OperatorCommand | None:
        if order.is_held:
            return ReleaseAttempt(order.id, self.random.choice((OnLost.RERUN, OnLost.FAIL)))
        if order.state is OrderState.SUSPENDED:
            return ResumeOrder(order.id) if self.random.random() < 0.7 else CancelOrder(order.id)
        if order.state is OrderState.FAILED and order.parent is not None:
            return ResumeOrder(order.id) if self.random.random() < 0.5 else CancelOrder(order.parent)
        return None
