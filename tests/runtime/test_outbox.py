"""The outbox: reports in bounded records, numbered anew for each reader, told again until they are acknowledged."""

import asyncio
from typing import Any

import msgspec
import pytest

from engine.base.codec import encode
from engine.base.ids import START, Cursor
from engine.base.limits import EVENTS_BYTES_MAX
from engine.runtime.outbox import RECORD_BYTES_AIM, REPORTS_PER_RECORD_MAX, Outbox, OutboxReader

_decode = msgspec.msgpack.Decoder(list[Any]).decode


async def everything(outbox: Outbox, reader: OutboxReader, records_max: int = 1_000) -> list[list[Any]]:
    """Read until nothing waits."""
    found: list[list[Any]] = []
    while outbox._waiting:
        found += [_decode(record.events) for record in await reader.next(records_max)]
    return found


async def test_reports_that_wait_together_go_out_together() -> None:
    outbox = Outbox()
    for number in range(3):
        outbox.put("k", number, ends=False)
    (record,) = await outbox.reader(START).next(10)
    assert (record.index, record.epoch, _decode(record.events)) == (1, 1, [0, 1, 2])


async def test_a_reader_waits_for_news() -> None:
    outbox = Outbox()
    reader = outbox.reader(START)
    waiting = asyncio.ensure_future(reader.next(10))
    await asyncio.sleep(0)
    assert not waiting.done()
    outbox.put("k", "news", ends=True)
    assert _decode((await waiting)[0].events) == ["news"]


async def test_what_is_acknowledged_is_gone_and_the_ended_are_named() -> None:
    outbox = Outbox()
    reader = outbox.reader(START)
    outbox.put("a", 1, ends=False)
    outbox.put("b", 2, ends=True)
    await reader.next(10)
    outbox.put("a", 3, ends=True)
    await reader.next(10)
    assert (outbox.acknowledged(1), len(outbox)) == (["b"], 1)
    assert outbox.acknowledged(1) == []
    assert (outbox.acknowledged(2), len(outbox)) == (["a"], 0)


async def test_a_new_reader_gets_everything_again_from_one_and_the_old_one_nothing() -> None:
    outbox = Outbox()
    old = outbox.reader(START)
    for number in range(3):
        outbox.put("k", number, ends=False)
        await old.next(10)
    outbox.put("k", 3, ends=False)
    stale = asyncio.ensure_future(old.next(10))
    new = outbox.reader(Cursor(7, 1))
    (record,) = await new.next(10)
    assert (record.index, _decode(record.events)) == (1, [0, 1, 2, 3])
    outbox.put("k", 4, ends=False)
    assert [one.index for one in await new.next(10)] == [2]
    await asyncio.sleep(0)
    assert not stale.done()
    stale.cancel()
    await asyncio.gather(stale, return_exceptions=True)


@pytest.mark.parametrize(
    ("count", "size_bytes"), [(0, 1), (1, 1), (500, 1), (501, 1), (1_500, 10), (9, 1 << 20), (40, 400_000)]
)
@pytest.mark.parametrize("sent", [0, 3, 1_000])
async def test_records_are_bounded_and_the_tip_says_how_many_there_are(count: int, size_bytes: int, sent: int) -> None:
    outbox = Outbox()
    reader = outbox.reader(START)
    for number in range(count):
        outbox.put(f"k{number}", "x" * size_bytes, ends=False)
        if number < sent:
            await reader.next(1)
    tip = outbox.tip
    if count:
        await outbox.reader(START).next(2)  # a session that is lost again
    reader = outbox.reader(START)
    outbox.put("later", "x", ends=False)
    found = await everything(outbox, reader, 2)
    assert len(found) in (tip.index, tip.index + 1)
    assert sum(len(one) for one in found[: tip.index]) >= count, "up to the tip is everything that was there"
    for reports in found:
        assert len(reports) <= REPORTS_PER_RECORD_MAX
        assert sum(map(len, reports)) < RECORD_BYTES_AIM + size_bytes
        assert len(encode(reports)) < EVENTS_BYTES_MAX, "else the agent could not take them"


async def test_one_answer_is_bounded_too() -> None:
    outbox = Outbox()
    for _ in range(20):
        outbox.put("k", "x" * (1 << 20), ends=False)
    records = await outbox.reader(START).next(1_000)
    assert sum(len(one.events) for one in records) < 3 << 20


async def test_what_can_not_be_encoded_is_the_putter_s_problem() -> None:
    outbox = Outbox()
    for body in (2**70, "\ud800", object()):
        with pytest.raises((OverflowError, UnicodeEncodeError, TypeError)):
            outbox.put("k", body, ends=True)
    assert len(outbox) == 0


async def test_a_report_that_changes_after_it_was_put_is_told_as_it_was() -> None:
    outbox = Outbox()
    body = {"n": 1}
    outbox.put("k", body, ends=True)
    body["n"] = 2
    assert _decode((await outbox.reader(START).next(1))[0].events) == [{"n": 1}]
