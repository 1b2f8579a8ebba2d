"""VirtualLoop: an asyncio event loop in virtual time, seeded, of many nodes in one thread. Floor 10.

* Time jumps to the next timer, and only when nothing is ready. Nothing ready, no timer and somebody waiting: Deadlock.
* Each callback belongs to the node its context names in NODE. FIFO inside a node, seeded random order between nodes.
* A crashed node never runs again: its callbacks are kept, not called; its tasks are kept until the loop is closed, so
  that no `finally` of theirs runs while somebody could see it. A paused one is parked and goes on in the same order.
* Same seed and same code, same trace, under every PYTHONHASHSEED: compare `digest()`.
* Inside, time is an integer of nanoseconds; `loop.time()` is seconds since the beginning on the node's own clock.
* No sockets, no threads, no processes, no signals: asking for one is an Escape.
"""

import asyncio
import contextlib
import gc
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from engine.simulation.logs import logs_go_to
from engine.simulation.loop_core import NodeLoop
from engine.simulation.loop_nodes import NODE
from engine.simulation.loop_refusals import Escape
from engine.simulation.loop_tasks import (
    AsyncGens,
    StableFuture,
    StableTask,
    bury,
    callback_name,
    new_future,
    new_task,
    silence,
    where,
)
from engine.simulation.loop_trace import Deadlock, Runaway

__all__ = ["NODE", "Deadlock", "Escape", "Runaway", "VirtualLoop", "run"]

START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z, what a wall clock shows at the beginning unless told otherwise
STEPS_MAX = 20_000_000
VIRTUAL_SECONDS_MAX = 400 * 86_400
SETTLE_ROUNDS_MAX = 10  # at the end of `run`, how often tasks started by ending tasks are cancelled in turn

Result = TypeVar("Result")


class VirtualLoop(NodeLoop):
    """An event loop in virtual time. `seed` decides the order between nodes; `start_ms` is where wall clocks begin.

    With `inline_executor`, run_in_executor runs the function on the loop at a later turn, taking no virtual time;
    without it, it is an Escape. More than `max_steps` callbacks or `max_virtual_seconds` are a Runaway.
    """

    if TYPE_CHECKING:  # asyncio's own, which its stubs do not show
        _closed: bool
        _task_factory: Any

    def __init__(
        self,
        seed: int,
        *,
        start_ms: int = START_MS,
        inline_executor: bool = False,
        max_steps: int = STEPS_MAX,
        max_virtual_seconds: float = VIRTUAL_SECONDS_MAX,
    ) -> None:
        super().__init__(seed, start_ms=start_ms, max_steps=max_steps, max_virtual_seconds=max_virtual_seconds)
        self._asyncgens = AsyncGens(self.is_crashed)
        self._inline_executor = inline_executor
        self._serial = 0
        self._tasks: WeakValueDictionary[int, StableTask] = WeakValueDictionary()
        self._dead: dict[int, StableTask] = {}  # kept until the end: crashed tasks never finish
        self.on_log: Callable[[str, str], None] = lambda *_: None  # called with (node, sentence) of what nodes log
        self.complaints: list[str] = []  # what dead nodes' coroutines raised when they were closed at the end

    # --- tasks, futures, functions ----------------------------------------------------------------------------------

    def create_future(self) -> StableFuture:
        self._serial += 1
        return new_future(self, self._serial)

    def create_task(
        self, coro: Any, *, name: Any = None, context: Context | None = None, **options: Any
    ) -> asyncio.Task[Any]:
        """Start a coroutine as a task of the node that `context`, or else the running code, belongs to."""
        if self._task_factory is not None:
            return super().create_task(coro, name=name, context=context, **options)
        self._check_closed()
        self._serial += 1
        home = copy_context() if context is None else context
        task = new_task(self, self._serial, coro, name, home, options)
        self._tasks[self._serial] = task
        if self.is_crashed(home.get(NODE, "")):
            self._kill(task)
        return task

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Run a function on the loop at a later turn if the loop was made with inline_executor; else raise Escape."""
        self._check_closed()
        if not self._inline_executor:
            name = callback_name(func)
            raise self.escape(
                f"run_in_executor({name}) needs a thread: run it by world.call, give the code an asyncio form, "
                "or make the loop with inline_executor=True"
            )
        if self._debug:
            self._check_callback(func, "run_in_executor")
        future = self.create_future()
        self.call_soon(self._run_inline, future, func, args)
        return future

    def _run_inline(self, future: StableFuture, func: Any, args: Any) -> None:
        if future.done():
            return
        asyncio._set_running_loop(None)  # a function in a thread sees no running loop
        try:
            result = func(*args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except StopIteration as error:
            future.set_exception(RuntimeError(f"the function raised {error!r}, which a future cannot carry"))
        except BaseException as error:  # noqa: BLE001  # as an executor does: every error goes to whoever waits
            future.set_exception(error)
        else:
            future.set_result(result)
        finally:
            asyncio._set_running_loop(self)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Nothing to shut down: there are no threads."""

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        """Close a dropped async generator in its own node; a crashed node's is dropped as it is."""
        node = self._asyncgens.node(agen)
        self._asyncgens.discard(agen)
        if not self._closed and not self.is_crashed(node):
            self.call_soon_threadsafe(self.create_task, agen.aclose(), context=self.context_of(node))

    def note_log(self, node: str, sentence: str) -> None:
        """Take in what a node logs; `on_log` is who hears it at that moment."""
        self.on_log(node, sentence)

    # --- the dead -----------------------------------------------------------------------------------------------------

    def crash(self, node: str) -> None:
        """End a node at once and for good: nothing of it runs again, no `finally` either, until the loop is closed.

        Called by the node's own code, the rest of that callback still runs. Revoking its World is the caller's part.
        """
        super().crash(node)
        for task in list(self._tasks.values()):
            if task.home.get(NODE, "") == node:
                self._kill(task)

    def waiting(self) -> list[str]:
        """One line for each unfinished task of a node that is not crashed: name, node, where it waits."""
        whose = [(task, task.home.get(NODE, "")) for task in self._unfinished()]
        living = [(task, node) for task, node in whose if not self.is_crashed(node)]
        return [f"{task.get_name()} [{node or 'environment'}] {where(task)}" for task, node in living]

    def able_tasks(self) -> list[asyncio.Task[Any]]:
        """The unfinished tasks that can still run, in order of creation: their nodes are neither crashed nor paused."""
        lanes = [(task, self._lane(task.home.get(NODE, ""))) for task in self._unfinished()]
        return [task for task, lane in lanes if not (lane.crashed or lane.paused)]

    def _unfinished(self) -> list[StableTask]:
        return [task for task in self._tasks.values() if not task.done()]

    def _kill(self, task: StableTask) -> None:
        silence(task)
        if not task.done():
            self._dead[task.serial] = task
            asyncio.tasks._unregister_task(task)  # all_tasks() lists what may still run

    def end_all(self) -> None:
        """Let nothing run again, in the environment neither: what is unfinished is as dead as if it had crashed."""
        for lane in self._lanes.values():
            lane.crashed = True
            self._unqueue(lane)
        for task in self._unfinished():
            self._kill(task)

    def close(self) -> None:
        """Close the loop, then let the dead go: their coroutines are closed now, in order of creation."""
        if self._closed or self.is_running():
            super().close()
            return
        running = asyncio._get_running_loop()
        asyncio._set_running_loop(self)  # what the dead do in their `finally` still finds its loop, where nothing runs
        try:
            self.complaints += bury(self._dead.values())
        finally:
            asyncio._set_running_loop(running)
        self._dead.clear()
        super().close()
        for lane in self._lanes.values():
            lane.ready.clear()
            lane.timers.clear()


def run(
    main: Coroutine[Any, Any, Result],
    *,
    seed: int,
    start_ms: int = START_MS,
    inline_executor: bool = False,
    max_steps: int = STEPS_MAX,
    max_virtual_seconds: float = VIRTUAL_SECONDS_MAX,
    debug: bool | None = None,
) -> Result:
    """Run a coroutine on a fresh VirtualLoop, as asyncio.run would, and return its result.

    At the end every task left is cancelled and may finish in virtual time; paused and crashed nodes stay as they are
    and are buried. After a Deadlock or a Runaway nothing more runs. Garbage is collected at fixed steps, so that
    finalizers keep their place in the trace. What is logged meanwhile goes to `on_log`, not to the process's loggers.
    The arguments are those of VirtualLoop.
    """
    if not asyncio.iscoroutine(main):
        raise ValueError(f"a coroutine was expected, not {main!r}")
    if asyncio._get_running_loop() is not None:
        main.close()
        raise RuntimeError("a simulation cannot be run from within a running event loop")
    loop = VirtualLoop(
        seed,
        start_ms=start_ms,
        inline_executor=inline_executor,
        max_steps=max_steps,
        max_virtual_seconds=max_virtual_seconds,
    )
    if debug is not None:
        loop.set_debug(debug)
    collecting = gc.isenabled()
    gc.disable()
    loop._trace.collects_garbage = collecting
    with logs_go_to(loop.note_log):
        try:
            return _run_and_settle(loop, main)
        finally:
            loop.end_all()
            loop.close()
            if collecting:
                gc.enable()


def _run_and_settle(loop: VirtualLoop, main: Coroutine[Any, Any, Result]) -> Result:
    try:
        result = loop.run_until_complete(loop.create_task(main))
    except (Deadlock, Runaway):
        raise
    except BaseException:
        with contextlib.suppress(Deadlock, Runaway):  # the first error is the one to report
            _settle(loop)
        raise
    _settle(loop)
    return result  # type: ignore[no-any-return]


def _settle(loop: VirtualLoop) -> None:
    """Cancel what is left of living nodes, in order of creation, and let it finish."""
    for _ in range(SETTLE_ROUNDS_MAX):
        left = loop.able_tasks()
        if not left:
            break
        for task in left:
            task.cancel()
        try:
            loop.run_until_complete(asyncio.wait(left))
        except Deadlock:
            if not set(left).isdisjoint(loop.able_tasks()):
                raise  # they were cancelled and wait all the same; else their nodes crashed meanwhile
        for task in left:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                loop.call_exception_handler({"message": "a task failed at the end", "exception": error, "task": task})
    loop.run_until_complete(loop.shutdown_asyncgens())
