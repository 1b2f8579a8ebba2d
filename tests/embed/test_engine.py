"""The library's face and the life of an engine: opened, refused, closed; in somebody else's program.

Tests: engine/embed.py, engine/__init__.py, engine/real.py, engine/boot.py
"""

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import engine as face
from engine import Engine, EngineClosed, Refused, Workflow, job
from engine.journal.lock import lock_directory
from engine.ports import StoreFault
from tests.embed.engines import WAIT_S_MAX, call, restarts, shell
from tests.house.leaks import open_files


def test_every_name_of_the_face_is_there() -> None:
    assert {"Engine", "Workflow", "job", "fork", "Refused", "EngineClosed", "OrderFailed"} <= set(face.__all__)
    for name in face.__all__:
        assert getattr(face, name) is not None
    assert set(face.__all__) <= set(dir(face))
    with pytest.raises(AttributeError, match="no attribute 'Motor'"):
        _ = face.Motor


async def test_ten_lines_run_a_workflow(tmp_path: Path) -> None:
    async with Engine(state=str(tmp_path / "s")) as engine:
        order = await engine.add_order(Workflow("report", job("sum", python=lambda: {"sum": 3})))
        assert await order.result() == {"sum": 3}
        assert (await order.outcome()) is not None
        assert await engine.client.workflows() != ()


async def test_an_engine_leaves_its_host_as_it_was(tmp_path: Path) -> None:
    def everything() -> tuple[Any, ...]:
        loop = asyncio.get_running_loop()
        return (
            [signal.getsignal(number) for number in signal.valid_signals()],
            list(logging.root.handlers),
            logging.root.level,
            logging.getLogger("understudy").level,
            type(asyncio.get_event_loop_policy()),
            gc.isenabled(),
            gc.get_threshold(),
            gc.get_freeze_count(),
            loop.get_debug(),
            loop.get_exception_handler() if hasattr(loop, "get_exception_handler") else None,
            loop.get_task_factory(),
            os.getcwd(),
            dict(os.environ),
            sys.excepthook,
            threading.excepthook,
            sys.getswitchinterval(),
            sys.getrecursionlimit(),
        )

    before = everything()
    async with Engine(tmp_path) as engine:
        assert everything() == before
        await (await engine.add_order(shell("true"))).result()
        assert everything() == before
    assert everything() == before


async def test_two_engines_in_one_process_know_nothing_of_each_other(tmp_path: Path) -> None:
    async with Engine(tmp_path / "a") as one, Engine(tmp_path / "b") as two:
        first = await one.add_order(call(lambda: {"of": 1}), order_id="same")
        second = await two.add_order(call(lambda: {"of": 2}), order_id="same")
        assert [await first.result(), await second.result()] == [{"of": 1}, {"of": 2}]
        with pytest.raises(Refused, match="no order"):
            await two.order(f"{first.id}x").view()
        await one.close()
        third = await two.add_order(call(lambda: {"of": 3}))
        assert await third.result() == {"of": 3}


async def test_a_state_folder_belongs_to_one_engine(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        with pytest.raises(StoreFault, match=str(os.getpid())):
            await Engine(tmp_path).open()
        with pytest.raises(StoreFault, match="open already"):
            await engine.open()
        await (await engine.add_order(shell("true"))).result()
    async with Engine(tmp_path):
        pass


async def test_an_engine_that_is_not_open_says_so(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    with pytest.raises(EngineClosed, match="never opened"):
        await engine.add_order("w")
    with pytest.raises(EngineClosed, match="never opened"):
        engine.events()
    await engine.close()
    async with engine:
        order = await engine.add_order(shell("true"))
        await order.result()
        assert (await engine.add_order(shell("true"), order_id=order.id)).id == order.id
    await engine.close()
    for ask in (engine.add_order("w"), order.view(), order.ended(), order.cancel()):
        with pytest.raises(EngineClosed, match="the engine was closed"):
            await ask
    async with engine:
        assert (await order.view()).is_terminal


@pytest.mark.parametrize(
    "options",
    [
        {"agents": ("../x",)},
        {"agents": ("",)},
        {"agents": ("a", "a")},
        {"agents": "local"},
        {"agents": ("a" * 100,)},
        {"parallel_max": 0},
        {"snapshot_every_records": 0},
    ],
)
def test_what_can_not_be_is_refused_before_anything_is_made(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Engine(tmp_path / "s", **options)
    assert list(tmp_path.iterdir()) == []


async def test_whoever_waits_is_told_when_the_engine_closes(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    await engine.open()
    stream = engine.events()
    order = await engine.add_order(call(asyncio.Event().wait))
    waiting = [asyncio.ensure_future(order.result()), asyncio.ensure_future(_drained(stream))]
    while not (await order.view()).subagent:
        await asyncio.sleep(0)
    await engine.close("enough")
    assert [str(one) for one in await asyncio.gather(*waiting, return_exceptions=True)] == [
        "the engine is closed: enough",
        "the engine is closed: enough",
    ]


async def _drained(stream: Any) -> None:
    async for _ in stream:
        pass


async def free(state: Path) -> Engine:
    """An engine on a folder once nobody has it: a guard that was just being begun shares the lock until its exec."""
    async with asyncio.timeout(WAIT_S_MAX):
        while True:
            try:
                lock_directory(str(state)).release()
                return Engine(state)
            except StoreFault:
                await asyncio.sleep(0)


async def test_close_may_come_at_any_time_and_twice(tmp_path: Path) -> None:
    files = open_files()
    for turns in (0, 1, 2, 5, 20, 100):
        engine = await free(tmp_path)
        opening = asyncio.ensure_future(engine.open())
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await asyncio.gather(engine.close(), engine.close())
    async with await free(tmp_path) as engine:
        await (await engine.add_order(shell("true"))).result()
        await asyncio.gather(engine.close(), engine.close())
    assert open_files() == files


async def test_an_engine_that_can_not_open_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "subagent-local").mkdir()
    (tmp_path / "subagent-local" / "guard.lock").mkdir()  # no guard can begin here
    files = open_files()
    with pytest.raises(EngineClosed, match="guard"):
        await Engine(tmp_path).open()
    assert open_files() == files
    (tmp_path / "subagent-local" / "guard.lock").rmdir()
    async with Engine(tmp_path) as engine:
        await (await engine.add_order(shell("true"))).result()
        assert restarts(engine) == 0


@pytest.mark.parametrize("garbage", [b"", b"one", b"-1x", b"\xff", b"9" * 5_000])
async def test_a_damaged_incarnation_is_named(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "controller").mkdir()
    (tmp_path / "controller" / "incarnation").write_bytes(garbage)
    with pytest.raises(StoreFault, match="incarnation does not hold a number"):
        await Engine(tmp_path).open()
