"""People: what is asked of a simulated cluster's controllers, again and again until it is answered. Floor 10."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from engine.base.problem import Problem, Refused
from engine.base.wire import Accepted
from engine.client.client import Client
from engine.model.item import AnyItem
from engine.model.language import Language
from engine.model.workflow import Workflow, WorkflowId
from engine.rules.commands.add_order import AddOrder
from engine.rules.commands.change_item import ChangeItem
from engine.rules.commands.deploy_workflow import DeployWorkflow
from engine.rules.operator_command import OperatorCommand
from engine.runtime.link import LinkLost
from engine.simulation.loop import VirtualLoop
from engine.simulation.node import CLIENT
from engine.simulation.observe import Lookout

RETRY_MS = 50.0  # between two attempts to send a command whose link was lost
POLL_MS_MIN, POLL_MS_MAX = 20.0, 3_000.0  # between two looks of `until`; they get rarer

Result = TypeVar("Result")


class People:
    """What people do, and how one waits for what comes of it. SimCluster says in which lane and to whom."""

    loop: VirtualLoop
    language: Language
    client: Client
    lookout: Lookout

    def __init__(self) -> None:
        self.pending: dict[asyncio.Task[Any], str] = {}  # what is being asked of the controller
        self.asked = dict.fromkeys(("commands", "accepted", "refused", "repeated"), 0)
        self.on_answered: Callable[[int, str], None]  # S7: a client was shown a record of the controller

    async def in_client(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run something as the client and wait for it."""
        raise NotImplementedError

    def raise_breaches(self) -> None:
        """Raise AssertionError with everything the checkers found, if anything."""
        raise NotImplementedError

    async def submit(self, command: OperatorCommand) -> Accepted | Problem:
        """Send a command, again and again while links are lost, until the controller answers."""
        asking: asyncio.Task[Any] = self.loop.create_task(self.in_client(self._submit(command)))
        self.pending[asking] = type(command).__name__
        try:
            answer: Accepted | Problem = await asking
        finally:
            del self.pending[asking]
        return answer

    async def _submit(self, command: OperatorCommand) -> Accepted | Problem:
        self.asked["commands"] += 1
        while True:
            try:
                answer = await self.client.command(command)
            except LinkLost as lost:
                self.lookout.sometimes("link: command unanswered", lost.sent)
                self.asked["repeated"] += 1
                await asyncio.sleep(RETRY_MS / 1_000)
            except Refused as refused:
                self.asked["refused"] += 1
                self.lookout.timeline.note(CLIENT, f"refused: {refused.problem.code}: {refused.problem.sentence}")
                return refused.problem
            else:
                self.asked["accepted"] += 1
                self.on_answered(answer.index, f"the answer to {type(command).__name__}")
                return answer

    async def command(self, command: OperatorCommand) -> Accepted:
        """Send a command until it is answered; raises Refused."""
        answer = await self.submit(command)
        if isinstance(answer, Problem):
            raise Refused(answer)
        return answer

    async def change_item(self, item: AnyItem) -> None:
        """Add or change an agent, subagent or bundle."""
        await self.command(ChangeItem(item))

    async def deploy(self, workflow: Workflow) -> WorkflowId:
        """Make a workflow known."""
        versioned = self.language.versioned(workflow)
        await self.command(DeployWorkflow(versioned))
        return versioned.id

    async def add_order(
        self, order: str, workflow: str, variables: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        """Add an order; `options` are the other fields of AddOrder."""
        await self.command(AddOrder(order, workflow, dict(variables or {}), **options))

    async def until(self, condition: Callable[[], Any], what: str, *, seconds: float = 600.0) -> None:
        """Wait in virtual time until a condition holds; raises TimeoutError, or AssertionError for a breach."""
        end, every_ms = self.loop.time() + seconds, POLL_MS_MIN
        while not condition():
            self.raise_breaches()
            if self.loop.time() >= end:
                raise TimeoutError(f"after {seconds:g} virtual seconds it is still not so that {what}")
            await asyncio.sleep(every_ms / 1_000)
            every_ms = min(every_ms * 1.2, POLL_MS_MAX)
