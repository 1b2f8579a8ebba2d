"""What an embedded engine survives: ended nodes, its own close and reopening, damage, tiny snapshots.

Tests: engine/snapshot.py
"""

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, EngineClosed, Refused, Workflow, fork, job, retry
from engine.base.ids import START, Cursor
from engine.client.client import Happening
from engine.model.event import AttemptAssigned, AttemptEnded, AttemptStarted, OrderFinished, OrderHeld
from engine.model.order import OrderState
from engine.model.outcome import OutcomeKind
from engine.ports import StoreFault
from engine.rules.commands.add_order import AddOrder
from engine.runtime.supervisor import RESTARTS_MAX
from tests.embed.engines import call, node, read, restarts, seen, shell, true
from tests.support.guarding import guards_end

NODES = ("controller", "local", "subagent-local")


def end(engine: Engine, name: str) -> None:
    """Let a node meet a mistake of ours."""
    found = node(engine, name)
    if name == "controller":
        found.loop.fail(RuntimeError("planted"))
    elif name == "local":
        found.agent.loop.fail(RuntimeError("planted"))
    else:
        found._failed(RuntimeError("planted"))


def count() -> dict[str, int]:
    return {"n": 1}


@pytest.fixture
async def gate() -> AsyncIterator[threading.Event]:
    one = threading.Event()
    yield one
    one.set()


@pytest.mark.parametrize("name", NODES)
async def test_a_node_that_ends_is_booted_again_and_orders_go_on(tmp_path: Path, name: str) -> None:
    go_on = tmp_path / "go_on"
    workflow = Workflow(
        "w",
        fork(a=[job("a", shell=f"while ! test -e {go_on}; do sleep 0.01; done")], b=[job("b", shell="exit 0")]),
        retry([job("c", shell='test "$N" = 3', environment={"N": "${order.attempt}"})], times=3, delays=["1ms"]),
    )
    async with asyncio.timeout(60), Engine(tmp_path / "s") as engine:
        stream = engine.events()
        order = await engine.add_order(workflow)
        await seen(stream, AttemptStarted)
        waiting = asyncio.ensure_future(order.ended())
        for times in range(1, 4):
            end(engine, name)
            adding = await engine.add_order(shell("true", name="meanwhile"))
            assert (await adding.ended()).state is OrderState.FINISHED
            assert restarts(engine) == times
        go_on.touch()
        assert (await waiting).state is OrderState.FINISHED
        ids = [one.id for one in await read(stream, lambda one: is_end_of(one, order.id))]
        assert ids == sorted(set(ids)), "the stream goes on where it was"


def is_end_of(happening: Happening, order: str) -> bool:
    return isinstance(happening.event, OrderFinished) and happening.event.order == order


async def test_a_node_that_ends_again_and_again_is_given_up_and_everybody_is_told(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        stream = engine.events()
        order = await engine.add_order(call(asyncio.Event().wait))
        await seen(stream, AttemptAssigned)
        waiting = asyncio.ensure_future(order.ended())
        for times in range(RESTARTS_MAX + 1):
            await true(lambda n=times: restarts(engine) == n and node(engine, "controller") is not None)  # type: ignore[misc]
            end(engine, "controller")
        with pytest.raises(EngineClosed, match="planted"):
            await waiting
        with pytest.raises(EngineClosed, match="planted"):
            await read(stream, lambda _: False)
        with pytest.raises(EngineClosed, match="planted"):
            await engine.add_order("w")
    async with Engine(tmp_path) as engine:
        assert (await engine.order(order.id).view()).id == order.id


@pytest.mark.parametrize("name", ["controller", "local"])
async def test_a_disk_that_fails_ends_the_engine_and_everybody_is_told(tmp_path: Path, name: str) -> None:
    async with Engine(tmp_path) as engine:
        stream = engine.events()
        order = await engine.add_order(call(asyncio.Event().wait, on_lost="fail"))
        await seen(stream, AttemptAssigned)
        waiting = [asyncio.ensure_future(order.ended()), asyncio.ensure_future(read(stream, lambda _: False))]
        found = node(engine, name)
        loop = found.loop if name == "controller" else found.agent.loop

        async def append(*_: object) -> None:
            raise StoreFault("The disk is full.")

        loop.store.append = append
        if name == "controller":
            with pytest.raises(EngineClosed, match="disk is full"):
                await engine.add_order("call")
        else:
            await order.cancel()
        for one in waiting:
            with pytest.raises(EngineClosed, match="disk is full"):
                await one
        assert restarts(engine) == 0
    async with Engine(tmp_path) as engine:
        ended = await engine.order(order.id).ended()
        assert ended.state is (OrderState.FAILED if name == "controller" else OrderState.CANCELLED)


@pytest.mark.parametrize("how", ["ended", "reopened"])
async def test_a_process_goes_on_without_us_and_its_return_code_is_exact(tmp_path: Path, how: str) -> None:
    go_on = tmp_path / "go_on"
    workflow = shell(f"while ! test -e {go_on}; do sleep 0.01; done; echo n=1 > $UNDERSTUDY_RESULT; exit 7")
    engine = Engine(tmp_path / "s")
    await engine.open()
    stream = engine.events()
    order = await engine.add_order(workflow)
    started = await seen(stream, AttemptStarted)
    if how == "ended":
        end(engine, "subagent-local")
        await true(lambda: restarts(engine) == 1 and node(engine, "subagent-local") is not None)
    else:
        await engine.close()
        await engine.open()
    go_on.touch()
    ended = await engine.order(order.id).ended()
    events = await read(engine.events(START), lambda one: isinstance(one.event, AttemptEnded))
    assert {one.event.pid for one in events if isinstance(one.event, AttemptStarted)} == {started.pid}
    assert (ended.state, ended.outcome and ended.outcome.return_code, ended.attempt) == (OrderState.FAILED, 7, 1)
    assert ended.variables == {"n": "1"}
    await engine.close()


async def test_a_state_directory_that_is_removed_ends_the_engine(tmp_path: Path) -> None:
    """Else the order would wait for ever: what ends can not be recorded, so it is not told."""
    engine, go_on = Engine(tmp_path / "s"), tmp_path / "go_on"
    await engine.open()
    stream = engine.events()
    order = await engine.add_order(shell(f"while ! test -e {go_on}; do sleep 0.01; done"))
    await seen(stream, AttemptStarted)
    shutil.rmtree(tmp_path / "s")
    with pytest.raises(EngineClosed, match="was removed while it was in use"):
        await order.result()
    assert isinstance(engine.failure, StoreFault)
    await engine.close()
    go_on.touch()
    await guards_end()


async def test_a_process_that_ended_while_we_were_away_is_known(tmp_path: Path) -> None:
    done = tmp_path / "done"
    async with Engine(tmp_path / "s") as engine:
        stream = engine.events()
        order = await engine.add_order(
            shell(f"while ! test -e {tmp_path}/go_on; do sleep 0.01; done; touch {done}; exit 3")
        )
        await seen(stream, AttemptStarted)
    (tmp_path / "go_on").touch()
    await true(done.exists)
    async with Engine(tmp_path / "s") as engine:
        ended = await engine.order(order.id).ended()
        assert (ended.outcome and ended.outcome.return_code) == 3


async def test_a_process_whose_record_is_gone_is_held_and_not_begun_again(tmp_path: Path) -> None:
    runs, go_on = tmp_path / "runs", tmp_path / "go_on"
    async with Engine(tmp_path / "s") as engine:
        stream = engine.events()
        order = await engine.add_order(shell(f"echo x >> {runs}; while ! test -e {go_on}; do sleep 0.01; done"))
        await seen(stream, AttemptStarted)
    shutil.rmtree(tmp_path / "s" / "subagent-local")
    async with Engine(tmp_path / "s") as engine:
        await read(engine.events(START), lambda one: isinstance(one.event, OrderHeld))
        assert "record of it is gone" in str(await engine.order(order.id).obstacle())
        go_on.touch()
        await engine.order(order.id).release("fail")
        assert (await engine.order(order.id).ended()).state is OrderState.FAILED
    assert runs.read_text() == "x\n"
    await guards_end()


@pytest.mark.parametrize("how", ["ended", "reopened"])
@pytest.mark.parametrize("choice", ["rerun", "fail"])
async def test_a_callable_that_is_lost_holds_its_order_until_it_is_released(
    tmp_path: Path, gate: threading.Event, how: str, choice: str
) -> None:
    engine = Engine(tmp_path, callables={"wait": gate.wait})
    await engine.open()
    stream = engine.events()
    order = await engine.add_order(Workflow("w", job("job", python="wait")))
    await seen(stream, AttemptAssigned)
    if how == "ended":
        end(engine, "subagent-local")
    else:
        await engine.close()
        await engine.open()
        stream = engine.events(START)
        order = engine.order(order.id)
    await seen(stream, OrderHeld)
    assert (await order.view()).is_held
    with pytest.raises(Refused, match="hold"):
        await order.release("hold")
    gate.set()
    await order.release(choice)
    ended = await order.ended()
    assert (ended.state, ended.attempt) == ((OrderState.FINISHED, 2) if choice == "rerun" else (OrderState.FAILED, 1))
    with pytest.raises(Refused, match="not held"):
        await order.release(choice)
    await engine.close()


async def test_a_callable_that_may_run_twice_does(tmp_path: Path, gate: threading.Event) -> None:
    async with Engine(tmp_path) as engine:
        stream = engine.events()
        order = await engine.add_order(call(gate.wait, on_lost="rerun"))
        await seen(stream, AttemptAssigned)
        end(engine, "subagent-local")
        assert (await seen(stream, AttemptEnded)).outcome.kind is OutcomeKind.UNKNOWN
        gate.set()
        ended = await order.ended()
        assert (ended.state, ended.attempt) == (OrderState.FINISHED, 2)


async def test_events_go_on_at_a_cursor_across_a_reopening(tmp_path: Path) -> None:
    workflow = Workflow("w", *(job(f"j{number}", python=count) for number in range(3)))
    found: list[Happening] = []
    cursor = START
    for number in range(3):
        async with Engine(tmp_path) as engine:
            stream = engine.events(cursor)
            order = await engine.add_order(workflow, order_id=f"o{number}")
            await order.result()
            found += await read(stream, lambda one, order=order: is_end_of(one, order.id))  # type: ignore[misc]
            cursor = stream.cursor
            await stream.aclose()
            assert [one async for one in stream] == []
    async with Engine(tmp_path) as engine:
        whole = await read(engine.events(START), lambda one: is_end_of(one, "o2"))
    again = [one.id for one in found]
    assert again == sorted(set(again)), "none twice, in order"
    missing = {one.id for one in whole} - set(again)
    assert not missing, "no gap"


async def test_a_cursor_that_is_not_of_this_journal_is_refused(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        for cursor in (Cursor(10**6, 1), Cursor(2, 99)):
            with pytest.raises(Refused, match=r"not in this journal|before our cursor|two histories"):
                await read(engine.events(cursor), lambda _: True)


async def test_tiny_snapshots_under_load_leave_the_state_as_it_is_and_trim_the_journal(tmp_path: Path) -> None:
    workflow = Workflow("w", job("j", python=count), job("k", python=count))
    async with asyncio.timeout(100), Engine(tmp_path, snapshot_every_records=50) as engine:
        await engine.deploy(workflow)
        loops = (node(engine, "controller").loop, node(engine, "local").agent.loop)
        done = 0
        while any(loop.store.first == 1 for loop in loops):
            orders = [AddOrder(f"o{n}", "w") for n in range(done, done + 100)]
            handles = await engine.add_orders(orders)
            done += len(orders)
            await asyncio.gather(*(one.result() for one in handles))
        await engine.add_order(call(asyncio.Event().wait, name="stays"), order_id="stays")
        before = [view.order for view in (await engine.client.orders()).orders if view.order.id != "stays"]
        with pytest.raises(Refused, match="must begin anew"):
            await read(engine.events(START), lambda _: True)
        assert restarts(engine) == 0
    async with Engine(tmp_path, snapshot_every_records=50) as engine:
        page = await engine.client.orders()
        assert [view.order for view in page.orders if view.order.id != "stays"] == before
        assert len(before) == min(done, 1_000 - 1) or page.more
        later = await engine.add_order("w")
        assert await later.result() == {"n": 1}


@pytest.mark.parametrize("name", ["controller", "agent-local"])
async def test_a_damaged_record_is_named_and_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    async with Engine(tmp_path) as engine:
        for _ in range(5):
            await (await engine.add_order(call(count))).result()
        middle = node(engine, "controller" if name == "controller" else "local")
        index = (middle.loop if name == "controller" else middle.agent.loop).shown // 2
    journal = tmp_path / name / "journal.db"
    damage(journal, index)
    before = journal.read_bytes()
    for _ in range(2):
        with pytest.raises(StoreFault, match=rf"[Rr]ecord {index}\b"):
            await Engine(tmp_path).open()
    assert journal.read_bytes() == before


def damage(journal: Path, index: int) -> None:
    """Change one byte in the middle of a record's content."""
    with sqlite3.connect(journal) as connection:
        table = next(
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if "record" in name
        )
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        place = next(one for one in columns if one.startswith(("idx", "index", "number", "id")))
        events = bytearray(
            connection.execute(f'SELECT events FROM {table} WHERE "{place}" = ?', (index,)).fetchone()[0]
        )
        events[len(events) // 2] ^= 1
        connection.execute(f'UPDATE {table} SET events = ? WHERE "{place}" = ?', (bytes(events), index))
    connection.close()


async def test_snapshots_are_made_wherever_the_host_stands(tmp_path: Path, monkeypatch: Any) -> None:
    host = tmp_path / "host"
    (host / "engine").mkdir(parents=True)
    (host / "engine" / "__init__.py").write_text("raise SystemExit('this is another engine')")
    (host / "json.py").write_text("raise SystemExit('this is another json')")
    monkeypatch.chdir(host)
    async with asyncio.timeout(100), Engine(tmp_path / "s", snapshot_every_records=20) as engine:
        await engine.deploy(call(count))
        number = 0
        while node(engine, "controller").loop.store.first == 1:
            await (await engine.add_order("call", order_id=f"o{number}")).result()
            number += 1
            assert number < 5_000, "no snapshot was made"
