"""Booting that fails half-way leaves nothing behind: no task, no file, no guard; and nobody is told that a node ended.

Tests: engine/boot.py
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.boot import boot_agent, boot_controller, boot_subagent
from engine.embed import CLUSTER
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
