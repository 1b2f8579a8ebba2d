"""How an owner brings its log to the other node: windows, denials, snapshots, lost answers.

Tests: engine/pair/sender.py
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from engine.base.pair import AnyPairMessage, InstallSnapshot, Member, Ownership, Rep, RepAck, RepNack
from engine.base.tasks import TaskScope
from engine.journal.memory import MemoryStore
from engine.pair.content import entries_of
from engine.pair.sender import (
    RECENT_BYTES_MAX,
    REP_BYTES_AIM,
    REP_RECORDS_MAX,
    WINDOW_BYTES_MAX,
    WINDOW_REPS_MAX,
    Sender,
)
from engine.pair.staging import CHUNK_BYTES
from engine.ports import Entry, Snapshot
from engine.rules.pair.log import LogShape
from engine.rules.pair.state import Pair, Role, Setting
from tests.journal.stores import entries
from tests.runtime.linked import LoopClock, pass_ms, until, virtual

EPOCH = 3


class Channel:
    """The peer as the sender sees it: takes messages while there is room."""

    def __init__(self) -> None:
        self.connected = True
        self.sent: list[AnyPairMessage] = []
        self.room_for = 1_000_000
        self.waited = 0
        self._emptied = asyncio.Event()

    def send(self, message: AnyPairMessage) -> bool:
        if not self.connected or self.room_for == 0:
            return False
        self.room_for -= 1
        self.sent.append(message)
        return True

    async def room(self) -> None:
        self.waited += 1
        self._emptied.clear()
        await self._emptied.wait()

    def empty(self, room_for: int) -> None:
        self.room_for = room_for
        self._emptied.set()

    def take(self) -> list[AnyPairMessage]:
        taken, self.sent = self.sent, []
        return taken

    def reps(self) -> list[Rep]:
        return [one for one in self.take() if isinstance(one, Rep)]


class Bench:
    """An owner with a log, its sender running, and a tick every quarter of a beat."""

    def __init__(self) -> None:
        self.who = Setting("c", "A", "B", "a0", 1)
        self.store = MemoryStore()
        self.channel = Channel()
        self.alarms: list[str] = []
        self.failures: list[BaseException] = []
        self.me = Pair(role=Role.SOLO, cfg=Ownership("c", EPOCH, "A", (Member("A", "a0"),), 1))
        self.sender = Sender(self, self.store, LoopClock())
        self.scope = TaskScope("bench", self.failures.append)

    def alarm(self, sentence: str) -> None:
        self.alarms.append(sentence)

    async def append(self, many: list[Entry], *, recent: bool = True) -> None:
        await self.store.append(many)
        self.me.log = self.me.log.appended([one.epoch for one in many])
        if recent:
            self.sender.remember(many)
        self.sender.wake()

    def ack(self, index: int, epoch: int = EPOCH) -> None:
        self.me.peer_index = max(self.me.peer_index, index)
        self.sender.note(RepAck(epoch, index, "b0"))

    def nack(self, hint: int) -> None:
        self.sender.note(RepNack(EPOCH, hint, "b0"))

    async def tick(self) -> None:
        while True:
            self.sender.wake()
            await asyncio.sleep(self.who.times.beat_ms / 4_000)


@asynccontextmanager
async def bench(count: int = 0, *, recent: bool = False) -> AsyncIterator[Bench]:
    one = Bench()
    if count:
        await one.append(entries(1, count, EPOCH - 1), recent=recent)
    one.sender.go_on(EPOCH)
    one.scope.start(one.sender.run(one.channel), "sender")
    one.scope.start(one.tick(), "tick")
    await pass_ms(1)
    yield one
    await one.scope.close()
    await one.store.close()
    assert one.failures == []


@virtual
async def test_it_asks_at_its_end_and_sends_what_is_new_at_once() -> None:
    async with bench(5) as one:
        assert one.channel.take() == [Rep(EPOCH, 5, EPOCH - 1)]
        one.ack(5)
        await one.append(entries(6, 1, EPOCH))
        await pass_ms(1)
        (rep,) = one.channel.reps()
        assert (rep.prev_index, rep.prev_epoch, rep.epochs) == (5, EPOCH - 1, (EPOCH,))
        assert entries_of(rep) == entries(6, 1, EPOCH)


@virtual
async def test_a_peer_that_is_far_behind_is_brought_on_however_long_the_log() -> None:
    async with bench(30_000) as one:
        one.channel.take()
        one.nack(40)
        have = 40
        while have < 30_000:
            await pass_ms(1)
            for rep in one.channel.reps():
                assert rep.prev_index == have, "in order, nothing twice"
                have += len(rep.epochs)
                one.ack(have)


@virtual
async def test_the_window_is_bounded_in_messages_and_in_bytes() -> None:
    async with bench() as one:
        one.ack(0)
        for index in range(1, 2 * WINDOW_REPS_MAX):
            await one.append(entries(index, 1, EPOCH))
            await pass_ms(1)
        sent = one.channel.reps()
        assert len(sent) - 1 == WINDOW_REPS_MAX, "and the first question"
        one.ack(1)
        await pass_ms(1)
        (rep,) = one.channel.reps()
        assert len(rep.epochs) == 2 * WINDOW_REPS_MAX - 1 - WINDOW_REPS_MAX, "the rest goes together"
    async with bench() as one:
        one.ack(0)
        one.channel.take()
        big = [Entry(index, EPOCH, bytes(8 << 20)) for index in range(1, 6)]
        await one.append(big)
        await pass_ms(1)
        assert [len(rep.epochs) for rep in one.channel.reps()] == [1], "one record of 8 MiB fills the window"
        assert WINDOW_BYTES_MAX <= 8 << 20


@virtual
async def test_a_message_has_a_bounded_number_of_records_and_about_half_a_mebibyte() -> None:
    for recent in (True, False):
        async with bench() as one:
            await one.append(entries(1, 3_000, EPOCH), recent=recent)
            await one.append([Entry(index, EPOCH, bytes(100 << 10)) for index in range(3_001, 3_011)], recent=recent)
            one.channel.take()
            one.ack(0)
            await pass_ms(5)
            reps = one.channel.reps()
            assert sum(len(rep.epochs) for rep in reps) == 3_010
            assert all(len(rep.epochs) <= REP_RECORDS_MAX for rep in reps)
            sizes = [sum(len(memoryview(body)) for body in rep.bodies) for rep in reps]
            assert max(sizes) <= REP_BYTES_AIM + (101 << 10)


@virtual
async def test_one_denial_is_heard_and_its_echoes_are_not() -> None:
    async with bench(10) as one:
        one.ack(10)
        for index in range(11, 21):
            await one.append(entries(index, 1, EPOCH))
            await pass_ms(1)
        one.channel.take()
        for _ in range(9):  # the first was lost, the other nine are denied
            one.nack(10)
            await pass_ms(1)
        assert [(rep.prev_index, len(rep.epochs)) for rep in one.channel.reps()] == [(10, 10)]
        one.ack(20)
        await one.append(entries(21, 1, EPOCH))
        await pass_ms(1)
        assert [rep.prev_index for rep in one.channel.reps()] == [20]


@virtual
async def test_a_search_for_the_common_record_goes_down_without_waiting() -> None:
    async with bench(100) as one:
        one.channel.take()
        for hint in (80, 50, 20):
            one.nack(hint)
            await pass_ms(1)
            assert one.channel.reps()[0].prev_index == hint
        one.nack(50)
        await pass_ms(1)
        assert one.channel.reps() == [], "an old denial does not lead upwards again"


@virtual
async def test_without_any_answer_it_asks_again_after_two_beats() -> None:
    async with bench(3) as one:
        one.ack(3)
        one.channel.take()
        await one.append(entries(4, 1, EPOCH))
        await pass_ms(1_900)
        assert [rep.prev_index for rep in one.channel.reps()] == [3]
        await pass_ms(400)
        assert one.channel.reps() == [Rep(EPOCH, 4, EPOCH)]
        await pass_ms(2_100)
        assert one.channel.reps() == [Rep(EPOCH, 4, EPOCH)] * 2, "once a beat, as long as it takes"


@virtual
async def test_it_asks_again_what_the_rules_did_not_count() -> None:
    async with bench(3) as one:
        one.sender.note(RepAck(EPOCH, 3, "b0"))
        one.channel.take()
        await pass_ms(1_500)
        assert one.channel.reps() == [Rep(EPOCH, 3, EPOCH - 1)]
        one.ack(3)
        await pass_ms(3_000)
        assert one.channel.reps() == []


@virtual
async def test_a_new_connection_begins_at_once_and_none_costs_nothing() -> None:
    async with bench(3) as one:
        one.ack(3)
        one.channel.take()
        one.channel.connected = False
        await one.append(entries(4, 1, EPOCH))
        await pass_ms(5_000)
        one.channel.connected = True
        one.sender.begin_anew()
        await pass_ms(1)
        assert one.channel.reps() == [Rep(EPOCH, 4, EPOCH)]


@virtual
async def test_another_epoch_in_mid_send_makes_what_was_prepared_void() -> None:
    async with bench(2_000) as one:
        one.channel.take()
        read, release = one.store.read, asyncio.Event()

        async def slow(after: int, *, records_max: int = 1_000, bytes_max: int = 4 << 20) -> list[object]:
            found = await read(after, records_max=records_max, bytes_max=bytes_max)
            await release.wait()
            return list(found)

        one.store.read = slow  # type: ignore[method-assign, assignment]
        one.nack(0)
        await pass_ms(1)
        assert one.me.cfg is not None
        one.me.cfg = Ownership("c", EPOCH + 1, "A", one.me.cfg.insync, 1)
        one.sender.go_on(EPOCH + 1)
        release.set()
        await pass_ms(1)
        assert one.channel.reps() == [Rep(EPOCH + 1, 2_000, EPOCH - 1)]
        one.ack(7, EPOCH)
        assert one.sender.needs is None, "an answer of the epoch before says nothing"


@virtual
async def test_the_same_epoch_in_another_role_begins_nothing_anew() -> None:
    async with bench(3) as one:
        one.ack(3)
        one.channel.take()
        one.sender.go_on(EPOCH)
        await pass_ms(1)
        assert one.channel.reps() == []


async def trimmed(one: Bench, upto: int, state: bytes) -> None:
    tip = one.store.tip
    (record,) = await one.store.read(upto - 1, records_max=1)
    await one.store.add_snapshot(Snapshot(upto, tip.epoch, record.hash, state))
    await one.store.trim(upto)


@virtual
async def test_who_lacks_what_was_trimmed_gets_the_snapshot_as_fast_as_there_is_room() -> None:
    async with bench(20) as one:
        state = bytes(range(256)) * 4_096 * 5  # 5 MiB
        await trimmed(one, 10, state)
        one.channel.take()
        one.channel.room_for = 3
        one.ack(4)
        await pass_ms(10)
        assert len(one.channel.sent) == 3, "the rest waits for room"
        one.nack(4)
        one.nack(4)  # echoes of what was under way
        assert one.sender.needs == 4
        while one.channel.room_for == 0:
            one.channel.empty(5)
            await pass_ms(10)
        *parts, rep = one.channel.take()
        chunks = [part.chunk for part in parts if isinstance(part, InstallSnapshot)]
        assert max(map(len, chunks)) == CHUNK_BYTES
        assert b"".join(chunks) == state, "each part once"
        assert isinstance(rep, Rep)
        assert (rep.prev_index, len(rep.epochs)) == (10, 10), "and what follows, right behind it"


@virtual
async def test_a_snapshot_that_is_broken_off_is_begun_anew_on_the_next_connection() -> None:
    async with bench(20) as one:
        await trimmed(one, 10, bytes(2 << 20))
        one.channel.take()
        one.channel.room_for = 3
        one.nack(0)
        await pass_ms(10)
        one.channel.connected = False
        one.channel.empty(0)
        await pass_ms(10)
        one.channel.take()
        one.channel.connected, one.channel.room_for = True, 1_000
        one.sender.begin_anew()
        await pass_ms(1)
        assert one.channel.take() == [Rep(EPOCH, 20, EPOCH - 1)]
        one.nack(0)
        await until(lambda: len(one.channel.sent) > 8)
        first = one.channel.sent[0]
        assert isinstance(first, InstallSnapshot)
        assert first.offset == 0


@virtual
async def test_an_answer_that_takes_long_brings_no_second_snapshot() -> None:
    async with bench(20) as one:
        await trimmed(one, 10, bytes(1 << 20))
        one.channel.take()
        one.nack(0)
        await pass_ms(8_000)  # it is being installed
        sent = one.channel.take()
        assert sum(isinstance(part, InstallSnapshot) for part in sent) == 4
        assert sum(isinstance(part, Rep) for part in sent) >= 3, "it asks, and is not answered yet"
        one.ack(10)
        await pass_ms(1)
        assert [rep.prev_index for rep in one.channel.reps()][-1] == 10


@virtual
async def test_what_is_at_hand_is_bounded_and_a_gap_empties_it() -> None:
    async with bench() as one:
        for index in range(1, 12):
            one.sender.remember([Entry(index, EPOCH, bytes(1 << 20))])
        assert one.sender._recent_bytes <= RECENT_BYTES_MAX
        assert one.sender._recent[0].index == 4
        one.sender.remember(entries(50, 1, EPOCH))
        assert [entry.index for entry in one.sender._recent] == [50]


@virtual
async def test_who_owns_nothing_sends_nothing() -> None:
    async with bench(3) as one:
        one.channel.take()
        one.me.role = Role.ENDED
        one.nack(0)
        one.sender.begin_anew()
        await pass_ms(3_000)
        assert one.channel.take() == []


@virtual
async def test_a_log_that_can_not_be_given_is_told() -> None:
    async with bench(3) as one:
        one.me.log = LogShape(2, EPOCH - 1, 3, ((3, EPOCH - 1),))
        one.nack(0)
        await pass_ms(1)
        assert "B lacks the records behind 0" in one.alarms[0]
