"""Is a history of calls to a register linearizable? A search after Wing and Gong, with memory, one cluster at a time.

* A call takes effect at one instant between `invoked` and `returned`; without an answer, at any time after `invoked`,
  or never. A history is right if some order of these instants explains every answer.
* The meaning of each kind of call is written down here once more, on purpose: what is checked must not be the judge.
* Bounded: beyond STEPS_MAX tried calls the search gives up with Undecided, which is no verdict.
"""

from collections.abc import Iterable, Sequence

from engine.base.pair import Ownership
from engine.ports import Register
from engine.simulation.register import RegisterCall

STEPS_MAX = 2_000_000

Value = Ownership | None


class Undecided(Exception):
    """The search was given up."""


def fault_in(calls: Iterable[RegisterCall], steps_max: int = STEPS_MAX) -> str | None:
    """Say what no order can explain, or None when the history is linearizable. Clusters are independent."""
    clusters: dict[str, list[RegisterCall]] = {}
    for call in calls:
        clusters.setdefault(call.cluster, []).append(call)
    for own in clusters.values():
        own.sort(key=lambda call: call.invoked)
        stuck = _Search(own, steps_max).run()
        if stuck is not None:
            return stuck
    return None


def effect(call: RegisterCall, value: Value) -> Value:
    """The value that a call leaves of the one it meets."""
    new = call.new
    if call.kind == "read":
        return value
    if call.kind == "set":
        return new
    assert new is not None
    if call.kind == "create":
        return value or new
    if call.kind == "seed":
        return new if value is None or value.epoch < new.epoch else value
    assert call.kind == "cas"
    assert call.expected is not None
    wins = value == call.expected and new.epoch > call.expected.epoch and new.cluster == call.expected.cluster
    return new if wins else value


class _Search:
    """Depth first over (which calls have taken effect, which value there is); each pair is visited once."""

    def __init__(self, calls: Sequence[RegisterCall], steps_max: int) -> None:
        self.calls = calls
        self.answered = sum(1 << place for place, call in enumerate(calls) if call.returned is not None)
        self.steps_left = steps_max
        self.seen: set[tuple[int, Value]] = set()
        self.best: tuple[int, int, Value] = (-1, 0, None)

    def run(self) -> str | None:
        stack: list[tuple[int, int, Value]] = [(0, 0, None)]  # first place not done, set of those done, value
        while stack:
            first, done, value = stack.pop()
            first, done = self._take_what_changes_nothing(first, done, value)
            if (done, value) in self.seen:
                continue
            self.seen.add((done, value))
            if done & self.answered == self.answered:
                return None
            progress = (done & self.answered).bit_count()
            if progress > self.best[0]:
                self.best = (progress, done, value)
            for place in self._next(first, done):
                call = self.calls[place]
                after = effect(call, value)
                if after != value and (call.returned is None or call.answer == after):
                    stack.append((first, done | 1 << place, after))
        return self._verdict()

    def _next(self, first: int, done: int) -> list[int]:
        """The calls that may be next: invoked before any of the others that are not done has returned."""
        self.steps_left -= 1
        if self.steps_left < 0:
            raise Undecided(f"{len(self.calls)} calls of {self.calls[0].cluster}")
        places: list[int] = []
        limit: int | None = None
        for place in range(first, len(self.calls)):
            if done >> place & 1:
                continue
            call = self.calls[place]
            if limit is not None and call.invoked > limit:
                break
            places.append(place)
            if call.returned is not None and (limit is None or call.returned < limit):
                limit = call.returned
        return places

    def _take_what_changes_nothing(self, first: int, done: int, value: Value) -> tuple[int, int]:
        """Let every answered call that may be next, changes nothing and is answered rightly take effect at once.

        That loses no solution: where it stands later, it can as well stand here.
        """
        while True:
            taken = [
                place
                for place in self._next(first, done)
                if (call := self.calls[place]).returned is not None and effect(call, value) == value == call.answer
            ]
            for place in taken:
                done |= 1 << place
            while first < len(self.calls) and done >> first & 1:
                first += 1
            if not taken:
                return first, done

    def _verdict(self) -> str:
        _, done, value = self.best
        left = [call for place, call in enumerate(self.calls) if not done >> place & 1 and call.returned is not None]
        lines = [f"no order explains these answers; at best there is {told(value)}, and then come:"]
        lines += [f"  {describe(call)}" for call in sorted(left, key=lambda call: call.invoked)[:8]]
        return "\n".join(lines)


def told(value: Value) -> str:
    return "nothing" if value is None else f"{value.epoch}:{value.owner}#{value.nonce}/{len(value.insync)}"


def describe(call: RegisterCall) -> str:
    asked = "" if call.kind == "read" else f" {told(call.expected)} → {told(call.new)}"
    span = f"[{call.invoked}, {'?' if call.returned is None else call.returned}]"
    return f"{span} {call.asker or 'somebody'} {call.kind} {call.cluster}{asked} answered {told(call.answer)}"


class History:
    """Calls in the order in which they began and ended, as their askers saw it."""

    def __init__(self) -> None:
        self.calls: list[RegisterCall] = []
        self._places = 0

    def place(self) -> int:
        self._places += 1
        return self._places

    def begin(self, call: RegisterCall) -> RegisterCall:
        call.invoked = self.place()
        self.calls.append(call)
        return call

    def end(self, call: RegisterCall, answer: Value) -> None:
        call.returned, call.answer = self.place(), answer

    @property
    def unknown(self) -> int:
        return sum(call.returned is None for call in self.calls)


class Recorded:
    """A register whose calls are written down. Raises what it raises; such a call has no answer."""

    def __init__(self, register: Register, history: History, asker: str) -> None:
        self._register = register
        self._history = history
        self._asker = asker

    async def create(self, first: Ownership) -> Ownership:
        call = self._history.begin(RegisterCall("create", first.cluster, 0, new=first, asker=self._asker))
        answer = await self._register.create(first)
        self._history.end(call, answer)
        return answer

    async def read(self, cluster: str) -> Value:
        call = self._history.begin(RegisterCall("read", cluster, 0, asker=self._asker))
        answer = await self._register.read(cluster)
        self._history.end(call, answer)
        return answer

    async def cas(self, expected: Ownership, new: Ownership) -> Value:
        call = RegisterCall("cas", expected.cluster, 0, expected, new, asker=self._asker)
        self._history.begin(call)
        answer = await self._register.cas(expected, new)
        self._history.end(call, answer)
        return answer
