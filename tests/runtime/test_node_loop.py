"""The one loop: durable, then visible; urgent work overtakes; a failed disk ends the node.

Tests: engine/runtime/node_loop.py, engine/runtime/mailbox.py, engine/runtime/alone.py, engine/runtime/recovery.py
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from engine.base.codec import encode
from engine.base.ids import Cursor
from engine.base.limits import BATCHES_IN_FLIGHT_MAX
from engine.base.problem import EngineClosed, Problem
from engine.base.wire import Accepted
from engine.ports import Entry, Record, Snapshot, StoreFault
from engine.runtime.alone import Alone
from engine.runtime.mailbox import MailboxFull, Work
from engine.runtime.node_loop import NodeLoop, open_node
from tests.support.counting import Add, Count, CountingMachine


class GatedStore:
    """A journal in memory whose fsync waits for the test."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.appends: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fault: StoreFault | None = None
        self.closed = False

    async def append(self, entries: Sequence[Entry], cells: Mapping[str, bytes] | None = None) -> None:
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        self.entries.extend(entries)
        self.appends.append(len(entries))

    async def snapshot(self) -> Snapshot | None:
        return None

    async def replay(self, after: int) -> AsyncIterator[list[Record]]:
        yield [Record(one.index, one.epoch, one.events, one.marks, b"") for one in self.entries]

    async def close(self) -> None:
        self.closed = True


class GatedReplication(Alone):
    """A standby that acknowledges when the test says so."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()

    async def acknowledged(self, index: int) -> None:
        await self.gate.wait()


class TestWorld:
    __test__ = False
    node = "n"
    revoked: str | None = None

    @property
    def clock(self) -> "TestWorld":
        return self

    def now_ms(self) -> int:
        return 0

    def revoke(self, reason: str) -> None:
        self.revoked = reason


class Seen:
    """Everything that became visible."""

    def __init__(self) -> None:
        self.published: list[int] = []
        self.effects: list[Any] = []
        self.ended: list[BaseException] = []
        self.closed = ""

    def publish(self, records: list[Record]) -> None:
        self.published.extend(record.index for record in records)

    def close(self, reason: str) -> None:
        self.closed = reason


class Bench:
    def __init__(self) -> None:
        self.store = GatedStore()
        self.replication = GatedReplication()
        self.world = TestWorld()
        self.seen = Seen()
        self.loop: NodeLoop[Count]

    async def open(self) -> NodeLoop[Count]:
        self.loop = await open_node(
            machine=CountingMachine(),
            store=self.store,  # type: ignore[arg-type]
            feed=self.seen,
            replication=self.replication,
            world=self.world,  # type: ignore[arg-type]
            perform=self.seen.effects.append,
            on_closed=self.seen.ended.append,
        )
        self.loop.start()
        await self.loop.settle()
        return self.loop

    def ask(self, amount: Any, **fields: Any) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.loop.post(Work(Add(amount), done=future.set_result), **fields)
        return future


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    one = Bench()
    await one.open()
    yield one
    await one.loop.close()
    assert one.store.closed


async def until(condition: Any) -> None:
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not happen")


async def test_an_accepted_command_is_answered_published_and_performed(bench: Bench) -> None:
    assert await bench.ask(5) == Accepted(2, 0)
    assert bench.seen.published == [1, 2]
    assert bench.seen.effects == ["resumed with 0", 5]


async def test_nothing_is_visible_before_it_is_durable(bench: Bench) -> None:
    bench.store.gate.clear()
    answer = bench.ask(5)
    read: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    bench.loop.post(Work(read=lambda state, _: state.total, done=read.set_result))
    await until(lambda: bench.loop.state.total == 5)
    assert (answer.done(), read.done(), bench.seen.published, bench.seen.effects[1:]) == (False, False, [1], [])
    bench.store.gate.set()
    assert await answer == Accepted(2, 0)
    assert await read == 5


async def test_nothing_is_visible_before_the_standby_has_it(bench: Bench) -> None:
    bench.replication.gate.clear()
    answer = bench.ask(5)
    await until(lambda: len(bench.store.entries) == 2)
    assert (answer.done(), bench.seen.published) == (False, [1])
    bench.replication.gate.set()
    await answer


async def test_who_may_not_act_shows_nothing_though_everybody_has_it(bench: Bench) -> None:
    acting = asyncio.Event()
    bench.replication.may_act = acting.is_set  # type: ignore[method-assign]
    bench.replication.acting = acting.wait  # type: ignore[method-assign, assignment]
    answer = bench.ask(5)
    await until(lambda: len(bench.store.entries) == 2)
    for _ in range(50):
        await asyncio.sleep(0)
    assert (answer.done(), bench.seen.published, bench.seen.effects[1:], bench.loop.shown) == (False, [1], [], 1)
    acting.set()
    assert await answer == Accepted(2, 0)
    assert (bench.seen.published, bench.seen.effects[1:]) == ([1, 2], [5])


async def test_leave_to_act_is_asked_before_each_effect(bench: Bench) -> None:
    """The lease may end between two effects of one batch."""
    left, acting = [2], asyncio.Event()

    def may_act() -> bool:
        left[0] -= 1
        return left[0] >= 0 or acting.is_set()

    bench.store.gate.clear()
    answers = [bench.ask(amount) for amount in (1, 2, 3)]
    bench.replication.may_act = may_act  # type: ignore[method-assign]
    bench.replication.acting = acting.wait  # type: ignore[method-assign, assignment]
    bench.store.gate.set()
    await until(lambda: left[0] < 0)
    for _ in range(50):
        await asyncio.sleep(0)
    assert [one.done() for one in answers] == [True, False, False]
    acting.set()
    await asyncio.gather(*answers)


async def test_a_problem_waits_for_what_it_saw(bench: Bench) -> None:
    bench.store.gate.clear()
    bench.ask(5)
    refused = bench.ask(-1)
    await until(lambda: len(bench.loop.mailbox) == 0)
    assert not refused.done()
    bench.store.gate.set()
    assert isinstance(await refused, Problem)


async def test_many_turns_share_one_append(bench: Bench) -> None:
    bench.store.gate.clear()
    answers = [bench.ask(1) for _ in range(100)]
    await until(lambda: bench.loop.state.total == 100)
    bench.store.gate.set()
    await asyncio.gather(*answers)
    assert max(bench.store.appends) >= 99


async def test_what_says_that_the_standby_is_gone_overtakes_the_wait_for_it(bench: Bench) -> None:
    bench.replication.gate.clear()
    for number in range(BATCHES_IN_FLIGHT_MAX + 5):
        bench.ask(1)
        await until(lambda n=number: bench.loop.state.total > n or n >= BATCHES_IN_FLIGHT_MAX)
    for _ in range(20):
        await asyncio.sleep(0)
    assert bench.loop.state.total == BATCHES_IN_FLIGHT_MAX, "the pipeline is bounded"
    bench.loop.post(Work(Add(1_000)), urgent=True)
    await until(lambda: bench.loop.state.total >= 1_000)
    bench.replication.gate.set()
    await until(lambda: bench.loop.state.total == 1_000 + BATCHES_IN_FLIGHT_MAX + 5)


async def test_a_failed_append_ends_the_node_and_tells_everybody(bench: Bench) -> None:
    bench.store.gate.clear()
    kept, waiting = bench.ask(1), bench.ask(2)
    await until(lambda: bench.loop.state.total == 3)
    later = bench.ask(3)
    bench.store.fault = StoreFault("The disk is full.")
    bench.store.gate.set()
    for answer in (kept, waiting, later):
        assert isinstance(await answer, EngineClosed)
    assert bench.world.revoked == "The disk is full."
    assert bench.seen.closed == "The disk is full."
    assert [str(one) for one in bench.seen.ended] == ["The disk is full."]
    assert bench.seen.published == [1]
    with pytest.raises(EngineClosed, match="full"):
        bench.ask(4)


async def test_a_mistake_while_deciding_leaves_nobody_waiting(bench: Bench) -> None:
    before, after = bench.ask(1), asyncio.get_running_loop().create_future()
    bench.loop.post(Work(read=lambda _state, _now_ms: 1 // 0, done=after.set_result))
    behind = bench.ask(2)
    assert [type(await one) for one in (before, after, behind)] == [EngineClosed] * 3
    assert [type(error) for error in bench.seen.ended] == [ZeroDivisionError]


async def test_an_answer_that_can_not_be_given_keeps_no_other_from_hearing_of_the_end(bench: Bench) -> None:
    def raises(_answer: Any) -> None:
        raise ZeroDivisionError

    told = [bench.ask(1)]
    bench.loop.post(Work(Add(1), done=raises))
    told.append(bench.ask(2))
    bench.loop.post(Work(Add(1), done=raises))
    told.append(bench.ask(3))
    answers = [await one for one in told]
    assert [type(answer) for answer in answers] == [Accepted, EngineClosed, EngineClosed]
    assert [type(error) for error in bench.seen.ended] == [ZeroDivisionError]


async def test_a_full_mailbox_refuses(bench: Bench) -> None:
    bench.loop.mailbox.length_max = 3
    for _ in range(3):
        bench.ask(1)
    with pytest.raises(MailboxFull):
        bench.ask(1)


async def test_work_of_a_session_that_ended_is_dropped(bench: Bench) -> None:
    class Ended:
        live = False

    bench.loop.post(Work(Add(7), session=Ended()))
    await bench.loop.settle()
    assert bench.loop.state.total == 0


async def test_recovery_is_replay_and_a_new_epoch_and_what_is_owed(bench: Bench) -> None:
    await bench.ask(5)
    mark = Work(Add(6), mark=("agent a", Cursor(7, 1)))
    bench.loop.post(mark)
    await bench.loop.settle()
    assert bench.loop.shown_marks == {"agent a": Cursor(7, 1)}
    again = Bench()
    again.store.entries = list(bench.store.entries)
    loop = await again.open()
    assert (loop.state.total, loop.state.epochs, loop.turns.epoch) == (11, 2, 2)
    assert again.seen.effects == ["resumed with 11"]
    assert loop.shown_marks == {"agent a": Cursor(7, 1)}
    assert again.store.entries[2].marks == encode({"agent a": Cursor(7, 1)})
    await loop.close()


async def test_a_rest_ends_when_all_that_was_decided_is_shown_and_nothing_more_is_decided(bench: Bench) -> None:
    bench.replication.gate.clear()
    first = bench.ask(1)
    await until(lambda: bench.loop.statistics()["batches_in_flight"] == 1)
    resting = asyncio.ensure_future(bench.loop.rest())
    await asyncio.sleep(0)
    second = bench.ask(2)
    for _ in range(50):
        await asyncio.sleep(0)
    assert (resting.done(), first.done(), bench.loop.state.total) == (False, False, 1)
    bench.replication.gate.set()
    await resting
    assert first.done()
    for _ in range(50):
        await asyncio.sleep(0)
    assert (second.done(), bench.loop.state.total) == (False, 1)
    bench.loop.go_on()
    assert isinstance(await second, Accepted)
    await bench.loop.rest()
    bench.loop.go_on()
