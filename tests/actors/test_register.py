"""A running controller as a register: a director may ask it who owns its pair, and nothing else.

Tests: actors/controller.py, engine/rules/register.py
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine import Engine
from engine.base.codec import encode
from engine.base.pair import Member, Ownership
from engine.boot import dial_register
from engine.client.register import LinkRegister
from engine.embed import CLUSTER
from engine.model.query import GetStatus
from engine.ports import RegisterUnreachable

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
