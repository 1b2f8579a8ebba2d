"""Two nodes and a register on a stage: the rules with real times, a script of failures, and a transcript.

A file of tests/flows/pair begins with remarks (`#`) and a script; below `----` stands what happened. The pair is
coupled and at peace; beats leave A at whole seconds, messages take 10 ms, a disk 2 ms, a restart of an ended node 1 s.
A question that is asked again is told once.

    AT write                           whoever acts takes a record; AT is in seconds
    AT crash | boot | wipe NODE        wipe: its disk is replaced by an empty one, and it boots
    AT pause | resume NODE
    AT cut X Y | cut X>Y | heal        both ways, one way, everything (R is the register)
    AT register down | up | empty | old | seed
    AT disk NODE hangs | works | fails
    AT slow NODE SECONDS               its next Cas takes so long to reach the register
    AT switch                          the owner is asked to hand over
    AT force NODE
    until AT
    expect FROM TO TEXT                a line with this text stands in the transcript in that time
    never TEXT

At every moment: never two act, and what anybody was told is on every acting and every in-sync disk.
"""

import heapq
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from engine.base.pair import AnyPairMessage, Cas, Member, Ownership, Read, Rep, RepAck, RepNack, Value
from engine.base.wire import Raw
from engine.rules.pair import lease, machine, ownership, replication
from engine.rules.pair.log import LogShape
from engine.rules.pair.state import (
    ACTIVE,
    NOTHING,
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

SEPARATOR = "----"
RISE_MS = 10_000  # the curtain rises: the script's instant 0
BEGIN_MS = 7_000
WIRE_MS, DISK_MS, RESTART_MS, LOOK_MS = 10, 2, 1_000, 10
TICK_MS, BEAT_MS = 250, 1_000
REP_RECORDS_MAX = 2

encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode


class Node:
    """A node's process and its disk."""

    def __init__(self, name: str, peer: str) -> None:
        self.name, self.peer = name, peer
        self.stores = self.incarnation = 0
        self.alive = True
        self.paused = self.hangs = self.drains = False
        self.cfg: Ownership | None = None
        self.log_epoch = 0
        self.records: list[tuple[int, str]] = []
        self.me = Pair()
        self.inbox: list[Callable[[], list[Effect]]] = []
        self.batches: list[int] = []  # when the writes under way began
        self.next = 0  # the index behind which the next Rep begins
        self.due_ms = BEGIN_MS
        self.slow_ms = 0
        self.asked: Cas | None = None  # told in the transcript

    @property
    def store(self) -> str:
        return f"{self.name.lower()}{self.stores}"

    @property
    def who(self) -> Setting:
        return Setting("c", self.name, self.peer, self.store, self.incarnation)

    def acts(self, now: int) -> bool:
        return self.alive and not self.paused and lease.may_act(self.me, now)

    def state(self, now: int) -> str:
        return f"{lease.status(self.me, now)} e{self.me.epoch}" if self.alive else "down"


class Stage:
    """Everything, and the time."""

    def __init__(self) -> None:
        self.now = BEGIN_MS
        self.number = self.made = 0
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.lines: list[tuple[int, str]] = []
        self.states: dict[str, str] = {}
        self.told: list[str] = []
        self.cuts: set[tuple[str, str]] = set()
        self.first = Ownership("c", 1, "A", (Member("A", "a0"), Member("B", "b0")), 0)
        self.register: Ownership | None = self.first
        self.register_up = True
        self.nodes = {"A": Node("A", "B"), "B": Node("B", "A")}
        for node in self.nodes.values():
            node.cfg, node.log_epoch = self.first, 1
            node.me = replace(machine.boot(self.first, 1, LogShape(), self.now), has_read=True)
            self._start(node)
        self.nodes["A"].me.role = Role.COUPLED
        self.after(0, self._watch)

    # --- time -------------------------------------------------------------------------------------------------------

    def after(self, delay_ms: int, act: Callable[[], None]) -> None:
        self.number += 1
        heapq.heappush(self.queue, (self.now + delay_ms, self.number, act))

    def run(self, until_ms: int) -> None:
        while self.queue and self.queue[0][0] <= until_ms:
            self.now, _, act = heapq.heappop(self.queue)
            act()

    def say(self, line: str) -> None:
        self.lines.append((self.now - RISE_MS, line))

    def _watch(self) -> None:
        acting = [node.name for node in self.nodes.values() if node.acts(self.now)]
        assert len(acting) < 2, f"both act at {self.now - RISE_MS}"
        for node in self.nodes.values():
            in_sync = self.register is not None and self.register.has(node.who.member)
            if node.name in acting or in_sync:
                held = [name for _, name in node.records[: len(self.told)]]
                assert held == self.told, f"{node.name} at {self.now - RISE_MS} has {held}; told was {self.told}"
            self._look(node)
        self.after(LOOK_MS, self._watch)

    def _look(self, node: Node) -> None:
        state = node.state(self.now)
        if not node.paused and self.states.get(node.name) != state:
            self.states[node.name] = state
            self.say(f"{node.name} {state}")

    # --- a node's loop ----------------------------------------------------------------------------------------------

    def _start(self, node: Node) -> None:
        """Begin the loop of an incarnation; A's beats leave at whole seconds, B's between them."""
        incarnation, phase = node.incarnation, 0 if node.name == "A" else 400

        def tick() -> None:
            if node.alive and node.incarnation == incarnation:
                self.input(node, list)
                node.due_ms = self.now + TICK_MS
                self.after(TICK_MS, tick)

        def beat() -> None:
            if node.alive and node.incarnation == incarnation:
                self.input(node, lambda: self._beats(node))
                self.after(BEAT_MS, beat)

        node.due_ms = self.now
        self.after(0, tick)
        self.after((phase - self.now) % BEAT_MS, beat)

    def _beats(self, node: Node) -> list[Effect]:
        beat = lease.beat_of(node.me, self.now, self._age(node))
        return [] if beat is None else [Send(beat), *self._reps(node)]

    def _age(self, node: Node) -> int:
        return self.now - node.batches[0] if node.batches else 0

    def input(self, node: Node, act: Callable[[], list[Effect]]) -> None:
        """Give a living node something to do, and let it tick; a paused one finds it later."""
        if not node.alive:
            return
        if node.paused:
            node.inbox.append(act)
            return
        self.perform(node, act())
        if node.alive:
            self.perform(node, machine.tick(node.me, node.who, self.now))
        self._tell(node)
        self._look(node)

    def _reps(self, node: Node) -> list[Effect]:
        if node.me.role not in ACTIVE:
            return []
        part = node.records[node.next : node.next + REP_RECORDS_MAX]
        before = node.records[node.next - 1][0] if node.next else 0
        bodies = tuple(Raw(encode(name)) for _, name in part)
        return [Send(Rep(node.me.epoch, node.next, before, tuple(epoch for epoch, _ in part), bodies))]

    def _tell(self, node: Node) -> None:
        if node.drains and node.alive and node.me.commit == len(node.records):
            node.drains = False
            self.perform(node, ownership.drained(node.me, node.who, self.now))
        if not node.acts(self.now) or node.me.commit <= len(self.told):
            return
        names = [name for _, name in node.records[: node.me.commit]]
        assert names[: len(self.told)] == self.told, f"{node.name} tells {names}; told was {self.told}"
        new = [name for name in names[len(self.told) :] if name.startswith("r")]
        self.told = names
        if new:
            self.say(f"{node.name} acknowledges {' '.join(new)}")

    # --- effects ----------------------------------------------------------------------------------------------------

    def perform(self, node: Node, effects: list[Effect], rep: Rep | None = None) -> None:
        for effect in effects:
            match effect:
                case Send(message):
                    self._post(node, message)
                case Ask(question):
                    self._ask(node, question)
                case Keep() | Write() | Install():
                    self._write(node, lambda effect=effect: self._written(node, effect, rep))  # type: ignore[misc]
                case Activate(epoch):
                    node.next = len(node.records)
                    self._append(node, f"EpochBegan {epoch}")
                    self.perform(node, self._beats(node))
                case End(reason):
                    self.say(f"{node.name} ends: {reason}")
                    self.crash(node)
                    self.after(RESTART_MS, lambda: self.boot(node))
                case GoOn():
                    self.perform(node, self._beats(node))
                case Drain():
                    node.drains = True
                case Alarm(sentence):
                    self.say(f"{node.name} alarms: {sentence}")
                case _:
                    pass

    def _post(self, node: Node, message: AnyPairMessage) -> None:
        if (node.name, node.peer) not in self.cuts:
            self.after(WIRE_MS, lambda: self._arrive(node, self.nodes[node.peer], message))

    def _arrive(self, sender: Node, node: Node, message: AnyPairMessage) -> None:
        if (sender.name, node.name) in self.cuts:
            return

        def hear() -> list[Effect]:
            effects = machine.hear(node.me, node.who, message, self.now, self._age(node))
            if isinstance(message, RepNack) and node.me.role in ACTIVE:
                node.next = message.hint
            if isinstance(message, RepAck) and node.me.role in ACTIVE and node.me.peer_index != NOTHING:
                node.next = node.me.peer_index
                effects += self._reps(node) if node.next < len(node.records) else []
            if isinstance(message, Rep):
                self.perform(node, effects, message)
                return []
            return effects

        self.input(node, hear)

    def _ask(self, node: Node, question: Read | Cas) -> None:
        delay_ms = WIRE_MS
        if isinstance(question, Cas):
            new = question.new
            if question != node.asked:
                self.say(f"{node.name} asks for {_owner(new)}")
            node.asked = question
            delay_ms, node.slow_ms = delay_ms + node.slow_ms, 0
        if (node.name, "R") not in self.cuts:
            self.after(delay_ms, lambda: self._register_hears(node, node.incarnation, question))

    def _register_hears(self, node: Node, incarnation: int, question: Read | Cas) -> None:
        if not self.register_up or (node.name, "R") in self.cuts:
            return
        if isinstance(question, Cas):
            if self.register == question.expected and question.new.epoch > question.expected.epoch:
                self.register = question.new
                self.say(f"R {_owner(question.new)}")
            elif self.register != question.new:
                self.say(f"R refuses {_owner(question.new)}")
        known = question.known if isinstance(question, Read) else question.expected.epoch
        value = Value(self.register, known, question.store)

        def answer() -> None:
            if ("R", node.name) not in self.cuts and node.incarnation == incarnation:
                self.input(node, lambda: ownership.on_value(node.me, node.who, value, self.now))

        self.after(WIRE_MS, answer)

    def _write(self, node: Node, done: Callable[[], list[Effect]]) -> None:
        incarnation, begun_ms = node.incarnation, self.now
        node.batches.append(begun_ms)

        def poll() -> None:
            if not node.alive or node.incarnation != incarnation:
                return
            if node.hangs:
                self.after(DISK_MS, poll)
                return
            node.batches.remove(begun_ms)
            self.input(node, done)

        self.after(DISK_MS, poll)

    def _written(self, node: Node, effect: Effect, rep: Rep | None) -> list[Effect]:
        if isinstance(effect, Keep):
            node.cfg = effect.cfg
            effects = ownership.kept(node.me, node.who, self.now)
            node.next = len(node.records)
        else:
            assert isinstance(effect, Write)
            assert rep is not None
            if effect.drop_after is not None:
                dropped = " ".join(name for _, name in node.records[effect.drop_after :])
                self.say(f"{node.name} drops {dropped}")
                del node.records[effect.drop_after :]
            entries = zip(rep.epochs, (decode(raw, type=str) for raw in rep.bodies), strict=True)
            node.records.extend(list(entries)[effect.skip :])
            effects = replication.written(node.me, node.who, effect)
        node.log_epoch = node.me.log_epoch
        assert node.me.log.last == len(node.records)
        return effects

    def _append(self, node: Node, name: str) -> None:
        def done() -> list[Effect]:
            node.records.append((epoch, name))
            effects = replication.appended(node.me, (epoch,), self.now)
            return [*effects, *self._reps(node)]

        epoch = node.me.epoch
        self._write(node, done)

    # --- the script -------------------------------------------------------------------------------------------------

    def crash(self, node: Node) -> None:
        node.alive = node.paused = node.drains = False
        node.inbox, node.batches = [], []
        self._look(node)

    def boot(self, node: Node) -> None:
        node.alive, node.asked = True, None
        node.incarnation += 1
        shape = LogShape().appended([epoch for epoch, _ in node.records])
        node.me = machine.boot(node.cfg, node.log_epoch, shape, self.now)
        self._start(node)

    def do(self, what: str, *words: str) -> None:
        """Do what a line of the script says."""
        if what != "write":
            self.say(f"! {' '.join((what, *words))}")
        getattr(self, f"do_{what}")(*words)

    def do_write(self) -> None:
        self.made += 1
        acting = [node for node in self.nodes.values() if node.acts(self.now) and not node.drains]
        if acting:
            self.say(f"{acting[0].name} takes r{self.made}")
            self._append(acting[0], f"r{self.made}")
        else:
            self.say(f"nobody takes r{self.made}")

    def do_crash(self, name: str) -> None:
        self.crash(self.nodes[name])

    def do_boot(self, name: str) -> None:
        self.boot(self.nodes[name])

    def do_wipe(self, name: str) -> None:
        node = self.nodes[name]
        self.crash(node)
        node.cfg, node.log_epoch, node.records = None, 0, []
        node.stores += 1
        self.boot(node)

    def do_pause(self, name: str) -> None:
        self.nodes[name].paused = True

    def do_resume(self, name: str) -> None:
        node = self.nodes[name]
        node.paused = False
        lease.late(node.me, self.now, self.now - node.due_ms, node.who.times)
        self._look(node)
        found, node.inbox = node.inbox, []
        for act in found:
            self.input(node, act)

    def do_cut(self, *ends: str) -> None:
        one, two = ends if len(ends) == 2 else ends[0].split(">")
        self.cuts |= {(one, two), (two, one)} if len(ends) == 2 else {(one, two)}

    def do_heal(self) -> None:
        self.cuts.clear()

    def do_register(self, how: str) -> None:
        self.register_up = how != "down"
        if how == "empty":
            self.register = None
        if how == "old":
            self.register = self.first
        if how == "seed":
            highest = max(self.nodes.values(), key=lambda node: node.me.highest)
            assert highest.me.cfg is not None
            self.register = replace(highest.me.cfg, epoch=highest.me.highest + 1)
            self.say(f"R {_owner(self.register)}")

    def do_disk(self, name: str, how: str) -> None:
        node = self.nodes[name]
        node.hangs = how == "hangs"
        if how == "fails":
            self.crash(node)

    def do_slow(self, name: str, seconds: str) -> None:
        self.nodes[name].slow_ms = _ms(seconds)

    def do_switch(self) -> None:
        for node in self.nodes.values():
            if node.acts(self.now):
                self.input(node, lambda node=node: ownership.switch_over(node.me, node.who))  # type: ignore[misc]

    def do_force(self, name: str) -> None:
        node = self.nodes[name]
        self.input(node, lambda: ownership.force_take_over(node.me, node.who, self.now))


def _owner(own: Ownership) -> str:
    return f"e{own.epoch} {own.owner} {{{' '.join(one.store for one in own.insync)}}}"


def _ms(seconds: str) -> int:
    return round(float(seconds) * 1_000)


# --- files ------------------------------------------------------------------------------------------------------------


def play(text: str) -> str:
    """Return the file as it would be: its head, and what happens; raises AssertionError for what was not expected."""
    head = text.partition(f"\n{SEPARATOR}\n")[0].rstrip("\n")
    stage = Stage()
    claims: list[list[str]] = []
    for words in _script(head):
        if words[0] in ("expect", "never"):
            claims.append(words)
        elif words[0] == "until":
            stage.run(RISE_MS + _ms(words[1]))
        else:
            stage.run(RISE_MS + _ms(words[0]))
            stage.now = RISE_MS + _ms(words[0])
            stage.do(*words[1:])
    for claim in claims:
        _check(stage.lines, claim)
    told = [f"{at / 1000:8.3f}  {line}" for at, line in stage.lines if at >= 0]
    return "\n".join([head, SEPARATOR, *told, ""])


def _script(head: str) -> Iterator[list[str]]:
    for line in head.splitlines():
        if line and not line.startswith("#"):
            yield line.split()


def _check(lines: list[tuple[int, str]], claim: list[str]) -> None:
    if claim[0] == "never":
        wanted = " ".join(claim[1:])
        assert not [line for at, line in lines if at >= 0 and wanted in line], f"it happened: {wanted}"
        return
    begin, end, wanted = _ms(claim[1]), _ms(claim[2]), " ".join(claim[3:])
    times: list[Any] = [at / 1000 for at, line in lines if wanted in line]
    assert any(begin <= at * 1000 <= end for at in times), f"expected {' '.join(claim)}; it happened at {times}"
