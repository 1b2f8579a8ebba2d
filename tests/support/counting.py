"""A tiny machine for tests of the loop: it counts, and every kind of trouble can be asked of it."""

from collections.abc import Iterable
from typing import Any

import msgspec

from engine.base.problem import Problem, problem
from engine.rules.forced import TakenOverByForce

TooSmall = problem("TooSmall", "{amount} is too small; give at least 1.")


class Added(msgspec.Struct, frozen=True, array_like=True, tag=True):
    amount: Any


class Stepped(msgspec.Struct, frozen=True, array_like=True, tag=True):
    key: str


class Began(msgspec.Struct, frozen=True, array_like=True, tag=True):
    epoch: int


class Forced(msgspec.Struct, frozen=True, array_like=True, tag=True):
    epoch: int
    own_last: int
    peer_last: int


class Broke(msgspec.Struct, frozen=True, array_like=True, tag=True):
    key: str
    why: str


class Add(msgspec.Struct, frozen=True):
    amount: Any
    steps: int = 0


class Count:
    """The state: a sum, steps still to go by key, and how many epochs there were."""

    def __init__(self) -> None:
        self.total = 0
        self.steps: dict[str, int] = {}
        self.epochs = 0
        self.broken: dict[str, str] = {}
        self.forced_epoch = 0


_decode = msgspec.msgpack.Decoder(list[Added | Stepped | Began | Broke | Forced]).decode


class CountingMachine:
    """Adds amounts; an amount with steps advances a key that many times; the key `bad` can not be advanced."""

    def blank(self) -> Count:
        return Count()

    def begin(self, _state: Count, epoch: int, _node: str, _now_ms: int) -> list[Any]:
        return [Began(epoch)]

    def decide(self, _state: Count, command: Add | TakenOverByForce, _now_ms: int) -> "list[Any] | Problem":
        if isinstance(command, TakenOverByForce):
            return [Forced(command.epoch, command.own_last, command.peer_last)]
        if command.amount == "raise":
            raise RuntimeError("asked to raise")
        if isinstance(command.amount, int) and command.amount < 0:
            return TooSmall(amount=command.amount)
        return [Added(command.amount), *([Stepped(f"k{command.steps}")] if command.steps else [])]

    def advance(self, state: Count, key: str, _now_ms: int) -> list[Any]:
        if key == "bad":
            raise RuntimeError("can not")
        return [Stepped(key)] if state.steps.get(key, 0) > 0 else []

    def broken(self, _state: Count, key: str, why: Problem, _now_ms: int) -> list[Any]:
        return [Broke(key, why.code)]

    def apply(self, state: Count, event: Any, _index: int) -> None:
        if isinstance(event, Began):
            state.epochs += 1
        elif isinstance(event, Forced):
            state.forced_epoch = event.epoch
        elif isinstance(event, Broke):
            state.broken[event.key] = event.why
        elif isinstance(event, Stepped):
            left = state.steps.setdefault(event.key, int(event.key[1:]))
            state.steps[event.key] = left - 1
        elif event.amount == "apply raises":
            raise AssertionError("the state and the journal disagree")
        elif isinstance(event.amount, int):
            state.total += event.amount

    def touched(self, _state: Count, event: Any) -> Iterable[str]:
        if isinstance(event, Stepped):
            return (event.key,)
        return ("bad",) if isinstance(event, Added) and event.amount == "break" else ()

    def effects(self, _state: Count, event: Any) -> list[Any]:
        return [event.amount] if isinstance(event, Added) else []

    def resume(self, state: Count) -> list[Any]:
        return [f"resumed with {state.total}"]

    def query(self, state: Count, query: Any, _now_ms: int) -> int:
        if isinstance(query, Exception):
            raise query
        return state.total

    def encode_event(self, event: Any) -> bytes:
        return msgspec.msgpack.encode(event)

    def decode_events(self, packed: bytes) -> list[Any]:
        return _decode(packed)

    def encode_state(self, state: Count) -> bytes:
        return msgspec.msgpack.encode([state.total, state.steps, state.epochs, state.broken])

    def decode_state(self, raw: bytes) -> Count:
        state = Count()
        state.total, state.steps, state.epochs, state.broken = msgspec.msgpack.decode(raw)
        return state
