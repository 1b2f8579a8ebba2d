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
    Beat,
    Cas,
    InstallSnapshot,
    Ownership,
    Read,
    Rep,
    RepAck,
    RepNack,
    Value,
)
from engine.base.pair_query import RegisterSeen
from engine.base.tasks import TaskScope
from engine.base.wire import FEATURE_LEVEL
from engine.journal.retention import Hold
from engine.pair.cells import FEATURE, cells, feature_level
from engine.pair.content import entries_of, last_told
from engine.pair.forcing import Forcing, cells_of, read_forcing
from engine.pair.peer import Peer
from engine.pair.register_watch import RegisterWatch
from engine.pair.schedule import Schedule, tick_ms
from engine.pair.sender import Sender
from engine.pair.staging import Staging, snapshot_of
from engine.ports import Clock, Entry, Register, RegisterUnreachable, Snapshot, Store
from engine.rules.pair import lease, machine, ownership, replication
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

HELD_MAX = 64  # messages that wait for a write of ours
HELD_BYTES_MAX = 32 << 20  # a single larger one goes alone
ASKING_MAX = 8  # questions to the register under way; an answer comes within takeover_ms or not at all
ALARMS_KEPT_MAX = 100
ALARM_AGAIN_MS = 600_000  # the same sentence is told again after so long: perhaps it is another outage
LATE_MS_MIN = 20  # less is no lateness but the loop's own grain

log = logger("pair")


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
        on_drain: Callable[[], None] = lambda: None,
        feature: int = FEATURE_LEVEL,
    ) -> None:
        """`on_activate(epoch)`: begin to act; `on_epoch(epoch)`: the next records carry it; `on_ended`: stop.

        `on_drain`: come to a stop, then call `yields`; `feature`: the level of events that this program reads.
        """
        self.who = who
        self.me = me
        self.alarms: list[str] = []  # for people, newest last, each once
        self._alarmed_ms: dict[str, int] = {}  # when each was told
        self.forcing: Forcing | None = read_forcing(store)
        self.feature_level = feature_level(store)  # of events that both nodes read, so that they may be written
        self.peer_last = -1  # the last record that the other node is known to have had
        self.taken_bytes = 0  # of records that the owner sent, since the start
        self.feature = feature
        self._owner_first = 0  # the first record that the owner keeps
        self._on_drain = on_drain
        self._watch = RegisterWatch(who.cluster, clock.monotonic_ms(), who.times.batch_ms)
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
        self._shown_ms = 0  # when the register was asked for a person
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
        """Return from where on the journal is kept: what a peer has acknowledged that is in sync, or about to be.

        A standby keeps what the owner keeps: it may be asked for the same tomorrow.
        """
        if self.me.role is Role.STANDBY:
            return [Hold("owner", self._owner_first)]
        needs = self.me.peer_index if self.me.role in LEASED else self._sender.needs
        return [] if needs is None else [Hold("standby", max(needs, 0))]

    def hear_of(self, epoch: int) -> None:
        """Somebody obeys a higher epoch than ours (R15): whether that is so, the register says, and only it."""
        if epoch > self.me.highest and not self._is_over:
            self._doubt = max(self._doubt, epoch)
            self._ask(Read(self.me.highest, self.who.store))

    @property
    def register(self) -> RegisterSeen:
        """What is known of the register."""
        return self._watch.seen(self.me, self._now())

    async def change(self) -> None:
        """Wait until a rule has done something."""
        await self._change()

    def peer_reads(self, feature: int) -> None:
        """The other node has told which level of events it reads; what both read may be written once that is kept.

        Kept, because from then on a node that reads less must not be let in again.
        """
        both = min(feature, self.feature)
        if both > self.feature_level and not self._closed:
            self._scope.start(self._raise_feature(both), "raise the feature level")

    async def _raise_feature(self, level: int) -> None:
        await self._store.set_cells({FEATURE: encode(level)})
        self.feature_level = max(self.feature_level, level)

    # --- what people ask ----------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Ask the register, if it has not been asked lately: somebody wants to know whether it answers."""
        now_ms = self._now()
        looked_ms = max(self._shown_ms, self.me.looked_ms, self.me.answered_ms)
        if not self._is_over and now_ms - looked_ms >= self.who.times.again_ms:
            self._shown_ms = now_ms  # not `looked_ms`: whoever asks often must not keep an offer from being repeated
            self._ask(Read(self.me.highest, self.who.store))

    def switch_over(self) -> bool:
        """Begin to hand over; False when this node can not, because it is not coupled."""
        effects = ownership.switch_over(self.me, self.who)
        self._do(effects)
        return bool(effects)

    def yields(self) -> bool:
        """Hand over, after a switch-over was asked and everything is acknowledged; False when that can not be now."""
        effects = ownership.drained(self.me, self.who, self._now())
        self._do(effects)
        return bool(effects)

    async def force_take_over(self) -> bool:
        """Ask for the pair whatever the other node holds (R14); an operator has confirmed that it is off.

        False when this node can not ask. The answer is what the register says next.
        """
        effects = ownership.force_take_over(self.me, self.who, self._now())
        if not effects:
            return False
        (ask,) = effects
        assert isinstance(ask, Ask)
        assert isinstance(ask.question, Cas)
        forcing = Forcing(ask.question.new, self.me.log.last, self.peer_last)
        await self._store.set_cells(cells_of(forcing))
        if self.forcing is None or self.forcing.asked != forcing.asked:  # asked twice: the first may have won meanwhile
            self.forcing = forcing
        self._do(effects)
        return True

    # --- a standby's journal ------------------------------------------------------------------------------------------

    @property
    def compared(self) -> int:
        """How far a standby's own log is acknowledged and will not be dropped."""
        return replication.compared(self.me)

    async def wait(self, index: int) -> None:
        """Return once the log is compared so far; for the keeper of a standby's journal."""
        while self.compared < index:
            await self._change()

    async def keep_snapshot(self, snapshot: Snapshot) -> bool:
        """Keep a snapshot that was made of our own log; False when it is not one of it any more.

        What is asked of the store from here on comes behind it: a snapshot of the owner's, taken in place of the log,
        covers more.
        """
        while self.me.writing:
            await self._change()
        if not replication.may_keep(self.me, snapshot.index, snapshot.epoch):
            return False
        await self._store.add_snapshot(snapshot)
        replication.based(self.me, snapshot.index, snapshot.epoch)
        return True

    # --- inputs -------------------------------------------------------------------------------------------------------

    def hear(self, message: AnyPairMessage) -> None:
        """Take a message of the peer."""
        if self._is_over:
            return
        self.peer_last = max(self.peer_last, last_told(message))
        if isinstance(message, Beat) and message.epoch >= self.me.highest:
            self._owner_first = message.first
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
        self._beat()  # who comes back must not wait for the next beat to be able to grant

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
                self._beat()
            await asyncio.sleep(max(0, min(ticks.due_ms, beats.due_ms) - self._now()) / 1_000)

    def _beat(self) -> None:
        now_ms = self._now()
        beat = lease.beat_of(self.me, now_ms, self._batch_age_ms(now_ms))
        if beat is not None:
            self._peer.send(msgspec.structs.replace(beat, first=self._store.first))

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
                self._on_drain()

    def alarm(self, sentence: str) -> None:
        """Tell a person, once in a while, however many causes take turns."""
        now_ms = self._now()
        if sentence in self.alarms:
            if now_ms - self._alarmed_ms[sentence] < ALARM_AGAIN_MS:
                return
            self.alarms.remove(sentence)
        log.error("a person is needed", node=self.who.node, sentence=sentence)
        self.alarms.append(sentence)
        del self.alarms[:-ALARMS_KEPT_MAX]
        self._alarmed_ms = {one: self._alarmed_ms[one] for one in self.alarms[:-1]} | {sentence: now_ms}

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
        except (RegisterUnreachable, TimeoutError) as fault:
            why = str(fault) or f"No answer came within {self.who.times.takeover_ms} ms."
            sentence = self._watch.failed(why, self._now())
            if sentence is not None:
                self.alarm(sentence)
            return
        finally:
            self._asking -= 1
        self._watch.answered(found, self._now())
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
                await self._store.set_cells({**cells(log_epoch, cfg), **self._confirm(cfg)})
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

    def _confirm(self, cfg: Ownership) -> dict[str, bytes]:
        """Return what is written with a value that a forced takeover asked for: it is to be journaled now."""
        if self.forcing is None or self.forcing.asked != cfg:
            return {}
        self.forcing = msgspec.structs.replace(self.forcing, has_won=True)
        return cells_of(self.forcing)

    async def _write_rep(self, write: Write, rep: Rep) -> None:
        if write.drop_after is not None:
            await self._store.truncate_after(write.drop_after, cells(write.log_epoch))
        entries = entries_of(rep, write.skip)
        if entries:
            self.taken_bytes += sum(len(entry.events) for entry in entries)
            await self._store.append(entries, cells(write.log_epoch))
        elif write.drop_after is None and write.log_epoch > self.me.log_epoch:
            await self._store.set_cells(cells(write.log_epoch))


def _size_bytes(message: Rep | InstallSnapshot) -> int:
    if isinstance(message, InstallSnapshot):
        return len(message.chunk)
    return sum(len(memoryview(body)) for body in message.bodies)
