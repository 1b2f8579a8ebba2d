"""Nodes without a loop: turns of one machine with its records, and a subagent that runs nothing. For rule tests."""

from collections import deque
from collections.abc import Callable
from typing import Any

from engine.base.problem import Problem
from engine.jobs.process import ProcessJob
from engine.model import command as c
from engine.model.event import Event
from engine.model.job import Start
from engine.model.outcome import Outcome
from engine.runtime.turn import Turn, Turns

Answer = Outcome | tuple[Outcome, dict[str, Any]] | None
Script = Callable[[Start], Answer]


class PureNode:
    """Turns of one machine: every record is durable at once, effects are held until somebody performs them."""

    def __init__(self, machine: Any, name: str, watch: Callable[[str, list[Event]], None] | None = None) -> None:
        self.machine = machine
        self.name = name
        self.log: list[Event] = []
        self.records: list[bytes] = []
        self.effects: list[Any] = []
        self.left: deque[str] = deque()  # what turns left over; a restart forgets it
        self.lazy = False  # leave it over until `settle`
        self.now_ms = 0
        self.turns = Turns(machine, machine.blank(), 0, 1)
        self.watch = watch
        self._keep(self.turns.begin(name, 0))

    def command(self, command: Any, now_ms: int) -> Problem | None:
        """Decide a command and what follows from it."""
        self.now_ms = now_ms
        problem = self._keep(self.turns.command(command, now_ms)).problem
        if not self.lazy:
            self.settle()
        return problem

    def wake(self, key: str, now_ms: int) -> None:
        """Advance what a key names."""
        self.now_ms = now_ms
        self._keep(self.turns.advance([key], now_ms))
        if not self.lazy:
            self.settle()

    def settle(self) -> None:
        """Do what earlier turns left over."""
        while self.left:
            keys, self.left = self.left, deque()
            self._keep(self.turns.advance(keys, self.now_ms))

    def restart(self, now_ms: int) -> None:
        """Lose everything but the records, and begin anew."""
        self.now_ms = now_ms
        again = self.replayed()
        machine = self.machine
        assert machine.encode_state(again) == machine.encode_state(self.turns.state), f"replay of {self.name} differs"
        self.turns = Turns(machine, again, len(self.records), self.turns.epoch + 1)
        self.effects.clear()
        self.left.clear()
        turn = self._keep(self.turns.begin(self.name, now_ms))
        self.effects[:] = [*turn.effects, *machine.resume(self.turns.state)]
        if not self.lazy:
            self.settle()

    def replayed(self, count: int | None = None) -> Any:
        """Return the state that the first `count` records give."""
        state = self.machine.blank()
        for index, record in enumerate(self.records[:count], 1):
            for event in self.machine.decode_events(record):
                self.machine.apply(state, event, index)
        return state

    def _keep(self, turn: Turn) -> Turn:
        if turn.entry is not None:
            assert turn.entry.index == len(self.records) + 1
            events = self.machine.decode_events(turn.entry.events)
            self.records.append(turn.entry.events)
            self.log.extend(events)
            if self.watch is not None:
                self.watch(self.name, events)
        self.effects.extend(turn.effects)
        self.left.extend(turn.leftover)
        return turn


class PureSubagent:
    """What a subagent knows of its attempts. Processes outlive it, callables do not; reports wait for their receipt."""

    def __init__(self, name: str, agent: str, script: Script) -> None:
        self.name = name
        self.agent = agent
        self.script = script
        self.incarnation = 1
        self.coupled = False
        self.down: deque[bytes | int] = deque()  # under way to it: commands, and how many reports are acknowledged
        self.begun: dict[str, Start] = {}  # until the end is acknowledged
        self.running: dict[str, Start] = {}
        self.outbox: list[c.AnyReport] = []
        self.sent = 0  # of the outbox, in the present session
        self.promised = 0  # of these, acknowledged, or about to be

    def begin(self, start: Start, now_ms: int) -> bool:
        """Begin an attempt; tell whether it is the first time."""
        if start.key in self.begun:
            return False
        self.begun[start.key] = self.running[start.key] = start
        answer = self.script(start)
        if answer is not None:
            outcome, results = answer if isinstance(answer, tuple) else (answer, {})
            self.end(start.key, now_ms, outcome, results)
        return True

    def see(self, key: str, now_ms: int, pid: int = 1) -> None:
        """See an attempt's process run."""
        start = self.running[key]
        self.outbox.append(c.ReportStarted(start.order, start.added, start.attempt, now_ms, pid))

    def end(self, key: str, now_ms: int, outcome: Outcome, results: dict[str, Any] | None = None) -> None:
        """See an attempt end."""
        start = self.running.pop(key)
        self.outbox.append(c.ReportEnded(start.order, start.added, start.attempt, now_ms, outcome, 0, results or {}))

    def acknowledged(self, count: int) -> None:
        """Forget the oldest reports, and the attempts whose end was among them."""
        ended = {(one.order, one.added, one.attempt) for one in self.outbox[:count] if isinstance(one, c.ReportEnded)}
        self.begun = {key: one for key, one in self.begun.items() if (one.order, one.added, one.attempt) not in ended}
        del self.outbox[:count]
        self.sent -= count
        self.promised -= count

    def cut(self) -> None:
        """Lose the link: what was not acknowledged will be told again."""
        self.coupled = False
        self.down.clear()
        self.sent = self.promised = 0

    def restart(self) -> None:
        """End and begin anew: callables are gone and so are their reports, processes and theirs are not."""
        self.incarnation += 1
        self.cut()
        lost = {key for key, start in self.begun.items() if not isinstance(start.job, ProcessJob)}
        gone = {(one.order, one.added, one.attempt) for key, one in self.begun.items() if key in lost}
        self.outbox = [one for one in self.outbox if (one.order, one.added, one.attempt) not in gone]
        for key in lost:
            del self.begun[key]
            self.running.pop(key, None)
