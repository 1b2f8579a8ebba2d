"""SimRegister: a register for simulations, linearizable and durable, asked over a road that is neither. Floor 10.

* A question travels, takes effect at one instant or never, and its answer travels back; each part may be slow or lost.
  So an answer may show a value that is old by then, never one that was old when the question was put.
* A question whose asker gave up, or died, may take effect long afterwards.
* `roll_back` and `lose` do what no register may do: R13 is about them. The history marks them, as `set`.
* Everything random comes from the generator given; time passes on the running loop only.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from random import Random

import msgspec

from engine.base.pair import Ownership
from engine.base.register import OwnershipUnfit, ownership_fault
from engine.ports import RegisterUnreachable

CALLS_KEPT_MAX = 200_000  # of the history; beyond it the oldest are forgotten, and `forgotten` counts them
VALUES_KEPT_MAX = 10_000  # of each cluster, for `roll_back`


class RegisterFaults(msgspec.Struct, frozen=True, kw_only=True):
    """How the road to a register behaves. Rates are probabilities per question."""

    delay_ms_min: float = 0.2  # each way
    delay_ms_max: float = 3.0
    slow_rate: float = 0.0  # each way: up to slow_ms_max longer
    slow_ms_max: float = 10_000.0
    question_lost_rate: float = 0.0  # it never takes effect
    answer_lost_rate: float = 0.0  # it took effect, and nobody hears of it
    answer_ms_max: float = 2_000.0  # how long an asker waits


SOUND = RegisterFaults()
FLAKY = RegisterFaults(slow_rate=0.1, question_lost_rate=0.05, answer_lost_rate=0.1)


class RegisterCall(msgspec.Struct):
    """One call as its asker saw it, for a checker. `invoked` and `returned` are places in one order of all of them.

    `kind`: create | read | cas | seed | set. `returned` None: no answer, so it may take effect at any time, or never.
    """

    kind: str
    cluster: str
    invoked: int
    expected: Ownership | None = None
    new: Ownership | None = None
    returned: int | None = None
    answer: Ownership | None = None
    asker: str = ""


def decided(call: RegisterCall, value: Ownership | None) -> Ownership | None:
    """Return the value that a call leaves of the one it finds: what each kind of call means, in one place."""
    match call.kind:
        case "create":
            return call.new if value is None else value
        case "cas":
            assert call.new is not None
            fits = value is not None and value == call.expected and call.new.cluster == value.cluster
            return call.new if fits and value is not None and call.new.epoch > value.epoch else value
        case "seed":
            assert call.new is not None
            return call.new if value is None or call.new.epoch > value.epoch else value
        case "set":
            return call.new
    return value


class SimRegister:
    """The register and the road to it. Implements ports.Register; `at(node)` gives the handle of one asker."""

    def __init__(
        self, random: Random, faults: RegisterFaults = SOUND, note: Callable[[str], None] = lambda _: None
    ) -> None:
        """`faults` may be replaced at any time. `note` hears of each change, one line."""
        self.faults = faults
        self.calls: deque[RegisterCall] = deque(maxlen=CALLS_KEPT_MAX)
        self.forgotten = 0
        names = "asked answered lost_questions lost_answers down_questions late_effects changes rolled_back".split()
        self.counts = dict.fromkeys(names, 0)
        self._random = random
        self._note = note
        self._places = 0
        self._values: dict[str, deque[Ownership]] = {}  # all of a cluster, the present one last
        self._down_until = 0.0
        self._cut: dict[str, None] = {}
        self._deaf: dict[str, None] = {}
        self.under_way = 0  # questions that may still take effect
        self._context: Context = copy_context()  # what is under way survives its asker

    # --- the port

    async def create(self, first: Ownership) -> Ownership:
        """Create a cluster's value unless there is one; returns the value there is. Raises RegisterUnreachable."""
        return await self.at("").create(first)

    async def read(self, cluster: str) -> Ownership | None:
        """Return a cluster's value, None for an unknown one; raises RegisterUnreachable."""
        return await self.at("").read(cluster)

    async def cas(self, expected: Ownership, new: Ownership) -> Ownership | None:
        """Replace exactly `expected` by `new`; returns the value there is. Raises RegisterUnreachable."""
        return await self.at("").cas(expected, new)

    async def seed(self, value: Ownership) -> Ownership:
        """Set a value above the one there is, or where there is none; returns the value there is."""
        return await self.at("").seed(value)

    def at(self, asker: str) -> "RegisterHandle":
        """Return the register as one node sees it."""
        return RegisterHandle(self, asker)

    # --- what the simulation does to it

    def now(self, cluster: str) -> Ownership | None:
        """Return the value there is at this instant."""
        values = self._values.get(cluster)
        return values[-1] if values else None

    def go_down(self, span_ms: float) -> None:
        """Answer nothing and do nothing for a while; what is asked meanwhile is lost."""
        self._down_until = max(self._down_until, asyncio.get_running_loop().time() + span_ms / 1_000)

    def come_up(self) -> None:
        """End every outage at once."""
        self._down_until = 0.0

    @property
    def is_down(self) -> bool:
        """Whether it is down at this instant."""
        return asyncio.get_running_loop().time() < self._down_until

    @property
    def is_sound(self) -> bool:
        """Whether everybody gets an answer soon."""
        return self.faults == SOUND and not (self.is_down or self._cut or self._deaf)

    def cut(self, asker: str) -> None:
        """Let nothing through between one asker and the register, in either direction, until `heal`."""
        self._cut[asker] = None

    def deafen(self, asker: str) -> None:
        """Let the questions of an asker through and no answer to it, until `heal`."""
        self._deaf[asker] = None

    def heal(self, asker: str) -> None:
        """Let everything through again."""
        self._cut.pop(asker, None)
        self._deaf.pop(asker, None)

    def seed_now(self, value: Ownership) -> None:
        """Set a value as a person does who sits at the register: at once, above the one there is."""
        call = RegisterCall("seed", value.cluster, self._place(), new=value, asker="an operator")
        self._keep(call)
        call.answer = self._decide(call)
        call.returned = self._place()

    def roll_back(self, epochs: int) -> None:
        """Forget the newest `epochs` epochs of every cluster, as a register restored from a backup would."""
        for cluster, values in self._values.items():
            if not values:
                continue
            kept_max = values[-1].epoch - epochs
            while values and values[-1].epoch > kept_max:
                values.pop()
            self._set(cluster, f"rolled back by {epochs}")

    def lose(self) -> None:
        """Forget everything, as a register with a new disk would."""
        for cluster, values in self._values.items():
            values.clear()
            self._set(cluster, "lost")

    def _set(self, cluster: str, what: str) -> None:
        self.counts["rolled_back"] += 1
        self._note(f"register of {cluster} {what}: {_told(self.now(cluster))}")
        value, place = self.now(cluster), self._place()
        self._keep(RegisterCall("set", cluster, place, new=value, returned=self._place(), answer=value))

    # --- one question

    async def ask(self, call: RegisterCall) -> Ownership | None:
        """Put a question and wait for its answer, at most `answer_ms_max`; raises RegisterUnreachable."""
        fault = None if call.new is None else ownership_fault(call.new)
        if fault is not None:
            raise RegisterUnreachable(OwnershipUnfit(fault=fault).sentence)
        loop, faults = asyncio.get_running_loop(), self.faults
        answered: asyncio.Future[Ownership | None] = loop.create_future()
        call.invoked = self._place()
        self._keep(call)
        self.counts["asked"] += 1
        if self._draw(faults.question_lost_rate) or call.asker in self._cut:
            self.counts["lost_questions"] += 1
        else:
            self.under_way += 1
            loop.call_later(self._way_s(), self._arrive, call, answered, context=self._context)
        try:
            async with asyncio.timeout(faults.answer_ms_max / 1_000):
                answer = await answered
        except TimeoutError:
            raise RegisterUnreachable(f"The register gave no answer within {faults.answer_ms_max:g} ms.") from None
        call.returned, call.answer = self._place(), answer
        self.counts["answered"] += 1
        return answer

    def _arrive(self, call: RegisterCall, answered: "asyncio.Future[Ownership | None]") -> None:
        self.under_way -= 1
        if self.is_down:
            self.counts["down_questions"] += 1
            return
        self.counts["late_effects"] += answered.done()
        after = self._decide(call)
        if self._draw(self.faults.answer_lost_rate):
            self.counts["lost_answers"] += 1
            return
        asyncio.get_running_loop().call_later(self._way_s(), self._back, call, answered, after, context=self._context)

    def _decide(self, call: RegisterCall) -> Ownership | None:
        """Let a call take effect; returns the value there is then."""
        before = self.now(call.cluster)
        after = decided(call, before)
        if after is not None and after != before:
            self.counts["changes"] += 1
            self._values.setdefault(call.cluster, deque(maxlen=VALUES_KEPT_MAX)).append(after)
            self._note(f"register of {call.cluster}: {_told(after)}, asked by {call.asker or 'somebody'}")
        return after

    def _back(self, call: RegisterCall, answered: "asyncio.Future[Ownership | None]", answer: Ownership | None) -> None:
        if not answered.done() and call.asker not in self._cut and call.asker not in self._deaf:
            answered.set_result(answer)

    def _way_s(self) -> float:
        faults = self.faults
        span_ms = self._random.uniform(faults.delay_ms_min, faults.delay_ms_max)
        if self._draw(faults.slow_rate):
            span_ms += self._random.uniform(0, faults.slow_ms_max)
        return span_ms / 1_000

    def _draw(self, rate: float) -> bool:
        return rate > 0 and self._random.random() < rate

    def _place(self) -> int:
        self._places += 1
        return self._places

    def _keep(self, call: RegisterCall) -> None:
        self.forgotten += len(self.calls) == CALLS_KEPT_MAX
        self.calls.append(call)

    # --- what a witness needs of the register it keeps

    def statistics(self) -> dict[str, int]:
        """Return counters since the beginning."""
        return dict(self.counts)

    async def close(self) -> None:
        """Do nothing: it outlives its askers."""


class RegisterHandle:
    """A register as one node sees it. Implements ports.Register."""

    def __init__(self, register: SimRegister, asker: str) -> None:
        self._register = register
        self._asker = asker

    async def create(self, first: Ownership) -> Ownership:
        """Create a cluster's value unless there is one; returns the value there is. Raises RegisterUnreachable."""
        return _there(await self._ask("create", first.cluster, new=first))

    async def read(self, cluster: str) -> Ownership | None:
        """Return a cluster's value, None for an unknown one; raises RegisterUnreachable."""
        return await self._ask("read", cluster)

    async def cas(self, expected: Ownership, new: Ownership) -> Ownership | None:
        """Replace exactly `expected` by `new`; returns the value there is. Raises RegisterUnreachable."""
        return await self._ask("cas", expected.cluster, expected=expected, new=new)

    async def seed(self, value: Ownership) -> Ownership:
        """Set a value above the one there is, or where there is none; returns the value there is."""
        return _there(await self._ask("seed", value.cluster, new=value))

    async def _ask(
        self, kind: str, cluster: str, *, expected: Ownership | None = None, new: Ownership | None = None
    ) -> Ownership | None:
        return await self._register.ask(RegisterCall(kind, cluster, 0, expected, new, asker=self._asker))


def _there(value: Ownership | None) -> Ownership:
    assert value is not None, "a cluster that was just written has a value"
    return value


def _told(value: Ownership | None) -> str:
    if value is None:
        return "nothing"
    return f"epoch {value.epoch}, {value.owner} of {', '.join(one.node for one in value.insync)}"
