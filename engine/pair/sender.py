"""Sender: brings the owner's log to the other node: what is new at once, what is missing from the store. Floor 6.

* It begins with an empty Rep at our end; the answer says where the other's log agrees. From there on it sends, a
  bounded window ahead of what is acknowledged; without an answer for two beats, and on each connection, it begins anew.
* A denial goes back once: the denials of what was sent behind it say the same again and are not heard.
* Who lacks what was trimmed here gets a snapshot, in parts that no beat waits for, each when there is room for it.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from engine.base.pair import AnyPairMessage, InstallSnapshot, Rep, RepAck, RepNack
from engine.pair.content import body_of, weight_of
from engine.pair.staging import CHUNK_BYTES, SNAPSHOT_BYTES_MAX
from engine.ports import Clock, Entry, Record, Store
from engine.rules.pair.state import ACTIVE, Pair, Setting

WINDOW_REPS_MAX = 32  # sent and not acknowledged; fewer than the other node holds while it writes
WINDOW_BYTES_MAX = 8 << 20  # a single larger one goes alone
REP_RECORDS_MAX = 1_000
REP_BYTES_AIM = 512 << 10
RECENT_BYTES_MAX = 8 << 20  # of our own newest records, so that what is new is not read from the disk
RECENT_RECORDS_MAX = 20_000
UNKNOWN = -1  # where the other's log agrees: it is asked
LONG_AGO_MS = -(1 << 62)


class Owner(Protocol):
    """What the sender sees of the replica."""

    me: Pair
    who: Setting

    def alarm(self, sentence: str) -> None: ...


class Channel(Protocol):
    """What the sender sees of the peer."""

    @property
    def connected(self) -> bool: ...
    def send(self, message: AnyPairMessage) -> bool: ...
    async def room(self) -> None: ...


class Sender:
    """Sends one owner's log."""

    def __init__(self, owner: Owner, store: Store, clock: Clock) -> None:
        self._owner = owner
        self._store = store
        self._clock = clock
        self._recent: deque[Entry] = deque()
        self._recent_bytes = 0
        self._sent = UNKNOWN  # up to here it was sent
        self._floor = 0  # we go back below it only for a denial that says so
        self._flight: deque[tuple[int, int]] = deque()  # sent and not acknowledged: last index, bytes
        self._flight_bytes = 0
        self._deaf = False  # we went back, and nothing was acknowledged since
        self._epoch = 0  # in which the window counts
        self._turn = 0  # changes whenever what is being prepared is void
        self._asked_ms = LONG_AGO_MS
        self._moved_ms = 0  # when the other node answered last, or the window began to fill
        self._news = asyncio.Event()

    @property
    def needs(self) -> int | None:
        """From which index on the other node still needs our records; None when nobody is being brought on."""
        return None if self._sent == UNKNOWN else self._floor

    def wake(self) -> None:
        """There may be something to send."""
        self._news.set()

    def begin_anew(self) -> None:
        """Ask again, at once, where the other's log agrees."""
        self._go_to(UNKNOWN)
        self._floor, self._deaf, self._asked_ms = 0, False, LONG_AGO_MS
        self._news.set()

    def go_on(self, epoch: int) -> None:
        """The owner goes on; in a new epoch everything must be acknowledged again."""
        if epoch != self._epoch:
            self._epoch = epoch
            self.begin_anew()

    def remember(self, entries: Sequence[Entry]) -> None:
        """Keep our own newest records at hand."""
        if self._recent and self._recent[-1].index + 1 != entries[0].index:
            self._recent.clear()
            self._recent_bytes = 0
        self._recent.extend(entries)
        self._recent_bytes += weight_of(entries)
        while self._recent_bytes > RECENT_BYTES_MAX or len(self._recent) > RECENT_RECORDS_MAX:
            self._recent_bytes -= weight_of((self._recent.popleft(),))

    def note(self, answer: RepAck | RepNack) -> None:
        """Hear what the other node says of its log."""
        me = self._owner.me
        if answer.epoch != me.epoch or me.role not in ACTIVE:
            return
        if isinstance(answer, RepNack):
            self._denied(min(answer.hint, me.log.last))
        else:
            self._acknowledged(min(answer.index, me.log.last))
        self._news.set()

    def _denied(self, hint: int) -> None:
        if self._deaf and hint >= self._floor:
            return
        self._go_to(hint)
        self._floor, self._deaf, self._moved_ms = hint, True, self._clock.monotonic_ms()

    def _acknowledged(self, index: int) -> None:
        self._moved_ms = self._clock.monotonic_ms()
        if index < self._floor:
            return  # of something older than where we went back to
        self._deaf = False
        self._floor = index
        while self._flight and self._flight[0][0] <= index:
            self._flight_bytes -= self._flight.popleft()[1]
        self._sent = max(self._sent, index)

    def _go_to(self, index: int) -> None:
        self._sent = index
        self._flight.clear()
        self._flight_bytes = 0
        self._turn += 1

    async def run(self, peer: Channel) -> None:
        """Send for as long as the node lives; only an owner has anything to send."""
        while True:
            self._news.clear()
            if not await self._send(peer):
                await self._news.wait()  # each tick is news
            await asyncio.sleep(0)

    def _is_stuck(self) -> bool:
        silent_ms = self._clock.monotonic_ms() - self._moved_ms
        return bool(self._flight) and silent_ms > 2 * self._owner.who.times.beat_ms

    async def _send(self, peer: Channel) -> bool:
        """Send one message; False when there is nothing to send now."""
        me = self._owner.me
        if me.role not in ACTIVE or not peer.connected:
            self._go_to(UNKNOWN)
            self._asked_ms = LONG_AGO_MS
            return False
        if self._is_stuck():
            self.begin_anew()
        if self._sent == UNKNOWN or self._is_uncounted(me):
            self._ask(peer)
            return False
        full = len(self._flight) >= WINDOW_REPS_MAX or self._flight_bytes >= WINDOW_BYTES_MAX
        return not full and self._sent < me.log.last and await self._send_behind(peer, self._sent)

    def _is_uncounted(self, me: Pair) -> bool:
        """Tell whether the rules did not count what was acknowledged: it came before they knew whose store it is."""
        return not self._flight and self._sent >= me.log.last and me.peer_index < me.log.last

    def _ask(self, peer: Channel) -> None:
        me, now_ms = self._owner.me, self._clock.monotonic_ms()
        if now_ms - self._asked_ms >= self._owner.who.times.beat_ms:
            self._asked_ms, self._deaf = now_ms, False
            peer.send(Rep(me.epoch, me.log.last, me.log.last_epoch))

    async def _send_behind(self, peer: Channel, prev: int) -> bool:
        me, epoch, turn = self._owner.me, self._owner.me.epoch, self._turn
        prev_epoch = me.log.epoch_at(prev)
        records = None if prev_epoch is None else await self._records(prev)
        if turn != self._turn or me.epoch != epoch or me.role not in ACTIVE:
            return True  # things have changed meanwhile; look again
        if records is None or prev_epoch is None:
            return await self._send_snapshot(peer, prev)
        records = [record for record in records if record.index <= me.log.last]
        if not records:
            return False
        epochs = tuple(record.epoch for record in records)
        if not peer.send(Rep(epoch, prev, prev_epoch, epochs, tuple(map(body_of, records)))):
            return False
        self._in_flight(records[-1].index, weight_of(records))
        return True

    def _in_flight(self, last: int, size_bytes: int) -> None:
        if not self._flight:
            self._moved_ms = self._clock.monotonic_ms()
        self._flight.append((last, size_bytes))
        self._flight_bytes += size_bytes
        self._sent = last

    async def _records(self, prev: int) -> Sequence[Entry | Record] | None:
        """Return records behind `prev`, from memory where they are new; None when they were trimmed."""
        if self._recent and self._recent[0].index <= prev + 1:
            found: list[Entry] = []
            size_bytes = 0
            for place in range(prev + 1 - self._recent[0].index, len(self._recent)):
                entry = self._recent[place]
                size_bytes += weight_of((entry,))
                if found and (len(found) >= REP_RECORDS_MAX or size_bytes > REP_BYTES_AIM):
                    break
                found.append(entry)
            return found
        try:
            return await self._store.read(prev, records_max=REP_RECORDS_MAX, bytes_max=REP_BYTES_AIM)
        except LookupError:
            return None

    async def _send_snapshot(self, peer: Channel, prev: int) -> bool:
        """Send our snapshot to who has only the records up to `prev`; False when that can not be now."""
        epoch, turn = self._owner.me.epoch, self._turn
        snapshot = await self._store.snapshot()
        if snapshot is None or len(snapshot.state) > SNAPSHOT_BYTES_MAX:
            size = "there is no snapshot" if snapshot is None else f"the snapshot takes {len(snapshot.state)} bytes"
            lacks = f"{self._owner.who.peer} lacks the records behind {prev}"
            self._owner.alarm(f"{lacks} and can not be given them: {size}.")
            return False
        self._deaf, self._floor = True, prev
        name, size_bytes = f"{epoch}/{snapshot.index}", len(snapshot.state)
        for offset in range(0, max(size_bytes, 1), CHUNK_BYTES):
            if turn != self._turn or self._owner.me.epoch != epoch:
                return True  # things have changed meanwhile; look again
            chunk = snapshot.state[offset : offset + CHUNK_BYTES]
            part = InstallSnapshot(
                epoch, name, snapshot.index, snapshot.epoch, snapshot.hash, offset, size_bytes, chunk
            )
            while not peer.send(part):
                if not peer.connected or turn != self._turn:
                    return True
                await peer.room()
            await asyncio.sleep(0)
        if turn == self._turn:
            self._in_flight(snapshot.index, size_bytes)
        return True
