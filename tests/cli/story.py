"""Orders of a pure cluster, told to a step table as a client would hear them."""

from typing import Any

from engine.base.ids import OrderId
from engine.cli.steps import StepTable, Strand
from engine.jobs.shell import ShellJob
from engine.model.event import Event
from engine.model.order import OrderState
from engine.model.workflow import Workflow
from engine.rules.instructions.job import Execute
from tests.support.pure import PureCluster


def job(name: str = "a", **fields: Any) -> Execute:
    return Execute(name, ShellJob("true"), **fields)


def heard(cluster: PureCluster) -> list[tuple[int, Event]]:
    """Return all events of the controller's journal with the index of their record."""
    machine = cluster.controller.machine
    return [
        (index, event)
        for index, packed in enumerate(cluster.controller.records, 1)
        for event in machine.decode_events(packed)
    ]


def table_of(cluster: PureCluster, workflow: Workflow, order: str = "o") -> StepTable:
    """Return the table after all that has happened, compared with what the controller knows."""
    table = StepTable(OrderId(order), workflow)
    for index, event in heard(cluster):
        table.apply(event, index)
    agree(cluster, table)
    return table


def agree(cluster: PureCluster, table: StepTable) -> None:
    """Compare each strand with its order."""
    orders = cluster.controller_state.orders
    for strand in present(table):
        order = orders[strand.order]
        assert (strand.state, strand.position, strand.mark, strand.is_held, strand.attempt, strand.added) == (
            order.state,
            order.position,
            order.mark,
            order.is_held,
            order.attempt,
            order.added,
        ), strand.order
        assert strand.outcome == order.outcome
        assert strand.is_terminal is order.is_terminal


def present(table: StepTable) -> list[Strand]:
    """Return the root's strand and those of branches that have not joined."""
    found = [table.root]
    for strand in found:
        if strand.state is OrderState.FORKED:
            found.extend(strand.steps[-1].strands)
    return found


def lines(table: StepTable) -> list[str]:
    """Write the table's steps, one a line, for comparison."""
    return [
        f"{strand.path or '-'} {step.kind} {step.label} {step.attempt} {step.state}"
        for strand in table.walk()
        for step in strand.steps
    ]
