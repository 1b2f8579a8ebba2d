"""Replica: one node's part in its pair, behind ports.Replication. Floor 6.

* Every input (a message, an answer of the register, the time, a write that ended) goes to a rule, and its effects are
  done at once; only the disk and the register are waited for, each in a task of its own. So beats are never late
  because a write is.
* At most one write of the pair is under way. What comes meanwhile and needs another waits here, bounded; beyond the
  bound it is dropped, for the owner sends it again.
* Several questions to the register may be under way: a lost one must not keep the next from being put (R12).
* A rule that says End ends this incarnation: the node is booted again as a standby (law 6). From then on, as after
  `close`, nothing is done any more, whatever still comes.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from engine.base.codec import encode
from engine.base.log import logger
from engine.base.pair import (
    AnyPairMessage,
    Cas,
    InstallSnapshot,
    Ownership,
    Read,
    Rep,
    RepAck,
    RepNack,
    Value,
)
from engine.base.tasks import TaskScope
from engine.journal.retention import Hold
from engine.pair.content import entries_of
from engine.pair.peer import Peer
from engine.pair.schedule import Schedule, tick_ms
from engine.pair.sender import Sender
from engine.pair.staging import Staging, snapshot_of
from engine.ports import Clock, Entry, Record, Register, RegisterUnreachable, Store
from engine.rules.pair import lease, machine, ownership, replication
from engine.rules.pair.log import LogShape
from engine.rules.pair.state import (
    LEASED,
    Activate,
    Alarm,
    Ask,
    Drain,
    Effect,
    End,
    GoOn,
    Install,
    Keep,
    Pair,
    Role,
    Send,
    Setting,
    Write,
)
from engine.runtime.supervisor import SteppedDown

CFG, LOG_EPOCH, STORE_ID = "pair cfg", "pair log epoch", "pair store"

HELD_MAX = 64  # messages that wait for a write of ours
HELD_BYTES_MAX = 32 << 20  # a single larger one goes alone
ASKING_MAX = 8  # questions to the register under way; an answer comes within takeover_ms or not at all
ALARMS_KEPT_MAX = 100
LATE_MS_MIN = 20  # less is no lateness but the loop's own grain

log = logger("pair")
_decode_cfg = msgspec.msgpack.Decoder(Ownership).decode


class Replica:
    """Implements ports.Replication for a node of a pair."""

    def __init__(
        self,
        who: Setting,
        me: Pair,
        *,
        store: Store,
        register: Register,
        clock: Clock,
        on_activate: Callable[[int], None],
        on_epoch: Callable[[int], None],
        on_ended: Callable[[BaseException], None],
    ) -> None:
        """`on_activate(epoch)`: begin to act; `on_epoch(epoch)`: the next records carry it; `on_ended`: stop."""
        self.who = who
        self.me = me
        self.alarms: list[str] = []  # for people, newest last
        self._store = store
        self._register = register
        self._clock = clock
        self._on_activate = on_activate
        self._on_epoch = on_epoch
        self._on_ended = on_ended
        self._peer: Peer
        self._scope = TaskScope(f"replica {who.node}", on_ended)
        self._sender = Sender(self, store, clock)
        self._staging = Staging()
        self._held: deque[Rep | InstallSnapshot] = deque()
        self._held_bytes = 0
        self._taken: Rep | InstallSnapshot | None = None  # what the effects of the present rule are about
        self._appending_since_ms: int | None = None  # the loop's batch
        self._writing_since_ms: int | None = None  # the pair's own write
        self._asking = 0
        self._doubt = 0  # the highest epoch that somebody is said to obey; 0 once the register has told
        self._closed = False
        self._changed: asyncio.Future[None] | None = None

    def join(self, peer: Peer) -> None:
        """Say who the other node is; before it may be heard."""
        self._peer = peer

    def start(self) -> None:
        """Begin to beat and to send."""
        self._scope.start(self._keep_time(), "time")
        self._scope.start(self._sender.run(self._peer), "sender")

    async def close(self) -> None:
        """End; safe to call twice. Whoever waits for an acknowledgement or a lease waits for good."""
        self._closed = True
        await self._scope.close()

    # --- ports.Replication --------------------------------------------------------------------------------------------

    def may_act(self) -> bool:
        return lease.may_act(self.me, self._now())

    async def acting(self) -> None:
        while not self.may_act():
            await self._change()

    def appending(self) -> None:
        self._appending_since_ms = self._now()

    def appended(self, entries: Sequence[Entry]) -> None:
        self._appending_since_ms = None
        self._sender.remember(entries)
        self._do(replication.appended(self.me, tuple(entry.epoch for entry in entries), self._now()))

    async def acknowledged(self, index: int) -> None:
        while self.me.commit < index:
            await self._change()

    # --- what others ask ----------------------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """The state as people see it: standby, pending, coupled, solo, joining, fenced, yielded or ended."""
        return lease.status(self.me, self._now())

    def holds(self) -> list[Hold]:
        """Return from where on the journal is kept: what a peer has acknowledged that is in sync, or about to be."""
        needs = self.me.peer_index if self.me.role in LEASED else self._sender.needs
        return [] if needs is None else [Hold("standby", max(needs, 0))]

    def hear_of(self, epoch: int) -> None:
        """Somebody obeys a higher epoch than ours (R15): whether that is so, the register says, and only it."""
        if epoch > self.me.highest and not self._is_over:
            self._doubt = max(self._doubt, epoch)
            self._ask(Read(self.me.highest, self.who.store))

    def yields(self) -> bool:
        """Hand over, after a switch-over was asked and everything is acknowledged; False when that can not be now."""
        effects = ownership.drained(self.me, self.who, self._now())
        self._do(effects)
        return bool(effects)

    def force_take_over(self) -> None:
        """Take over whatever the other node holds (R14); an operator has confirmed that it is off."""
        self._do(ownership.force_take_over(self.me, self.who, self._now()))

    # --- inputs -------------------------------------------------------------------------------------------------------

    def hear(self, message: AnyPairMessage) -> None:
        """Take a message of the peer."""
        if self._is_over:
            return
        # A part is kept only where its snapshot may be taken; else it is what a whole one would be: a sign of an epoch.
        if isinstance(message, InstallSnapshot) and self._may_stage(message):
            whole = self._staging.add(message)
            if whole is None:
                return
            message = whole
        if isinstance(message, Rep | InstallSnapshot) and (self.me.writing or self._held):
            self._hold(message)
        else:
            self._hear(message)

    def _may_stage(self, part: InstallSnapshot) -> bool:
        if self.me.role is Role.STANDBY and not lease.is_over(self.me, part.epoch):
            return True
        self._staging.clear()
        return False

    def _hold(self, message: Rep | InstallSnapshot) -> None:
        size_bytes = _size_bytes(message)
        if len(self._held) < HELD_MAX and (not self._held or self._held_bytes + size_bytes <= HELD_BYTES_MAX):
            self._held.append(message)
            self._held_bytes += size_bytes

    def connected(self) -> None:
        """There is a new connection to the peer; what was sent on the one before may be lost."""
        self._sender.begin_anew()

    @property
    def _is_over(self) -> bool:
        return self._closed or self.me.role is Role.ENDED

    def _hear(self, message: AnyPairMessage) -> None:
        now_ms = self._now()
        self._taken = message if isinstance(message, Rep | InstallSnapshot) else None
        self._do(machine.hear(self.me, self.who, message, now_ms, self._batch_age_ms(now_ms)))
        self._taken = None
        if isinstance(message, RepAck | RepNack):
            self._sender.note(message)

    def _now(self) -> int:
        return self._clock.monotonic_ms()

    def _batch_age_ms(self, now_ms: int) -> int:
        since = [one for one in (self._appending_since_ms, self._writing_since_ms) if one is not None]
        return now_ms - min(since) if since else 0

    async def _keep_time(self) -> None:
        """Tick on an absolute schedule; our own lateness is nobody else's silence."""
        times = self.who.times
        ticks, beats = Schedule(tick_ms(times), self._now()), Schedule(times.beat_ms, self._now())
        while True:
            now_ms = self._now()
            late_ms = ticks.take(now_ms)
            if late_ms is not None:
                if late_ms >= LATE_MS_MIN:
                    lease.late(self.me, now_ms, late_ms, times)
                self._do(machine.tick(self.me, self.who, now_ms))
            if beats.take(now_ms) is not None:
                beat = lease.beat_of(self.me, now_ms, self._batch_age_ms(now_ms))
                if beat is not None:
                    self._peer.send(beat)
            await asyncio.sleep(max(0, min(ticks.due_ms, beats.due_ms) - self._now()) / 1_000)

    # --- effects ------------------------------------------------------------------------------------------------------

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            self._do_one(effect)
        self._sender.wake()
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
            self._changed = None

    def _do_one(self, effect: Effect) -> None:
        match effect:
            case End(reason):
                self._on_ended(SteppedDown(reason))
            case Send(message):
                self._peer.send(message)
            case Alarm(sentence):
                self.alarm(sentence)
            case _ if self._closed:
                pass
            case Ask(question):
                self._ask(question)
            case Keep() | Write() | Install():
                self._writing_since_ms = self._now()
                self._scope.start(self._write(effect, self._taken), "write")
            case Activate(epoch):
                self._on_activate(epoch)
            case GoOn(epoch, _):
                self._on_epoch(epoch)
                self._sender.go_on(epoch)
            case Drain():
                pass

    def alarm(self, sentence: str) -> None:
        """Tell a person, once."""
        if not self.alarms or self.alarms[-1] != sentence:
            log.error("a person is needed", node=self.who.node, sentence=sentence)
            self.alarms.append(sentence)
            del self.alarms[:-ALARMS_KEPT_MAX]

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)

    def _ask(self, question: Read | Cas) -> None:
        """Ask the register; what is not answered is asked again by the timers."""
        if self._asking < ASKING_MAX:
            self._asking += 1
            self._scope.start(self._hear_register(question), "ask the register")

    async def _hear_register(self, question: Read | Cas) -> None:
        try:
            async with asyncio.timeout(self.who.times.takeover_ms / 1_000):
                if isinstance(question, Cas):
                    found, known = await self._register.cas(question.expected, question.new), question.expected.epoch
                else:
                    found, known = await self._register.read(self.who.cluster), question.known
        except (RegisterUnreachable, TimeoutError):
            return
        finally:
            self._asking -= 1
        value = Value(found, known, question.store)
        self._do(ownership.on_value(self.me, self.who, value, self._now()))
        self._settle_doubt(found)
        self._do(machine.tick(self.me, self.who, self._now()))

    def _settle_doubt(self, found: Ownership | None) -> None:
        """R15: what the register does not confirm deposes nobody; a person must look at who said so."""
        doubt, self._doubt = self._doubt, 0
        if found is not None and found.epoch < doubt and not self._is_over:
            self.alarm(
                f"Epoch {doubt} is obeyed somewhere, and the register gives epoch {found.epoch} to {found.owner}: one"
                " of them lost its state, or obeys another cluster. Nothing is commanded there."
            )

    async def _write(self, effect: Keep | Write | Install, taken: Rep | InstallSnapshot | None) -> None:
        """Do one write, tell the rules, and go on with what waited for it."""
        match effect:
            case Keep(cfg, log_epoch):
                await self._store.set_cells(cells(log_epoch, cfg))
            case Write() if isinstance(taken, Rep):
                await self._write_rep(effect, taken)
            case Write():
                await self._store.set_cells(cells(effect.log_epoch))
            case Install():
                assert isinstance(taken, InstallSnapshot)
                snapshot = snapshot_of(taken)
                await self._store.install_snapshot(snapshot, cells(effect.log_epoch))
        self._writing_since_ms = None
        if self._is_over:
            return  # we stepped down meanwhile: what is on the disk is read by the next incarnation
        if isinstance(effect, Keep):
            self._do(ownership.kept(self.me, self.who, self._now()))
        else:
            self._do(replication.written(self.me, self.who, effect))
        self._do(machine.tick(self.me, self.who, self._now()))
        while self._held and not self.me.writing:
            message = self._held.popleft()
            self._held_bytes -= _size_bytes(message)
            self._hear(message)

    async def _write_rep(self, write: Write, rep: Rep) -> None:
        if write.drop_after is not None:
            await self._store.truncate_after(write.drop_after, cells(write.log_epoch))
        entries = entries_of(rep, write.skip)
        if entries:
            await self._store.append(entries, cells(write.log_epoch))
        elif write.drop_after is None and write.log_epoch > self.me.log_epoch:
            await self._store.set_cells(cells(write.log_epoch))


def cells(log_epoch: int, cfg: Ownership | None = None) -> dict[str, bytes]:
    """Return the local cells of a write."""
    found = {LOG_EPOCH: encode(log_epoch)}
    if cfg is not None:
        found[CFG] = encode(cfg)
    return found


async def boot_state(store: Store, now_ms: int) -> Pair:
    """Return the state of a new incarnation from what the disk holds; StoreFault names a damaged record."""
    snapshot = await store.snapshot()
    shape = LogShape() if snapshot is None else LogShape(snapshot.index, snapshot.epoch, snapshot.index)
    async for records in store.replay(shape.last):
        shape = shape.appended(_epochs(records))
    cfg, log_epoch = store.cell(CFG), store.cell(LOG_EPOCH)
    found = None if cfg is None else _decode_cfg(cfg)
    return machine.boot(found, 0 if log_epoch is None else msgspec.msgpack.decode(log_epoch, type=int), shape, now_ms)


def _epochs(records: Sequence[Record]) -> tuple[int, ...]:
    return tuple(record.epoch for record in records)


async def store_id(store: Store, new_id: Callable[[], str]) -> str:
    """Return the store's identity; a store without one gets one, durable before anybody hears of it.

    It is written at each boot: what a killed process had written and not fsynced is read again now, and would be
    acknowledged; this write makes it durable first.
    """
    found = store.cell(STORE_ID) or new_id().encode()
    await store.set_cells({STORE_ID: found})
    return found.decode()


def _size_bytes(message: Rep | InstallSnapshot) -> int:
    if isinstance(message, InstallSnapshot):
        return len(message.chunk)
    return sum(len(memoryview(body)) for body in message.bodies)
