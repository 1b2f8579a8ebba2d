"""The leases of one attempt, searched: every order of events within bounds, over the rules of engine/rules/leases.py.

A director and a subagent with a clock each, which differ by as much as ρ allows and are read in whole units. Messages
are never consumed: each may be lost, late, repeated. The director may die and begin anew, knowing nothing. A breach is
a director that counts the attempt as ended, and so begins the next, while the process runs.
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from engine.base.ids import SubagentId
from engine.rules import leases
from engine.rules.leases import Leases, LeaseTimes, director_ms_min

GRAIN = 4  # steps of the slower clock in one unit that is read
CLOCK_ERROR_PPM = 333_333  # one clock runs twice as fast as the other
STEPS_MAX = 22
ASKS_MAX = 2
CRASHES_MAX = 1
KEY, WHERE = "o/1/1", SubagentId("s")

TINY = LeaseTimes(lease_ms=2, grace_ms=0, margin_ms=0, late_ms=1, grain_ms=1, clock_error_ppm=CLOCK_ERROR_PPM)
TIMES = msgspec.structs.replace(TINY, director_ms=director_ms_min(TINY))


class Place(NamedTuple):
    """One world. `until`: the deadline of the process, None when none runs. Clocks in steps, instants as read."""

    subagent: int
    director: int
    expires: int
    claimed: bool = True
    until: int | None = None
    is_over: bool = False  # the director has begun the next attempt
    answers: frozenset[int] = frozenset()  # asked at, on the subagent's clock
    grants: frozenset[int] = frozenset()
    asks: int = 0
    crashes: int = 0
    steps: int = 0

    @property
    def is_broken(self) -> bool:
        return self.is_over and self.until is not None


class Search(NamedTuple):
    """What came of a search: how many worlds, what was met, and the shortest story of a breach."""

    places: int
    met: frozenset[str]
    story: tuple[str, ...] | None


def search(times: LeaseTimes = TIMES, steps_max: int = STEPS_MAX) -> Search:
    """Go through all worlds, breadth first, and stop at a breach."""
    begins = [Place(0, phase, _table(0, phase // GRAIN, times)) for phase in range(GRAIN)]
    came_from: dict[Place, tuple[Place, str] | None] = dict.fromkeys(begins)
    met: dict[str, None] = {}
    waiting = deque(begins)
    while waiting:
        place = waiting.popleft()
        for what, following in _next(place, times, steps_max):
            met[what.split(" ", 1)[0]] = None
            if following in came_from:
                continue
            came_from[following] = (place, what)
            if following.is_broken:
                return Search(len(came_from), frozenset(met), _story(following, came_from))
            waiting.append(following)
    return Search(len(came_from), frozenset(met), None)


def _table(expires: int, now: int, times: LeaseTimes) -> int:
    """Return what a director's own table gives, when it learns of an attempt at this instant."""
    table = Leases()
    table.note(KEY, WHERE, now, times.director_ms)
    return max(expires, table.next_ms() or 0)


def _next(place: Place, times: LeaseTimes, steps_max: int) -> Iterator[tuple[str, Place]]:
    here, there = place.subagent // GRAIN, place.director // GRAIN
    if place.steps < steps_max:
        yield "time passes", _passed(place, 1, 1, times)
        yield "time passes, the director's clock is fast", _passed(place, 1, 2, times)
    if (place.claimed or place.until is not None) and place.asks < ASKS_MAX:
        yield f"asks at {here}", place._replace(answers=place.answers | {here}, asks=place.asks + 1)
    if not place.is_over:
        for asked in sorted(place.answers - place.grants):
            expires = leases.expiry(place.expires, there, times.director_ms)
            yield f"grants what was asked at {asked}", place._replace(expires=expires, grants=place.grants | {asked})
        if leases.has_expired(place.expires, there):
            yield "expires at the director", place._replace(is_over=True)
        if place.crashes < CRASHES_MAX:
            expires = _table(0, there, times)
            yield "restarts: a new director", place._replace(expires=expires, crashes=place.crashes + 1)
    for asked in sorted(place.grants):
        yield from _granted(place, asked, here, times)
    if place.until is not None:
        yield "ends by itself", place._replace(until=None, claimed=False)


def _granted(place: Place, asked: int, here: int, times: LeaseTimes) -> Iterator[tuple[str, Place]]:
    until = leases.lease_end(asked, here, times.lease_ms)
    if place.claimed and here < leases.fence_at(until, times.grace_ms, times.margin_ms):
        yield f"begins until {until}", place._replace(claimed=False, until=until)
    elif place.until is not None:
        fence = leases.fence_at(place.until, times.grace_ms, times.margin_ms)
        longer = leases.extended(place.until, until, fence, here)
        if longer != place.until:
            yield f"renews until {longer}", place._replace(until=longer)


def _passed(place: Place, subagent: int, director: int, times: LeaseTimes) -> Place:
    """Let time pass; the guard ends a process no later than `late_ms` after its deadline."""
    local = place.subagent + subagent
    until = place.until
    if until is not None and local // GRAIN >= until + times.late_ms:
        until = None
    return place._replace(subagent=local, director=place.director + director, until=until, steps=place.steps + 1)


def _story(place: Place, came_from: dict[Place, tuple[Place, str] | None]) -> tuple[str, ...]:
    story: list[str] = []
    while (before := came_from[place]) is not None:
        place, what = before
        story.append(what)
    return tuple(reversed(story))
