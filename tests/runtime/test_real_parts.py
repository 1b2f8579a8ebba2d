"""The real clock, calls in threads, the world of one incarnation, supervision.

Tests: engine/runtime/real_calls.py, engine/runtime/real_clock.py, engine/runtime/real_world.py,
engine/runtime/supervisor.py
"""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.base.problem import EngineClosed
from engine.ports import ConnectionClosed, StoreFault
from engine.real import RealPlace
from engine.runtime.real_calls import Calls
from engine.runtime.real_clock import RealClock
from engine.runtime.real_world import RealWorld, next_incarnation
from engine.runtime.supervisor import RESTARTS_MAX, Supervisor


async def call(calls: Calls, function: Callable[..., Any], **arguments: Any) -> Any:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    calls.submit(function, arguments, lambda result, error: future.set_result(result if error is None else error))
    return await future


async def test_calls_run_apart_from_the_loop_and_come_back_to_it() -> None:
    calls = Calls("t", threads_max=2)
    assert await call(calls, lambda a, b: a + b, a=1, b=2) == 3
    assert isinstance(await call(calls, lambda: 1 / 0), ZeroDivisionError)
    assert await call(calls, lambda: threading.current_thread().daemon) is True
    names = await asyncio.gather(*(call(calls, lambda: threading.current_thread().name) for _ in range(50)))
    assert set(names) <= {"t-call-1", "t-call-2"}
    calls.close()


async def test_what_returns_after_the_close_is_dropped() -> None:
    calls, gate, seen = Calls("t"), threading.Event(), []
    calls.submit(gate.wait, {}, lambda result, _: seen.append(result))
    calls.close()
    gate.set()
    await asyncio.to_thread(lambda: None)
    assert seen == []


def test_monotonic_time_does_not_fall() -> None:
    clock = RealClock()
    readings = [clock.monotonic_ms() for _ in range(100)]
    assert readings == sorted(readings)
    assert clock.now_ms() > 1_700_000_000_000


def make_world(folder: Path) -> RealWorld:
    async def no_store(path: Path) -> Any:
        raise StoreFault(f"there is none at {path}")

    return RealWorld(
        "n",
        folder,
        incarnation=1,
        transports={},
        open_store=no_store,
        make_host=lambda *_: None,  # type: ignore[arg-type]
        make_snapshot_maker=lambda *_: None,  # type: ignore[arg-type]
    )


async def test_a_revoked_world_refuses_everything(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    (tmp_path / "f").write_bytes(b"abc")
    assert await world.read_file(str(tmp_path / "f"), 2) == b"abc"
    assert await world.read_file(str(tmp_path / "none"), 2) is None
    with pytest.raises(ConnectionClosed, match="names no transport"):
        world.transport("carrier-pigeon://x")
    world.revoke("it is over")
    for use in (
        world.process_host,
        lambda: world.transport("memory://x"),
        lambda: world.call(print, {}, lambda *_: None),
    ):
        with pytest.raises(EngineClosed, match="it is over"):
            use()


async def test_ids_are_long_and_jitter_is_bounded(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    assert len({world.new_id() for _ in range(100)}) == 100
    assert len(world.new_id()) == 22
    assert all(0 <= world.jitter(5) < 5 for _ in range(50))
    assert world.jitter(0) == 0


def test_each_start_is_a_new_incarnation(tmp_path: Path) -> None:
    assert [next_incarnation(tmp_path / "n") for _ in range(3)] == [1, 2, 3]
    (tmp_path / "n" / "incarnation").write_text("garbage")
    with pytest.raises(StoreFault, match="does not hold a number"):
        next_incarnation(tmp_path / "n")


def test_a_node_with_another_disk_is_no_earlier_incarnation_for_those_who_knew_it(tmp_path: Path) -> None:
    known = [next_incarnation(tmp_path / "n", 5_000_000_000) for _ in range(3)]
    assert known == [5_000_000, 5_000_001, 5_000_002]
    assert next_incarnation(tmp_path / "n", 1_000) == 5_000_003, "whatever the clock says"
    replaced = RealPlace(tmp_path / "state")
    try:
        before = replaced.node_world("n", "n").incarnation
        (tmp_path / "state" / "n").rename(tmp_path / "state" / "away")
        assert replaced.node_world("n", "n").incarnation >= before > 1_000_000_000
    finally:
        replaced.close()


class FakeNode:
    def __init__(self, on_closed: Callable[[BaseException], None]) -> None:
        self.on_closed = on_closed
        self.closed: list[str] = []

    async def close(self, reason: str = "") -> None:
        self.closed.append(reason)


class Nursery:
    def __init__(self) -> None:
        self.nodes: list[FakeNode] = []
        self.given_up: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def boot(self, on_closed: Callable[[BaseException], None]) -> FakeNode:
        self.nodes.append(FakeNode(on_closed))
        return self.nodes[-1]


async def test_a_node_is_booted_again_until_it_was_too_often() -> None:
    nursery = Nursery()
    supervisor = Supervisor("n", nursery.boot, RealClock(), nursery.given_up.set_result)
    await supervisor.start()
    for count in range(1, RESTARTS_MAX + 2):
        while len(nursery.nodes) < count:
            await asyncio.sleep(0)
        nursery.nodes[-1].on_closed(RuntimeError("a mistake"))
    assert str(await nursery.given_up) == "a mistake"
    assert supervisor.restarts == RESTARTS_MAX
    assert all(node.closed for node in nursery.nodes)
    await supervisor.close()


async def test_a_fault_of_the_store_is_final() -> None:
    nursery = Nursery()
    supervisor = Supervisor("n", nursery.boot, RealClock(), nursery.given_up.set_result)
    await supervisor.start()
    nursery.nodes[0].on_closed(StoreFault("the disk is gone"))
    assert str(await nursery.given_up) == "the disk is gone"
    assert len(nursery.nodes) == 1
    await supervisor.close()
