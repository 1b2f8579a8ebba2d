"""What an engine remembers of the time before it was opened. Tests: engine/cli/recall.py"""

from pathlib import Path

import pytest

from engine import Workflow, fork, job
from engine.base.ids import START
from engine.cli.recall import RecallingEngine, Unfinished
from engine.model.order import OrderState
from tests.embed.engines import node, restarts, shell, true

pytestmark = pytest.mark.acceptance


async def test_nothing_was_left_where_nothing_was(tmp_path: Path) -> None:
    async with RecallingEngine(tmp_path) as engine:
        assert engine.unfinished == Unfinished(START, ())
        assert await (await engine.add_order(shell("true"))).result() == {}
        assert engine.unfinished == Unfinished(START, ()), "it is about the time before"
    async with RecallingEngine(tmp_path) as engine:
        assert engine.unfinished.orders == ()
        assert engine.unfinished.cursor > START


async def test_what_was_left_is_remembered_with_its_branches(tmp_path: Path) -> None:
    go_on = tmp_path / "go_on"
    waiting = f"while ! test -e {go_on}; do sleep 0.01; done"
    async with RecallingEngine(tmp_path / "s") as engine:
        first = await engine.add_order(Workflow("w", fork(a=[job("a", shell=waiting)], b=[job("b", shell="true")])))
        other = await engine.add_order(shell(waiting, name="other"))
        ended = await engine.add_order(shell("true", name="ended"))
        await ended.result()
        states = node(engine, "controller").loop.state.orders
        await true(lambda: f"{first.id}|b" in states and states[f"{first.id}|b"].is_terminal)
        await true(lambda: states[other.id].state is OrderState.PROCESSING)
    go_on.touch()
    async with RecallingEngine(tmp_path / "s") as engine:
        left = engine.unfinished
        for order in (first, other):
            assert (await engine.order(order.id).ended()).state is OrderState.FINISHED
        node(engine, "controller").loop.fail(RuntimeError("planted"))
        await true(lambda: restarts(engine) == 1 and node(engine, "controller") is not None)
        assert engine.unfinished is left, "a node that is booted again is no new opening"
    assert [(one.id, one.state) for one in left.roots] == [
        (first.id, OrderState.FORKED),
        (other.id, OrderState.PROCESSING),
    ]
    assert [one.id for one in left.family(first.id)] == [first.id, f"{first.id}|a", f"{first.id}|b"]
    assert left.family(ended.id) == []
    async with RecallingEngine(tmp_path / "s") as engine:
        assert engine.unfinished.orders == ()
        assert engine.unfinished.cursor > left.cursor
