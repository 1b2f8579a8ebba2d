"""What controller, agent and director do about refusals and addresses, on real nodes.

Tests: actors/controller.py, actors/agent.py, actors/director.py
"""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.controller import NotAdopted
from engine import Engine, Workflow, job
from engine.base.codec import encode
from engine.base.ids import AgentId, SubagentId
from engine.base.problem import Problem
from engine.base.wire import Identity
from engine.embed import CLUSTER
from engine.model.command import AttachOrder
from engine.model.item import AgentItem, SubagentItem
from engine.model.language import Language
from engine.model.order import OrderState
from engine.rules.commands.change_item import ChangeItem
from engine.runtime.link import Link
from tests.embed.engines import call, node, restarts, shell, true


async def test_a_start_that_a_subagent_refuses_is_an_attempt_that_failed(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:

        def decode(raw: bytes) -> None:
            raise msgspec.ValidationError("of a later version")

        node(engine, "subagent-local")._decode = decode
        ended = await (await engine.add_order(shell("true"))).ended()
        assert ended.state is OrderState.FAILED
        assert "of a later version" in str(ended.outcome)


async def test_an_order_that_an_agent_refuses_is_broken_with_the_reason(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        machine = node(engine, "local").agent.machine
        machine.language = Deaf(machine.language)
        ended = await (await engine.add_order(shell("true"))).ended()
        assert ended.state is OrderState.BROKEN
        assert "of a later version" in str(ended.outcome)


class Deaf:
    """A language that knows no order."""

    def __init__(self, language: Language) -> None:
        self._language = language

    def decode_to_agent(self, raw: bytes) -> Any:
        command = self._language.decode_to_agent(raw)
        if isinstance(command, AttachOrder):
            raise msgspec.ValidationError("of a later version")
        return command

    def __getattr__(self, name: str) -> Any:
        return getattr(self._language, name)


async def test_what_can_not_be_adopted_ends_the_node_and_is_not_acknowledged(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        order = await engine.add_order(call(asyncio.Event().wait))
        controller = node(engine, "controller")
        decide = controller.machine.decide

        def refusing(state: object, command: object, now_ms: int) -> object:
            if type(command).__name__ == "AgentReported":
                return Problem("Mistake", "a mistake of ours")
            return decide(state, command, now_ms)

        controller.machine.decide = refusing
        node(engine, "local").agent.loop.wake((order.id,))
        second = await engine.add_order(shell("true"))
        assert (await second.ended()).state is OrderState.FINISHED, "a node without the mistake adopts it"
        assert restarts(engine) == 1
    assert "mistake of ours" in str(NotAdopted(Problem("Mistake", "a mistake of ours")))


async def test_an_agent_with_a_full_mailbox_refuses_no_order(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        node(engine, "local").agent.loop.mailbox.length_max = 0
        assert (await (await engine.add_order(shell("true"))).ended()).state is OrderState.FINISHED


async def test_an_address_that_changes_is_followed_and_the_old_link_is_closed(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        local = AgentId("local")
        for url in ("memory://nowhere", "memory://agent-local"):
            await engine.client.command(ChangeItem(AgentItem(local, url)))
        for url in ("memory://nowhere", "memory://subagent-local"):
            await engine.client.command(ChangeItem(SubagentItem(SubagentId("subagent-local"), local, url)))
        assert (await (await engine.add_order(shell("true"))).ended()).state is OrderState.FINISHED
        await true(lambda: node(engine, "controller")._retired == [] and node(engine, "local").director._retired == [])


@pytest.mark.parametrize("url", ["memory://controller", "memory://agent-local", "memory://subagent-local"])
async def test_strangers_are_not_let_in(tmp_path: Path, url: str) -> None:
    async with Engine(tmp_path) as engine:
        assert engine._place is not None
        told: list[Problem] = []
        identity = Identity(CLUSTER, "witness", "stranger", 1)
        link = Link(
            engine._place.world("stranger"), (url,), identity, peer_role="x", on_failure=_raise, on_lost=told.append
        )
        link.start()
        await true(lambda: bool(told))
        await link.close()
        assert "stranger" in told[0].sentence


def _raise(error: BaseException) -> None:
    raise error


async def test_what_is_no_command_and_no_query_is_refused(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        link = engine.client._link
        assert "can not be read" in str(await link.request(encode(["Nonsense", 1])))
        assert b"can not be read" in await link.ask(encode({"a": 1}))
        order = await engine.add_order(Workflow("w", job("j", shell="true")))
        assert (await order.ended()).state is OrderState.FINISHED
