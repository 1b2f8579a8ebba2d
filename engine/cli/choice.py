"""Which order a `run` is about, and what must be there to run it. Floor 11.

* An unfinished order goes on unless the person asks for a new one; of several the one that was added last.
* An order that is named is meant, whatever became of it: an order that has ended is told, not run again.
"""

import contextlib
import os
from collections.abc import Sequence

from engine.base.ids import NAME_LENGTH_MAX, AgentId, BundleId, SubagentId, is_name
from engine.base.problem import Refused
from engine.cli.exits import Ended, ExitCode
from engine.cli.request import Request
from engine.client.client import Client
from engine.documents.node import quoted
from engine.model.item import BundleItem
from engine.model.order import Order
from engine.model.workflow import DEFAULT_AGENT, Workflow
from engine.rules.instructions.job import Execute
from engine.rules.statement import CONTROLLER, agents_of

AGENT_CHARS_MAX = NAME_LENGTH_MAX - len("subagent-")  # its one subagent here is named after it
AGENT_FOLDER = "agent-"  # the folders of agents in a state directory begin so


def agents_needed(workflow: Workflow, request: Request) -> tuple[str, ...]:
    """Return the agents to be run: those the workflow names, and those that earlier orders in the directory needed.

    Raises Ended for a name that no agent can have.
    """
    found = dict.fromkeys((DEFAULT_AGENT, *agents_of(workflow, workflow.steps)))
    for agent in found:
        if agent != CONTROLLER and not _can_run(agent):
            sentence = f"no agent can be called {quoted(agent)}: letters, digits, _ . - and {AGENT_CHARS_MAX} at most"
            raise Ended(ExitCode.DOCUMENT, f"{request.file}: {sentence}.")
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(request.state)):
            if name.startswith(AGENT_FOLDER):
                found[AgentId(name.removeprefix(AGENT_FOLDER))] = None
    return tuple(agent for agent in found if agent != CONTROLLER and _can_run(agent))


def bundles_needed(workflow: Workflow) -> list[BundleItem]:
    """Return the bundles that the workflow names, each with the one subagent that its agent has here."""
    steps = [step for _, step in workflow.instructions() if isinstance(step, Execute) and step.bundle]
    return [
        BundleItem(
            BundleId(str(step.bundle)), step.place(workflow), {SubagentId(f"subagent-{step.place(workflow)}"): 1}
        )
        for step in steps
    ]


async def chosen_order(
    client: Client, workflow: Workflow, request: Request, unfinished: Sequence[Order]
) -> Order | None:
    """Return the order that is meant, None when a new one is to begin; raises Ended when the request contradicts it.

    `unfinished`: the root orders that had not ended when the engine was opened, as they were then. Such a one is meant
    although it may have ended by now, for nobody has been told of its end.
    """
    own = [order for order in unfinished if order.workflow.partition("@")[0] == workflow.name]
    if request.order is not None:
        left = next((order for order in unfinished if order.id == request.order), None)
        found = _of(workflow, left or await _known_order(client, request.order))
    else:
        found = own[-1] if own and not request.new else None
    if found is not None and request.new:
        raise Ended(ExitCode.USAGE, f"Order {found.id} exists already; give --new another --id, or none.")
    if request.release and (found is None or found.is_terminal):
        which = f"Order {request.order}" if request.order else f"No order of workflow {workflow.name}"
        what = "is not unfinished" if request.order else "is unfinished"
        raise Ended(ExitCode.USAGE, f"{which} {what} in {request.state}; there is nothing to release.")
    if found is not None and not found.is_terminal and request.words:
        raise Ended(
            ExitCode.USAGE,
            f"Order {found.id} is unfinished and keeps the parameters it began with: leave -p out to go on with it,"
            " or add --new to begin another one.",
        )
    return found


def _can_run(agent: str) -> bool:
    return is_name(agent) and len(agent) <= AGENT_CHARS_MAX


async def _known_order(client: Client, order_id: str) -> Order | None:
    try:
        return (await client.order(order_id)).order
    except Refused:
        return None


def _of(workflow: Workflow, order: Order | None) -> Order | None:
    name = workflow.name if order is None else order.workflow.partition("@")[0]
    if order is not None and (name != workflow.name or order.parent is not None):
        raise Ended(ExitCode.USAGE, f"Order {order.id} is one of workflow {name}; choose another id.")
    return order
