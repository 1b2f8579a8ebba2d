"""Several agents and subagents in one engine: orders move, agents go on alone, bundles choose, wrong addresses wait."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Workflow, fork, job
from engine.base.ids import AgentId, BundleId, SubagentId
from engine.boot import boot_controller, boot_subagent
from engine.embed import CLUSTER
from engine.language import standard_language
from engine.model.event import AgentCoupled, AttemptAssigned, AttemptEnded, OrderAttached, SubagentCoupled
from engine.model.item import AgentItem, BundleItem, SubagentItem
from engine.model.order import OrderState
from engine.rules.commands.change_item import ChangeItem
from tests.embed.engines import node, read, restarts, seen, shell, true


def say(who: str) -> dict[str, str]:
    return {"who": who}


async def change(engine: Engine, item: Any) -> None:
    await engine.client.command(ChangeItem(item))


async def test_an_order_moves_between_agents_and_takes_its_variables_along(tmp_path: Path) -> None:
    def step(name: str) -> Any:
        text = f'echo "{name}=${{SEEN}}{name}" > "$UNDERSTUDY_RESULT"'
        before = {"a": "", "b": "${a}", "c": "${b}"}[name]
        return job(f"at_{name}", shell=text, environment={"SEEN": before}, agent=name)

    workflow = Workflow("tour", step("a"), step("b"), step("c"), agent="a")
    async with Engine(tmp_path, agents=("a", "b", "c")) as engine:
        stream = engine.events()
        order = await engine.add_order(workflow)
        assert await order.result() == {"a": "a", "b": "ab", "c": "abc"}
        agents = [(await seen(stream, OrderAttached)).agent for _ in range(3)]
        assert agents == ["a", "b", "c"]
        assert restarts(engine) == 0


async def test_branches_of_one_order_run_at_several_agents(tmp_path: Path) -> None:
    one, two = (job("say", python=say, arguments={"who": name}, agent=name) for name in "ab")
    workflow = Workflow("w", fork(a=one, b=two, collect=["who"]), agent="a")
    async with Engine(tmp_path, agents=("a", "b")) as engine:
        for _ in range(5):
            order = await engine.add_order(workflow)
            assert (await order.result())["who"] == {"a": "a", "b": "b"}


async def test_an_agent_goes_on_alone_and_reports_when_the_controller_is_back(tmp_path: Path) -> None:
    gate, steps = threading.Event(), []

    def step() -> None:
        gate.wait()
        steps.append(threading.current_thread().name)

    workflow = Workflow("w", *(job(f"j{number}", python=step) for number in range(5)))
    async with Engine(tmp_path) as engine:
        stream = engine.events()
        order = await engine.add_order(workflow)
        await seen(stream, AttemptAssigned)
        supervisor = next(one for one in engine._supervisors if one.name == "controller")
        await node(engine, "controller").close("maintenance")
        gate.set()
        await true(lambda: len(steps) == 5)
        waiting = asyncio.ensure_future(order.ended())  # asked while there is no controller
        assert engine._place is not None
        world = engine._place.node_world("controller", "controller")
        supervisor.node = await boot_controller(world, "memory://controller", CLUSTER, lambda _: None)
        assert (await waiting).state is OrderState.FINISHED
        await read(stream, lambda one: isinstance(one.event, AttemptEnded) and one.event.attempt == 5)
        assert (await engine.client.orders()).orders[0].order.attempt == 5
        assert restarts(engine) == 0


async def test_an_agent_that_is_nowhere_and_one_at_a_wrong_address_keep_their_orders_waiting(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        stream = engine.events()
        orders = []
        for name, url in (("nowhere", "memory://nobody"), ("odd", "nosuch://url"), ("other", "memory://agent-local")):
            await change(engine, AgentItem(AgentId(name), url))
            orders.append(await engine.add_order(Workflow(name, job("j", python=lambda: None), agent=name)))
        unknown = await engine.add_order(Workflow("unknown", job("j", python=lambda: None), agent="unknown"))
        for order in orders:
            await true_async(order, "is not connected")
        await true_async(unknown, "unknown")
        assert restarts(engine) == 0
        await unknown.cancel()
        assert (await unknown.ended()).state is OrderState.CANCELLED
        await seen(stream, AgentCoupled)


async def true_async(order: Any, part: str) -> None:
    async with asyncio.timeout(20):
        while part not in (text := await order.obstacle()):
            await asyncio.sleep(0)
    assert text


async def test_a_subagent_at_a_wrong_address_is_passed_over_and_taken_when_it_is_corrected(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        stream = engine.events()
        wrong = SubagentItem(SubagentId("second"), AgentId("local"), "memory://subagent-locale")
        await change(engine, wrong)
        for _ in range(3):
            ended = await (await engine.add_order(shell("true"))).ended()
            assert ended.state is OrderState.FINISHED
        assert {(await seen(stream, AttemptAssigned)).subagent for _ in range(3)} == {"subagent-local"}
        async with subagent(engine, "second") as url:
            await change(engine, SubagentItem(SubagentId("second"), AgentId("local"), url))
            while (await seen(stream, SubagentCoupled)).subagent != "second":
                pass
            for _ in range(2):
                await (await engine.add_order(shell("true"))).result()
            assert {(await seen(stream, AttemptAssigned)).subagent for _ in range(2)} == {"subagent-local", "second"}


class subagent:
    """A further subagent beside an engine's own."""

    def __init__(self, engine: Engine, name: str) -> None:
        assert engine._place is not None
        self.world = engine._place.node_world(name, name)
        self.url = f"memory://{name}"

    async def __aenter__(self) -> str:
        self.actor = await boot_subagent(self.world, self.url, CLUSTER, lambda _: None, {}, standard_language())
        return self.url

    async def __aexit__(self, *_: object) -> None:
        await self.actor.close()


@pytest.mark.parametrize(("priorities", "expected"), [
    ({"one": 1, "two": 1, "three": 1}, ["one", "two", "three", "one", "two", "three"]),
    ({"one": 1, "two": 3, "three": 2}, ["two"] * 6),
    ({"one": 2, "two": 1, "three": 2}, ["one", "three", "one", "three", "one", "three"]),
])  # fmt: skip
async def test_bundles_take_turns_or_the_first_in_rank(
    tmp_path: Path, priorities: dict[str, int], expected: list[str]
) -> None:
    async with Engine(tmp_path) as engine:
        stream = engine.events()
        async with subagent(engine, "one") as one, subagent(engine, "two") as two, subagent(engine, "three") as three:
            for name, url in (("one", one), ("two", two), ("three", three)):
                await change(engine, SubagentItem(SubagentId(name), AgentId("local"), url, 1))
                while (await seen(stream, SubagentCoupled)).subagent != name:
                    pass
            ranks = {SubagentId(name): rank for name, rank in priorities.items()}
            await change(engine, BundleItem(BundleId("all"), AgentId("local"), ranks))
            for _ in expected:
                await (await engine.add_order(shell("true", bundle="all"))).result()
            assert [(await seen(stream, AttemptAssigned)).subagent for _ in expected] == expected


async def test_a_bundle_s_first_gives_way_to_the_next_while_it_is_busy(tmp_path: Path) -> None:
    go_on = tmp_path / "go_on"
    async with Engine(tmp_path / "s") as engine:
        stream = engine.events()
        async with subagent(engine, "one") as one, subagent(engine, "two") as two:
            for name, url in (("one", one), ("two", two)):
                await change(engine, SubagentItem(SubagentId(name), AgentId("local"), url, 1))
                while (await seen(stream, SubagentCoupled)).subagent != name:
                    pass
            ranks = {SubagentId("one"): 2, SubagentId("two"): 1}
            await change(engine, BundleItem(BundleId("all"), AgentId("local"), ranks))
            wait = shell(f"while ! test -e {go_on}; do sleep 0.01; done", bundle="all")
            orders = [await engine.add_order(wait) for _ in range(3)]
            taken = [(await seen(stream, AttemptAssigned)).subagent for _ in range(2)]
            go_on.touch()
            for order in orders:
                await order.result()
            assert (taken, (await seen(stream, AttemptAssigned)).subagent in ("one", "two")) == (["one", "two"], True)
