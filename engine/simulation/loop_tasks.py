"""Tasks and futures with a stable hash, and what becomes of them when a node or the loop ends. Floor 10.

* `hash()` of a task or future made by the loop is its creation number: a set of them iterates alike in every run. On
  Python 3.11 TaskGroup and asyncio.wait iterate such sets.
* Not covered: what is built past the loop (`asyncio.Task(...)`, `asyncio.Future()`, the outer future of asyncio.gather,
  tasks of a factory set by set_task_factory). Do not put those into sets whose order matters.
* Against plain asyncio objects, on CPython 3.11, a future costs 0.3 µs more, a task 1.8 µs.
* Burying runs the `finally` blocks of the dead: once, when the loop is closed, in the dead node's context.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context
from types import FrameType
from typing import Any, TypeVar
from weakref import ref

from engine.simulation.loop_nodes import NODE

BURIALS_MAX = 100  # how often a coroutine may answer its closing by waiting again; then it is kept for good
COMPLAINTS_KEPT_MAX = 1_000  # errors written down while the dead are buried; later ones are dropped
ASYNCGENS_SWEEP_MIN = 64  # as many async generators are remembered before ended ones are swept out
CHAIN_FRAMES_MAX = 100  # depth to which a waiting coroutine is followed

Result = TypeVar("Result")

_undead: list[Any] = []  # coroutines that refuse to end; dropping them would make Python complain from nowhere


class StableFuture(asyncio.Future[Any]):
    """A future whose hash is its creation number."""

    __slots__ = ("serial",)
    serial: int

    def __hash__(self) -> int:
        return self.serial


class StableTask(asyncio.Task[Any]):
    """A task whose hash is its creation number; `home` is the context it runs in, `label` its name in the trace."""

    __slots__ = ("home", "label", "serial")
    serial: int
    home: Context
    label: str

    def __hash__(self) -> int:
        return self.serial


StableFuture.__name__ = "Future"  # asyncio's messages and reprs name the class; they read as in the real world
StableTask.__name__ = "Task"


def new_future(loop: asyncio.AbstractEventLoop, serial: int) -> StableFuture:
    """Make a future; the number goes in first, because asyncio hashes what it makes."""
    future = StableFuture.__new__(StableFuture)
    future.serial = serial
    StableFuture.__init__(future, loop=loop)
    return future


def new_task(
    loop: asyncio.AbstractEventLoop, serial: int, work: Any, name: str | None, context: Context, options: dict[str, Any]
) -> StableTask:
    """Make a task that runs in `context`; unnamed ones are named by their number, so names repeat between runs."""
    task = StableTask.__new__(StableTask)
    task.serial = serial
    task.home = context
    task.label = f"{serial} {getattr(work, '__qualname__', type(work).__qualname__)}"
    StableTask.__init__(task, work, loop=loop, name=name or f"Task-{serial}", context=context, **options)
    return task


def callback_name(callback: Any) -> str:
    """What the trace calls a callback: never an address, the same in every run."""
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, StableTask):
        return owner.label
    while (inner := getattr(callback, "func", None)) is not None:
        callback = inner  # functools.partial
    return getattr(callback, "__qualname__", None) or type(callback).__qualname__


class AsyncGens:
    """The running async generators in the order they began, each with its node; takes the place of asyncio's WeakSet.

    Those of dead nodes stay known, so that nobody closes them, but are not among those iterated.
    """

    def __init__(self, is_dead: Callable[[str], bool]) -> None:
        self._is_dead = is_dead
        self._known: dict[int, tuple[ref[Any], str]] = {}
        self._sweep_at = ASYNCGENS_SWEEP_MIN

    def add(self, agen: Any) -> None:
        """Remember one for the node whose code began it."""
        if len(self._known) >= self._sweep_at:
            self._known = {key: entry for key, entry in self._known.items() if entry[0]() is not None}
            self._sweep_at = max(ASYNCGENS_SWEEP_MIN, 2 * len(self._known))
        self._known.pop(id(agen), None)  # the number of a dead one may come again
        self._known[id(agen)] = (ref(agen), NODE.get())

    def node(self, agen: Any) -> str:
        """The node it belongs to. Asked while it is being finalized, when its weak reference is already dead."""
        return self._known[id(agen)][1] if id(agen) in self._known else ""

    def discard(self, agen: Any) -> None:
        self._known.pop(id(agen), None)

    def clear(self) -> None:
        """Forget those of living nodes."""
        self._known = {key: entry for key, entry in self._known.items() if self._is_dead(entry[1])}

    def __iter__(self) -> Iterator[Any]:
        living = [entry[0]() for entry in self._known.values() if not self._is_dead(entry[1])]
        return iter([agen for agen in living if agen is not None])

    def __len__(self) -> int:
        return sum(1 for _ in self)


def where(task: asyncio.Task[Any]) -> str:
    """Where a task waits: its own function and line, then the innermost one it waits in."""
    frames = list(_frames(task.get_coro()))
    if not frames:
        return "nowhere any more"
    places = [f"{f.f_code.co_qualname} ({_short(f.f_code.co_filename)}:{f.f_lineno})" for f in (frames[0], frames[-1])]
    return places[0] if len(frames) == 1 else " → ".join(places)


def _frames(waiting: Any) -> Iterator[FrameType]:
    for _ in range(CHAIN_FRAMES_MAX):
        for kind in ("cr", "gi", "ag"):
            if (frame := getattr(waiting, f"{kind}_frame", None)) is not None:
                yield frame
                waiting = getattr(waiting, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
                break
        else:
            return


def _short(path: str) -> str:
    return "/".join(path.split("/")[-2:])


def bury(dead: Iterable[StableTask]) -> list[str]:
    """Close the coroutines of dead tasks, in order of creation, and return what they raised.

    Only here do their `finally` blocks run. One that waits again in there is closed again, at most BURIALS_MAX times.
    """
    complaints: list[str] = []
    for task in sorted(dead, key=hash):
        silence(task)
        if not task.done():
            for work in _inside_out(task.get_coro()):
                _close(work, task.home.run, complaints)
    return complaints


def silence(task: asyncio.Task[Any]) -> None:
    """Let a dead task go without the complaints that asyncio has for tasks destroyed or never asked."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    task._log_traceback = False


def _inside_out(work: Any) -> list[Any]:
    """Return a coroutine and those it waits for, the innermost first: one that waits again is closed again, too."""
    chain = []
    while inspect.iscoroutine(work):
        chain.append(work)
        work = work.cr_await
    return chain[::-1] or [work]


def _close(work: Any, run: Callable[..., Any], complaints: list[str]) -> None:
    for _ in range(BURIALS_MAX):
        try:
            run(work.close)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  # a dead node's clean-up may fail in any way; nobody is left to tell
            if len(complaints) < COMPLAINTS_KEPT_MAX:
                complaints.append(f"{getattr(work, '__qualname__', work)}: {error!r}")
        else:
            return
    _undead.append(work)
