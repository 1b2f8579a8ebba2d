"""The picture of a table: never more rows than there is room, what matters first. Tests: engine/cli/rows.py"""

import pytest

from engine.cli.rows import rows_of, strand_state
from engine.model.expression import Expression, Template
from engine.model.job import Start
from engine.model.outcome import SUCCEEDED, Outcome, failed, unknown
from engine.model.workflow import Parameter, ParameterType, Workflow
from engine.rules.instructions.fork import Fork
from engine.rules.instructions.fork_list import ForkList
from engine.rules.instructions.retry import Retry
from engine.rules.instructions.sleep import Sleep
from tests.cli.story import job, table_of
from tests.support.pure import PureCluster

BRANCHES = 300


def many(script: object = None) -> tuple[PureCluster, Workflow]:
    """An order of 300 branches of two steps each; every tenth runs, every hundredth failed."""

    def by_number(start: Start) -> Outcome | None:
        number = int(start.order.rpartition("|")[2])
        return failed("no") if number % 100 == 1 else None if number % 10 == 0 else SUCCEEDED

    cluster = PureCluster(script=by_number, parallel_max=1_000)
    fork = ForkList(Expression("items"), "item", (job("first"), job("second")))
    workflow = cluster.deploy(fork, items=Parameter(ParameterType.LIST))
    cluster.add(items=list(range(BRANCHES)))
    return cluster, workflow


def test_a_small_table_is_shown_whole() -> None:
    cluster = PureCluster(script=lambda start: failed("no") if start.attempt == 1 else SUCCEEDED)
    workflow = cluster.deploy(Retry(2, (job("a"),)), Fork({"x": (job("b"),)}), Sleep(Template("5s")))
    cluster.add()
    rows = rows_of(table_of(cluster, workflow), 3_000, 50)
    assert [(row.depth, row.name, row.state, row.span, row.note.partition("until")[0]) for row in rows] == [
        (0, "o", "waiting", "2.00s", ""),
        (1, "a", "failed", "0.00s", "no"),
        (1, "a", "succeeded", "0.00s", "attempt 2, round 2"),
        (1, "fork", "succeeded", "0.00s", "1 branch"),
        (2, "x", "finished", "0.00s", ""),
        (3, "b", "succeeded", "0.00s", "attempt 3"),
        (1, "sleep 5s", "sleeping", "2.00s", ""),
    ]


@pytest.mark.parametrize("rows_max", [1, 2, 3, 5, 10, 40, 100, 300, 1_000])
def test_there_are_never_more_rows_than_there_is_room(rows_max: int) -> None:
    cluster, workflow = many()
    rows = rows_of(table_of(cluster, workflow), 2_000, rows_max)
    assert 1 <= len(rows) <= rows_max
    assert rows[0].name == "o"


def test_what_ended_well_gives_way_to_what_lives() -> None:
    cluster, workflow = many()
    table = table_of(cluster, workflow)
    rows = rows_of(table, 2_000, 110)
    states = [row.state for row in rows if row.depth == 2 and row.state]
    assert states.count("failed") == 3
    assert states.count("running") == 30
    assert "finished" not in states
    assert rows[-1].name == "… 267 more: 267 finished"


def test_where_even_that_does_not_fit_some_stand_for_all() -> None:
    cluster, workflow = many()
    rows = rows_of(table_of(cluster, workflow), 2_000, 12)
    assert rows[-1].name == "… 295 more: 2 failed, 267 finished, 26 running"


def test_a_held_order_is_told_as_held_with_its_reason() -> None:
    cluster = PureCluster(script=lambda _: unknown("power cut"))
    workflow = cluster.deploy(job("a"))
    cluster.add()
    table = table_of(cluster, workflow)
    assert strand_state(table.root) == "held"
    assert rows_of(table, 2_000, 9)[0].note == "power cut"


def test_a_name_or_a_message_can_not_draw() -> None:
    cluster = PureCluster(script=lambda _: failed("\x1b[2J\nboo" + "x" * 500))
    workflow = cluster.deploy(job("a"))
    cluster.add()
    for row in rows_of(table_of(cluster, workflow), 2_000, 9):
        assert row.note.isprintable()
        assert len(row.note) <= 160
