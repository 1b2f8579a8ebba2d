"""The macros that go through a list or the keys of a map: all, exists, exists_one, filter, map. Floor 2.

* A loop gets an iterator that puts one item after the other into the loop variable's slot and pays for each.
* Order is the list's, or the map's own; the result of the same values is always the same.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from engine.model.expression_values import Frame, Refusal, Run, Value, list_fits, word

Loop: TypeAlias = Callable[[Frame, Iterator[None]], Value]
MakeLoop: TypeAlias = Callable[[int, Sequence[Run], Sequence[int]], Loop]  # slot, bodies, their columns


def _all(_slot: int, bodies: Sequence[Run], columns: Sequence[int]) -> Loop:
    return _decided_by(False, "all", bodies[0], columns[0])


def _exists(_slot: int, bodies: Sequence[Run], columns: Sequence[int]) -> Loop:
    return _decided_by(True, "exists", bodies[0], columns[0])


def _decided_by(decisive: bool, name: str, body: Run, column: int) -> Loop:
    """As `&&` and `||`: one decisive item is enough, whatever went wrong at others."""

    def loop(frame: Frame, items: Iterator[None]) -> Value:
        failure: Refusal | None = None
        for _ in items:
            try:
                value = body(frame)
            except Refusal as refusal:
                failure = failure or refusal
                continue
            if value is decisive:
                return decisive
            if type(value) is not bool and failure is None:
                failure = _not_bool(name, value, column)
        if failure is not None:
            raise failure
        return not decisive

    return loop


def _exists_one(_slot: int, bodies: Sequence[Run], columns: Sequence[int]) -> Loop:
    body, column = bodies[0], columns[0]

    def loop(frame: Frame, items: Iterator[None]) -> Value:
        found = 0
        for _ in items:
            value = body(frame)
            if type(value) is not bool:
                raise _not_bool("exists_one", value, column)
            found += value
        return found == 1

    return loop


def _filter(slot: int, bodies: Sequence[Run], columns: Sequence[int]) -> Loop:
    return _mapped("filter", bodies[0], columns[0], lambda frame: frame.slots[slot])


def _map(_slot: int, bodies: Sequence[Run], columns: Sequence[int]) -> Loop:
    if len(bodies) == 2:
        return _mapped("map", bodies[0], columns[0], bodies[1])
    transform = bodies[0]

    def loop(frame: Frame, items: Iterator[None]) -> Value:
        made = [transform(frame) for _ in items]
        list_fits(len(made))
        return made

    return loop


def _mapped(name: str, condition: Run, column: int, transform: Run) -> Loop:
    """Collect what `transform` gives for the items that fulfil the condition."""

    def loop(frame: Frame, items: Iterator[None]) -> Value:
        made: list[Value] = []
        for _ in items:
            value = condition(frame)
            if type(value) is not bool:
                raise _not_bool(name, value, column)
            if value:
                made.append(transform(frame))
        list_fits(len(made))
        return made

    return loop


def _not_bool(name: str, value: Value, column: int) -> Refusal:
    return Refusal(f"the condition of {name}() is {word(value)}, not a bool", column)


LOOPS: Final[dict[str, MakeLoop]] = {
    "all": _all,
    "exists": _exists,
    "exists_one": _exists_one,
    "filter": _filter,
    "map": _map,
}
