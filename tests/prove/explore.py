"""Breadth-first search through every world that the rules allow, within bounds.

* A world is known by 16 bytes of a hash of its encoding; with a hundred million worlds the chance that two share one
  is below 10⁻²². Worlds themselves are kept only while they wait to be looked at.
* The first breach found is a shortest one; its path is told by labels, which lead to it again.
"""

import hashlib
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable

import msgspec

from tests.prove.invariants import breach, with_acks
from tests.prove.steps import Label, labels, step
from tests.prove.transcript import sentence_of
from tests.prove.world import Bounds, World, decode_world, encode, first_world


class Report(msgspec.Struct):
    """What a search has found."""

    bounds: Bounds
    states: int = 0
    transitions: int = 0
    depth: int = 0
    seconds: float = 0.0
    is_whole: bool = True  # every world within the bounds was looked at
    breach: str = ""
    path: list[Label] = []
    reached: Counter[str] = msgspec.field(default_factory=Counter)


def explore(
    bounds: Bounds,
    prefix: Iterable[str] = (),
    *,
    states_max: int = 100_000_000,
    seconds_max: float = float("inf"),
    reached: Callable[[World, Label, World], Iterable[str]] = lambda *_: (),
    progress: Callable[[Report], None] = lambda _report: None,
) -> Report:
    """Search until everything is seen, a breach is found, or a maximum is reached.

    The search starts where `prefix` leads, which tells the first steps in the sentences of a transcript.
    """
    report = Report(bounds)
    begin = time.perf_counter()
    led, first = follow(first_world(bounds), prefix)
    raw = encode(first)
    seen = {_key(raw)}
    parents = array("q", [-1])
    numbers: dict[Label, int] = {}
    taken: list[Label] = []
    via = array("l", [-1])
    waiting = deque([(0, 0, raw)])
    while waiting:
        number, depth, raw = waiting.popleft()
        world = decode_world(raw)
        report.depth = depth
        for label in labels(world):
            after = step(world, label)
            if after is None:
                continue
            report.transitions += 1
            after, wrong = with_acks(after)
            wrong = wrong or breach(after)
            encoded = encode(after)
            key = _key(encoded)
            if key in seen and not wrong:
                continue
            seen.add(key)
            parents.append(number)
            if label not in numbers:
                numbers[label] = len(taken)
                taken.append(label)
            via.append(numbers[label])
            report.reached.update(reached(world, label, after))
            if wrong:
                report.breach = wrong
                report.path = led + _path(len(parents) - 1, parents, via, taken)
                waiting.clear()
                break
            waiting.append((len(parents) - 1, depth + 1, encoded))
        report.states = len(parents)
        report.seconds = time.perf_counter() - begin
        if report.states % 64 == 0:
            progress(report)
        if waiting and (report.states >= states_max or report.seconds >= seconds_max):
            report.is_whole = False
            break
    return report


def _key(encoded: bytes) -> bytes:
    return hashlib.blake2b(encoded, digest_size=16).digest()


def _path(number: int, parents: "array[int]", via: "array[int]", taken: list[Label]) -> list[Label]:
    path: list[Label] = []
    while number:
        path.append(taken[via[number]])
        number = parents[number]
    return path[::-1]


def follow(world: World, sentences: Iterable[str]) -> tuple[list[Label], World]:
    """Return the steps that a transcript's sentences tell, and the world they lead to; raises ValueError."""
    path: list[Label] = []
    for sentence in sentences:
        possible = {sentence_of(world, label): label for label in labels(world)}
        after = step(world, possible[sentence]) if sentence in possible else None
        if after is None:
            can = sorted(one for one, label in possible.items() if step(world, label) is not None)
            raise ValueError(f"step {len(path) + 1} can not happen: {sentence}; what can: {can}")
        path.append(possible[sentence])
        world, wrong = with_acks(after)
        wrong = wrong or breach(world)
        if wrong:
            raise ValueError(f"step {len(path)} is a breach already: {sentence}: {wrong}")
    return path, world
