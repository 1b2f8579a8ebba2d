"""Booting that fails half-way leaves nothing behind: no task, no file, no guard; and nobody is told that a node ended.

Tests: engine/boot.py
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.base.pair import Member, Ownership
from engine.boot import boot_agent, boot_controller, boot_subagent
from engine.embed import CLUSTER
from engine.pair.cells import cells
from engine.pair.node import UnfitPlace
from engine.real import RealPlace
from tests.house.leaks import open_files


@pytest.mark.parametrize("boot", [boot_controller, boot_agent, boot_subagent])
async def test_an_address_that_is_taken_ends_the_second_node_whole(tmp_path: Path, boot: Callable[..., Any]) -> None:
    place = RealPlace(tmp_path / "state")
    told: list[BaseException] = []
    first = await boot(place.node_world("a", "a"), "memory://here", CLUSTER, told.append)
    with pytest.raises(OSError, match="in use"):
        await boot(place.node_world("b", "b"), "memory://here", CLUSTER, told.append)
    assert not [one for one in open_files() if one.startswith(str(tmp_path / "state" / "b"))]
    await first.close()
    second = await boot(place.node_world("b", "b"), "memory://here", CLUSTER, told.append)
    await second.close()
    await second.close()
    place.close()
    assert told == []


@pytest.mark.parametrize("boot", [boot_controller, boot_agent])
async def test_half_of_a_pair_does_not_begin_alone(tmp_path: Path, boot: Callable[..., Any]) -> None:
    """The other one may be acting, and a node that is alone asks nobody."""
    place = RealPlace(tmp_path / "state")
    world = place.node_world("a", "a")
    store = await world.open_store()
    await store.set_cells(cells(1, Ownership("pair", 1, "a", (Member("a", "disk"),), 1)))
    await store.close()
    with pytest.raises(UnfitPlace, match="can not act alone"):
        await boot(world, "memory://here", CLUSTER, lambda _: None)
    assert not [one for one in open_files() if one.startswith(str(tmp_path / "state" / "a"))]
    place.close()
