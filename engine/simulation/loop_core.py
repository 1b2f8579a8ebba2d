"""NodeLoop: virtual time, nodes and the order of callbacks; the scheduling half of VirtualLoop. Floor 10.

* Time jumps to the next timer, and only when nothing is ready; inside it is an integer of nanoseconds.
* The node of a callback is what its context says in NODE at the moment it is scheduled.
* FIFO inside a node, seeded random order between nodes: each callback's turn is a draw among the nodes that are ready.
* A crashed node's callbacks are kept and never called; a paused node's are parked in their order.
"""

import asyncio
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from random import Random
from typing import TYPE_CHECKING, Any, TypeVarTuple

from engine.simulation.loop_nodes import NEVER_NS, NODE, NS_PER_SECOND, Lane, delay_ns, instant_ns
from engine.simulation.loop_refusals import Refusals
from engine.simulation.loop_tasks import callback_name
from engine.simulation.loop_trace import FOLD_STEPS, Deadlock, Runaway, Trace, deadlock_text, runaway_text

NS_PER_MS = 1_000_000

Args = TypeVarTuple("Args")


class NodeLoop(Refusals, asyncio.BaseEventLoop):
    """An event loop in virtual time with many nodes; VirtualLoop says what its arguments mean."""

    if TYPE_CHECKING:  # asyncio's own, which its stubs do not show
        _debug: bool
        _stopping: Any
        _thread_id: int | None
        _current_handle: Any

        def _check_closed(self) -> None: ...
        def _check_thread(self) -> None: ...
        def _check_callback(self, callback: Any, method: str) -> None: ...

    def __init__(self, seed: int, *, start_ms: int, max_steps: int, max_virtual_seconds: float) -> None:
        self._lanes: dict[str, Lane] = {}
        self._environment = self._lane("")
        self._now = 0  # true ns since the beginning
        super().__init__()
        self._ready = self._environment.ready
        self._clock_resolution = 1 / NS_PER_SECOND
        self._owner = threading.get_ident()
        self.seed = seed
        self.steps = 0
        self.escapes = []
        self.on_step: Callable[[int, str, str], None] | None = None  # called with (ns, node, callback name)
        self._start_ns = start_ms * NS_PER_MS
        self._max_steps = max_steps
        self._max_now = delay_ns(max_virtual_seconds)
        self._jumped_at_step = 0
        self._choose = Random(f"virtual-loop/{seed}").random
        self._runnable: list[Lane] = []
        self._drifting = False
        self._timers_set = 0
        self._trace = Trace()

    # --- time -------------------------------------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """True virtual time: nanoseconds since 1970 UTC, whatever the nodes' clocks show."""
        return self._start_ns + self._now

    def clock_ns(self) -> int:
        """What the clock of the running node shows: nanoseconds since 1970 UTC, with its drift."""
        return self._start_ns + (self._lane(NODE.get()).clock_ns(self._now) if self._drifting else self._now)

    def time(self) -> float:
        """Seconds since the loop's beginning on the clock of the running node. Timers are set on this clock."""
        return (self._lane(NODE.get()).clock_ns(self._now) if self._drifting else self._now) / NS_PER_SECOND

    def drift(self, node: str, ppm: int) -> None:
        """Let a node's clock run `ppm` millionths too fast, or too slow below zero, from now on; ±500,000 at most.

        Its timers move with it, those already set too. The clock keeps what it has gained when the drift ends.
        """
        lane = self._node(node)
        lane.drift(self._now, ppm)
        self._drifting = True

    # --- nodes ------------------------------------------------------------------------------------------------------

    def context_of(self, node: str) -> Context:
        """A copy of the current context in which code belongs to `node`: `create_task(work, context=…)` starts it."""
        context = copy_context()
        context.run(NODE.set, node)
        return context

    def crash(self, node: str) -> None:
        """End a node at once and for good: nothing of it runs again, no `finally` either, until the loop is closed.

        Called by the node's own code, the rest of that callback still runs. Revoking its World is the caller's part.
        """
        lane = self._node(node)
        if lane.crashed:
            return
        lane.crashed = True
        self._unqueue(lane)

    def is_crashed(self, node: str) -> bool:
        lane = self._lanes.get(node)
        return lane is not None and lane.crashed

    def pause(self, node: str) -> None:
        """Stop a node as SIGSTOP would: time goes on, its callbacks wait."""
        lane = self._node(node)
        lane.paused = True
        self._unqueue(lane)

    def resume(self, node: str) -> None:
        """Let a paused node go on: first what was ready, in its order, then the timers that came due meanwhile."""
        lane = self._node(node)
        lane.paused = False
        if lane.ready or lane.is_due(self._now):
            self._queue(lane)

    def _lane(self, node: str) -> Lane:
        lane = self._lanes.get(node)
        if lane is None:
            lane = self._lanes[node] = Lane(node)
        return lane

    def _node(self, node: str) -> Lane:
        if not node:
            raise ValueError("the environment is not a node: it cannot crash, pause or drift")
        return self._lane(node)

    def _queue(self, lane: Lane) -> None:
        if not (lane.queued or lane.paused or lane.crashed):
            lane.queued = True
            self._runnable.append(lane)

    def _unqueue(self, lane: Lane) -> None:
        if lane.queued:
            lane.queued = False
            self._runnable.remove(lane)

    # --- callbacks --------------------------------------------------------------------------------------------------

    def _call_soon(self, callback: Any, args: Any, context: Context | None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if handle._source_traceback:  # type: ignore[attr-defined]
            del handle._source_traceback[-1]  # type: ignore[attr-defined]
        self._enqueue(handle)
        return handle

    def _add_callback(self, handle: asyncio.Handle) -> None:
        if not handle.cancelled():
            self._enqueue(handle)

    def _enqueue(self, handle: Any) -> None:
        lane = self._lane(handle._context.get(NODE, ""))
        lane.ready.append(handle)
        if not lane.queued:
            self._queue(lane)

    def call_soon_threadsafe(
        self, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.Handle:
        """As call_soon, for code that cannot know its thread; from a thread other than the loop's it is an Escape."""
        if threading.get_ident() != (self._thread_id or self._owner):
            raise self.escape("another thread called into the simulation: its time would be real. Use asyncio tasks")
        self._check_closed()
        if self._debug:
            self._check_callback(callback, "call_soon_threadsafe")
        handle = self._call_soon(callback, args, context)
        if handle._source_traceback:  # type: ignore[attr-defined]
            del handle._source_traceback[-1]  # type: ignore[attr-defined]  # it ends where the caller is, as asyncio's
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call after `delay` seconds on the clock of the callback's node, to the nearest nanosecond."""
        if delay is None:
            raise TypeError("delay must not be None")
        node = NODE.get() if context is None else context.get(NODE, "")
        lane = self._lane(node if self._drifting else "")
        when_ns = lane.clock_ns(self._now) + delay_ns(delay)
        return self._set_timer(when_ns, when_ns / NS_PER_SECOND, callback, args, context, "call_later")

    def call_at(
        self, when: float, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call when `time()`, read by the caller, shows `when` or the first nanosecond after it."""
        if when is None:
            raise TypeError("when cannot be None")
        when_ns = instant_ns(when)
        if self._drifting and context is not None and when_ns < NEVER_NS:
            true_ns = self._lane(NODE.get()).true_ns(when_ns)
            when_ns = self._lane(context.get(NODE, "")).clock_ns(true_ns)
        return self._set_timer(when_ns, when, callback, args, context, "call_at")

    def _set_timer(
        self, when_ns: int, when: float, callback: Any, args: Any, context: Context | None, method: str
    ) -> asyncio.TimerHandle:
        self._check_closed()
        if self._debug:
            self._check_thread()
            self._check_callback(callback, method)
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        if timer._source_traceback:  # type: ignore[attr-defined]
            del timer._source_traceback[-2:]  # type: ignore[attr-defined]
        lane = self._lane(timer._context.get(NODE, ""))  # type: ignore[attr-defined]
        self._timers_set += 1
        lane.push(when_ns, self._timers_set, timer)
        if not lane.queued and when_ns <= lane.clock_ns(self._now):
            self._queue(lane)
        return timer

    def _timer_handle_cancelled(self, timer: Any) -> None:
        if timer._scheduled:
            self._lane(timer._context.get(NODE, "")).cancelled += 1

    # --- running ----------------------------------------------------------------------------------------------------

    def _write_to_self(self) -> None:
        """Nobody sleeps in a selector here."""

    def _process_events(self, event_list: Any) -> None:
        """There are none."""

    def _run_once(self) -> None:
        """Run callbacks until nothing is ready, or until the batch in which `stop` was called is done."""
        runnable = self._runnable
        if self._stopping:
            self._wake()
            for lane in list(runnable):
                lane.begin_batch(self._now)
                self._finish_batch(lane)
            return
        if not runnable:
            self._jump()
        while runnable:
            count = len(runnable)
            lane = runnable[0] if count == 1 else runnable[int(self._choose() * count)]
            if lane.batch == 0:
                lane.begin_batch(self._now)
            if lane.ready:
                self._step(lane)
            if lane.queued and not lane.ready and not (lane.timers and lane.is_due(self._now)):
                self._unqueue(lane)
            if self._stopping:
                self._finish_batch(lane)
                return

    def _finish_batch(self, lane: Lane) -> None:
        while lane.batch and lane.queued:
            self._step(lane)

    def _step(self, lane: Lane) -> None:
        if self.steps >= self._max_steps:
            raise self._runaway(f"{self.steps:,} steps are as many as were allowed")
        handle: Any = lane.ready.popleft()
        lane.batch -= 1
        if handle._cancelled:
            return
        self.steps += 1
        entry = (self._now, lane.name, callback_name(handle._callback))
        self._trace.entries.append(entry)
        if not self.steps % FOLD_STEPS:
            self._trace.fold(self.steps)
        if self.on_step is not None:
            self.on_step(*entry)
        if self._debug:
            self._current_handle = handle
            try:
                handle._run()
            finally:
                self._current_handle = None
        else:
            handle._run()
        handle = None  # a traceback may keep this frame, and must not keep the callback's task with it

    def _runaway(self, what: str) -> Runaway:
        return Runaway(runaway_text(what, self._now, self.steps - self._jumped_at_step, self._trace.busiest()))

    def _wake(self) -> None:
        for lane in self._lanes.values():
            if lane.timers and not (lane.queued or lane.paused or lane.crashed) and lane.is_due(self._now):
                self._queue(lane)

    def _jump(self) -> None:
        """Move time to the first timer of a node that can run."""
        first: int | None = None
        for lane in self._lanes.values():
            if lane.timers and not (lane.paused or lane.crashed) and (when_ns := lane.next_timer_ns()) is not None:
                true_ns = lane.true_ns(when_ns)
                first = true_ns if first is None or true_ns < first else first
        if first is None:
            raise Deadlock(deadlock_text(self._now, self.waiting(), self._lanes.values()))
        if first > self._max_now:
            raise self._runaway(f"{self._max_now / NS_PER_SECOND:g} virtual seconds are all that was allowed")
        self._now = max(self._now, first)
        self._jumped_at_step = self.steps
        self._wake()

    def waiting(self) -> list[str]:
        """One line for each unfinished task of a node that is not crashed: name, node, where it waits."""
        raise NotImplementedError

    def digest(self) -> str:
        """The trace so far as 32 hexadecimal digits: blake2b over (time, node, callback) of each step."""
        return self._trace.digest()
