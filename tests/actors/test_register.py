"""A running controller as a register: a director may ask it who owns its pair, and nothing else.

Tests: actors/controller.py, engine/rules/register.py
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine import Engine
from engine.base.codec import encode
from engine.base.ids import START
from engine.base.pair import Member, Ownership
from engine.base.problem import Problem
from engine.base.wire import Identity, WireRecord
from engine.boot import dial_register
from engine.client.register import LinkRegister
from engine.embed import CLUSTER
from engine.model.query import GetStatus
from engine.ports import RegisterUnreachable
from engine.runtime.link import Link

FIRST = Ownership("local", 1, "one", (Member("one", "disk"),), 1)


@asynccontextmanager
async def dialled(engine: Engine, role: str, node: str) -> AsyncIterator[LinkRegister]:
    assert engine._place is not None
    failures: list[BaseException] = []
    world = engine._place.world(node)
    register = dial_register(world, role, ["memory://controller"], CLUSTER, failures.append, "controller")
    try:
        yield register
    finally:
        await register.close()
        assert failures == []


async def test_a_value_outlives_the_controller(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine, dialled(engine, "client", "night") as register:
        assert await register.read("local") is None
        assert await register.create(FIRST) == FIRST
    async with Engine(tmp_path) as engine, dialled(engine, "agent", "one") as register:
        assert await register.read("local") == FIRST


async def test_a_director_asks_about_pairs_and_nothing_else(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine, dialled(engine, "agent", "one") as register:
        with pytest.raises(RegisterUnreachable, match="may not create or seed"):
            await register.create(FIRST)
        await register.link.until_coupled()
        assert b"and nothing else" in await register.link.ask(encode(GetStatus()))
        assert "and nothing else" in str(await register.link.request(encode(["cancel_order", "x", False])))


async def test_an_operator_sees_how_much_was_asked_and_by_whom(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine, dialled(engine, "client", "night") as register:
        status = await register.status()
        assert status.node == "controller"
        assert "client/night" in status.peers


async def test_a_director_is_sent_no_records(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        assert engine._place is not None
        world, records, lost = engine._place.world("one"), list[WireRecord](), asyncio.Queue[Problem]()
        failures: list[BaseException] = []
        link = Link(
            world,
            ["memory://controller"],
            Identity(CLUSTER, "agent", "one", 1),
            peer_role="controller",
            on_failure=failures.append,
            cursor=lambda: START,
            on_records=records.extend,
            on_lost=lost.put_nowait,
        )
        link.start()
        try:
            async with asyncio.timeout(10):
                refused = await lost.get()
        finally:
            await link.close()
        assert (refused.code, records, failures) == ("RegisterOnly", [], [])
