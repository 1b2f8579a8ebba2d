"""The client: events by cursor in bounded memory, ends of orders, commands while there is no controller.

Tests: engine/client/client.py
"""

import asyncio
from pathlib import Path

import pytest

import engine.client.client
from engine import Engine, EngineClosed, Refused, Workflow, job
from engine.base.ids import START
from engine.base.problem import Problem
from engine.client.client import EventStream, Happening
from engine.model.event import OrderAdded, OrderFinished
from engine.rules.commands.add_order import AddOrder
from engine.runtime.real_clock import RealClock
from tests.embed.engines import node, read, true

TOMORROW_MS = RealClock().now_ms() + 86_400_000
NOTHING = Workflow("nothing")


async def filled(engine: Engine, count: int) -> None:
    """Run orders, each command a record of its own."""
    handles = await asyncio.gather(*(engine.add_order(NOTHING, order_id=f"o{n:04}") for n in range(count)))
    await asyncio.gather(*(one.result() for one in handles))


async def test_a_stream_without_a_cursor_begins_behind_what_its_client_was_told(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        await filled(engine, 10)
        stream = engine.events()
        await engine.add_order(NOTHING, order_id="later")
        found = await read(stream, lambda one: isinstance(one.event, OrderFinished))
        assert {one.event.order for one in found if isinstance(one.event, OrderAdded)} == {"later"}


async def test_a_stream_gives_every_event_once_and_in_order(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        await filled(engine, 50)
        found = await read(engine.events(START), lambda one: is_end(one, "o0049"))
        ids = [one.id for one in found]
        assert ids == sorted(set(ids))
        assert sum(isinstance(one.event, OrderAdded) for one in found) == 50


def is_end(happening: Happening, order: str) -> bool:
    return isinstance(happening.event, OrderFinished) and happening.event.order == order


async def test_a_stream_that_is_cancelled_in_the_middle_goes_on_without_a_gap(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        stream = engine.events(START)
        found: list[Happening] = []

        async def reads() -> None:
            async for happening in stream:
                found.append(happening)

        for number in range(5):
            reading = asyncio.ensure_future(reads())
            order = await engine.add_order(NOTHING, order_id=f"o{number}")
            await order.result()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        if not any(is_end(one, "o4") for one in found):
            found += await read(stream, lambda one: is_end(one, "o4"))
        whole = await read(engine.events(START), lambda one: is_end(one, "o4"))
        assert [one.id for one in found[: len(whole)]] == [one.id for one in whole]


@pytest.mark.parametrize(("records_max", "bytes_max"), [(10, 1 << 30), (1 << 30, 2_000)])
async def test_a_slow_reader_stops_the_sender_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records_max: int, bytes_max: int
) -> None:
    monkeypatch.setattr(engine.client.client, "RECORDS_WAITING_MAX", records_max)
    monkeypatch.setattr(engine.client.client, "RECORDS_WAITING_BYTES_MAX", bytes_max)
    monkeypatch.setattr("engine.runtime.session.RECORDS_UNACKNOWLEDGED_MAX", 20)
    async with Engine(tmp_path) as one:
        stream = one.events(START)
        await anext(stream)
        await filled(one, 200)
        tip = node(one, "controller").feed.tip.index
        await true(lambda: len(stream._waiting) >= 20)
        assert len(stream._waiting) <= 10 + 20 + 20, "what was acknowledged, and the credit behind it"
        assert stream._received.index < tip
        found = await read(stream, lambda happening: is_end(happening, "o0199"))
        ids = [happening.id for happening in found]
        assert ids == sorted(set(ids))
        assert sum(isinstance(happening.event, OrderAdded) for happening in found) == 200


async def test_a_stream_ends_by_its_own_close_and_with_an_error_when_the_client_ends(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        own, other = engine.events(), engine.events()
        waiting = [asyncio.ensure_future(drained(one)) for one in (own, other)]
        await asyncio.sleep(0)
        await own.aclose()
        await own.aclose()
        assert await waiting[0] == []
        engine.client.end("it is over")
        with pytest.raises(EngineClosed, match="it is over"):
            await waiting[1]
        with pytest.raises(EngineClosed, match="it is over"):
            engine.events()
        assert engine.client.streams == {} or other in engine.client.streams


async def drained(stream: EventStream) -> list[Happening]:
    return [one async for one in stream]


async def test_what_is_asked_while_there_is_no_controller_waits_for_it(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        await engine.deploy(NOTHING)
        node(engine, "controller").loop.fail(RuntimeError("planted"))
        asked = await asyncio.gather(
            engine.client.status(),
            engine.client.command(AddOrder("o", "nothing")),
            engine.client.workflow("nothing"),
            return_exceptions=True,
        )
        assert not [one for one in asked if isinstance(one, BaseException)]
        assert (await engine.order("o").ended()).is_terminal


async def test_the_watch_looks_again_when_the_journal_does_not_reach_back(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        first = await engine.add_order(NOTHING)
        await first.result()  # the watch is on
        waiting = asyncio.ensure_future(engine.client.ended(first.id))
        slow = await engine.add_order(Workflow("w"), scheduled_ms=TOMORROW_MS)
        watching = asyncio.ensure_future(slow.ended())
        await waiting
        await true(lambda: slow.id in engine.client._watchers)
        link = engine.client._watch_link
        assert link is not None
        link._on_lost(Problem("TooOld", "trimmed"))
        await true(lambda: slow.id in engine.client._watchers)
        await slow.cancel()
        assert (await watching).is_terminal


async def test_a_client_that_is_closed_refuses(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        client = engine.client
        await client.close("enough")
        for ask in (client.status(), client.order("x"), client.command(AddOrder("x", "y")), client.ended("x")):
            with pytest.raises(EngineClosed, match="enough"):
                await ask
        await client.close()


async def test_a_question_that_can_not_be_sent_is_refused(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        with pytest.raises(Refused):
            await engine.client.order("\ud800")
        with pytest.raises(Refused, match="is the most"):
            await engine.client.order("x" * (17 << 20))
        assert (await engine.client.status()).counts["orders"] == 0


async def test_a_workflow_that_fits_into_no_message_is_refused_as_a_workflow(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        for mebibytes in (5, 9, 17):
            with pytest.raises(Refused) as refused:
                await engine.deploy(Workflow("large", job("a", shell="#" * (mebibytes << 20))))
            assert refused.value.problem.code == "WorkflowTooLarge"
