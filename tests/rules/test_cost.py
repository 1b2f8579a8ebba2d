"""What one order costs does not depend on how many others there are: counted in calls and events, not in time.

Tests: engine/rules/agent.py, engine/rules/controller.py
"""

from collections import Counter
from typing import Any

import pytest

from engine.model.expression import Expression, Template
from engine.model.job import Start
from engine.model.order import OrderState
from engine.model.outcome import SUCCEEDED, Outcome
from engine.rules.commands.add_order import AddOrder
from engine.rules.commands.cancel_order import CancelOrder
from engine.rules.commands.suspend_order import SuspendOrder
from engine.rules.instructions.fork_list import ForkList
from engine.rules.instructions.sleep import Sleep
from tests.rules.steps import job
from tests.support.pure import PureCluster


class Counting:
    """A machine that counts how often it is asked."""

    def __init__(self, machine: Any, calls: Counter[str]) -> None:
        self._machine = machine
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        self._calls[name] += 1
        return getattr(self._machine, name)


def script(start: Start) -> Outcome | None:
    return None if start.label == "stays" else SUCCEEDED


def crowd(count: int, kind: str, calls: Counter[str]) -> PureCluster:
    """A cluster in which so many orders wait in one way."""
    cluster = PureCluster(script=script, parallel_max=1_000, machines=lambda machine: Counting(machine, calls))
    cluster.deploy(Sleep(Template("1h")), name="sleeps")
    cluster.deploy(job("stays", limit=1), name="lines")
    cluster.deploy(job("stays"), name="runs")
    cluster.deploy(job("done"), name="done")
    cluster.deploy(job("a"), ForkList(Expression("[1, 2, 3]"), "n", (job("b"), job("c"))), job("d"), name="w")
    for number in range(count):
        name = f"{kind}{number}"
        if kind == "scheduled":
            cluster.command(AddOrder(name, "sleeps", scheduled_ms=cluster.now_ms + 3_600_000))
        else:
            cluster.add(name, "sleeps" if kind == "suspended" else kind)
        if kind == "suspended":
            cluster.command(SuspendOrder(name))
    return cluster


def life(cluster: PureCluster, calls: Counter[str]) -> tuple[Counter[str], int]:
    """Lead one order through its life, and another into a cancel; return calls and records."""
    calls.clear()
    before = sum(len(node.records) for node in cluster.nodes)
    cluster.add("one", "w")
    assert cluster.order("one").state is OrderState.FINISHED
    cluster.add("other", "sleeps")
    cluster.command(CancelOrder("other"))
    return Counter(calls), sum(len(node.records) for node in cluster.nodes) - before


@pytest.mark.parametrize("kind", ["sleeps", "scheduled", "suspended", "lines", "runs", "done"])
def test_a_crowd_of_other_orders_costs_one_order_nothing(kind: str) -> None:
    costs = []
    for count in (3, 120):
        calls: Counter[str] = Counter()
        cluster = crowd(count, kind, calls)
        costs.append(life(cluster, calls))
    assert costs[0] == costs[1]
