"""Turn: one command made into one record, without a single await. Floor 5.

* decide → encode → apply → advance every touched key until all are quiet; effects are collected, not performed.
* What `decide` returns and can not be encoded is a Problem of that command alone; what `advance` can not do breaks
  the one order it is about. An exception in `apply` ends the node: the state is no longer what the journal says.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from engine.base.codec import pack
from engine.base.limits import EVENTS_BYTES_MAX, STEPS_PER_TURN_MAX
from engine.base.log import logger
from engine.base.problem import Problem, problem
from engine.ports import Entry, Machine

S = TypeVar("S")

NotKeepable = problem("NotKeepable", "The command can not be kept: {fault}.")
TooLarge = problem(
    "TooLarge", "The command's events take {size_bytes} bytes; {size_bytes_max} is the most. Send it in parts."
)
Mistake = problem("Mistake", "A mistake of ours stopped this: {fault}. Nothing was changed; please report it.")

log = logger("turn")

RECORD_BYTES_MAX = EVENTS_BYTES_MAX - 8  # packing many events into one array adds at most five bytes


class Turn:
    """What came of one command: its record (None when nothing happened), its problem, and the effects held back."""

    __slots__ = ("effects", "entry", "index", "leftover", "problem")

    def __init__(self, index: int) -> None:
        self.index = index
        self.entry: Entry | None = None
        self.problem: Problem | None = None
        self.effects: list[Any] = []
        self.leftover: list[str] = []


class Turns(Generic[S]):
    """Takes commands to records, one at a time; holds the state and the index of the last record."""

    def __init__(self, machine: Machine[S, Any, Any, Any], state: S, index: int, epoch: int) -> None:
        self.machine = machine
        self.state = state
        self.index = index
        self.epoch = epoch

    def command(self, command: Any, now_ms: int, marks: bytes = b"") -> Turn:
        """Take one command; its turn's record carries the stream marks."""
        turn = Turn(self.index)
        try:
            decision = self.machine.decide(self.state, command, now_ms)
        except Exception as error:
            log.exception("decide failed", command=type(command).__name__)
            turn.problem = Mistake(fault=f"{type(error).__name__} in {type(command).__name__}")
            return turn
        if isinstance(decision, Problem):
            turn.problem = decision
            return turn
        return self._record(turn, decision, now_ms, marks)

    def query(self, query: Any, now_ms: int) -> Any:
        """Answer a query from the state as decided so far; a mistake of ours is a Problem of that query alone."""
        try:
            return self.machine.query(self.state, query, now_ms)
        except Exception as error:
            log.exception("query failed", query=type(query).__name__)
            return Mistake(fault=f"{type(error).__name__} in {type(query).__name__}")

    def begin(self, node: str, now_ms: int) -> Turn:
        """Take the events that open an activation."""
        return self._record(Turn(self.index), self.machine.begin(self.state, self.epoch, node, now_ms), now_ms, b"")

    def advance(self, keys: Iterable[str], now_ms: int) -> Turn:
        """Take the next steps of what the keys name."""
        return self._finish(Turn(self.index), [], deque(keys), now_ms, b"")

    def _record(self, turn: Turn, decision: list[Any], now_ms: int, marks: bytes) -> Turn:
        encode = self.machine.encode_event
        try:
            raws = [encode(event) for event in decision]
        except Exception as error:  # noqa: BLE001 - whatever an encoder raises is that command's problem
            turn.problem = NotKeepable(fault=str(error))
            return turn
        size_bytes = sum(map(len, raws))
        if size_bytes > RECORD_BYTES_MAX:
            turn.problem = TooLarge(size_bytes=size_bytes, size_bytes_max=RECORD_BYTES_MAX)
            return turn
        keys: deque[str] = deque()
        self._apply(turn, decision, keys)
        return self._finish(turn, raws, keys, now_ms, marks)

    def _apply(self, turn: Turn, events: list[Any], keys: deque[str]) -> None:
        machine, state, index = self.machine, self.state, self.index + 1
        for event in events:
            machine.apply(state, event, index)
            if effects := machine.effects(state, event):
                turn.effects.extend(effects)
            keys.extend(machine.touched(state, event))

    def _finish(self, turn: Turn, raws: list[bytes], keys: deque[str], now_ms: int, marks: bytes) -> Turn:
        steps, size_bytes = 0, sum(map(len, raws))
        while keys:
            if steps >= STEPS_PER_TURN_MAX:
                turn.leftover = list(keys)
                break
            steps += 1
            events, encoded = self._next(keys[0], now_ms)
            step_bytes = sum(map(len, encoded))
            if raws and size_bytes + step_bytes > RECORD_BYTES_MAX:
                turn.leftover = list(keys)  # the step is not taken yet: it opens the next turn's record
                break
            key = keys.popleft()
            if step_bytes > RECORD_BYTES_MAX:
                too_large = TooLarge(size_bytes=step_bytes, size_bytes_max=RECORD_BYTES_MAX)
                events, encoded = self._break(key, too_large, now_ms)
                step_bytes = sum(map(len, encoded))
            if events:
                self._apply(turn, events, keys)
                raws.extend(encoded)
                size_bytes += step_bytes
        if raws or marks:
            self.index += 1
            turn.index = self.index
            turn.entry = Entry(self.index, self.epoch, pack(raws), marks)
        return turn

    def _next(self, key: str, now_ms: int) -> tuple[list[Any], list[bytes]]:
        machine = self.machine
        try:
            events = machine.advance(self.state, key, now_ms)
            return events, [machine.encode_event(event) for event in events]
        except Exception as error:
            log.exception("advance failed", key=key)
            return self._break(key, Mistake(fault=f"{type(error).__name__}: {error}"), now_ms)

    def _break(self, key: str, why: Problem, now_ms: int) -> tuple[list[Any], list[bytes]]:
        broken = self.machine.broken(self.state, key, why, now_ms)
        return broken, [self.machine.encode_event(event) for event in broken]
