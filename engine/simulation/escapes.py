"""forbid_escapes: while it is active, simulated code that reaches for the real world gets an Escape. Floor 10.

* Only code of nodes is refused (NODE is set), and only in the thread that entered; tests, pytest and the environment go
  on unhindered. What a module does while it is imported is let through, and so are `logging` and the test tools.
* Everything is put back on exit, whatever happened inside; entering again inside is allowed.
* Not caught, so lint has to: `datetime.now` and `date.today` (methods of C types cannot be replaced), names taken
  before by `from time import time`, `random.Random()` without a seed, files, and calls made by C code itself.
"""

import contextlib
import functools
import importlib
import random
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from engine.simulation.loop_nodes import NODE
from engine.simulation.loop_refusals import ESCAPES_KEPT_MAX, Escape

__all__ = ["Escape", "forbid_escapes"]

_CLOCK = "use world.clock.now_ms() or world.clock.monotonic_ms()"
_SLEEP = "use asyncio.sleep, which waits in virtual time"
_CHANCE = "use world.jitter(span_ms), which the seed decides"
_ID = "use world.new_id(), which the seed decides"
_NETWORK = "use world.transport(url), whose connections the simulation can delay, lose and cut"
_THREAD = "use a task of a TaskScope; blocking functions go through world.call"
_PROCESS = "use world.process_host(), whose processes the simulation can crash and lose"

# What is refused: where it lives, the names, what to use instead. Names this Python does not have are passed over.
REFUSED: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("time", ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"), _CLOCK),
    ("time", ("clock_gettime", "clock_gettime_ns"), _CLOCK),
    ("time", ("sleep",), _SLEEP),
    ("random", tuple(name for name in random.__all__ if name[0].islower()), _CHANCE),
    ("secrets", ("choice", "randbelow", "randbits", "token_bytes", "token_hex", "token_urlsafe"), _CHANCE),
    ("uuid", ("uuid1", "uuid4", "uuid6", "uuid7"), _ID),
    ("os", ("urandom", "getrandom"), _CHANCE),
    ("os", ("fork", "forkpty", "system", "posix_spawn", "posix_spawnp"), _PROCESS),
    ("subprocess.Popen", ("__init__",), _PROCESS),
    ("socket.socket", ("__init__",), _NETWORK),
    ("socket", ("socketpair", "create_connection", "create_server", "fromfd"), _NETWORK),
    ("socket", ("getaddrinfo", "gethostbyname", "gethostbyaddr", "getnameinfo"), _NETWORK),
    ("threading.Thread", ("start",), _THREAD),
)
# Callers let through: they write down times of their own, or watch the test from inside a node's callback.
TRUSTED_CALLERS = frozenset(
    {"logging", "_pytest", "pytest", "pytest_timeout", "pluggy", "hypothesis", "xdist", "execnet"}
)

_lock = threading.Lock()
_active: dict[int, list[list[str]]] = {}  # thread → what each forbid_escapes entered in it has caught
_originals: list[tuple[Any, str, Any]] = []  # what is put back by the last one that leaves


@contextlib.contextmanager
def forbid_escapes() -> Iterator[list[str]]:
    """Refuse the real world to the code of nodes until the block is left.

    The list it gives fills with one sentence per escape, also those whose error the code swallowed: assert that it is
    empty at the end.
    """
    caught: list[str] = []
    thread = threading.get_ident()
    with _lock:
        if not _active:
            _install()
        _active.setdefault(thread, []).append(caught)
    try:
        yield caught
    finally:
        with _lock:
            entered = _active[thread]
            entered[:] = [other for other in entered if other is not caught]
            if not entered:
                del _active[thread]
            if not _active:
                _restore()


def _install() -> None:
    try:
        for owner_name, names, instead in REFUSED:
            owner = _find(owner_name)
            for name in names:
                if name in vars(owner):
                    original = vars(owner)[name]
                    _originals.append((owner, name, original))
                    setattr(owner, name, _guard(f"{owner_name}.{name}", original, instead, isinstance(owner, type)))
    except BaseException:
        _restore()
        raise


def _restore() -> None:
    while _originals:
        setattr(*_originals.pop())


def _find(name: str) -> Any:
    module_name, _, attribute = name.partition(".")
    module = importlib.import_module(module_name)
    return getattr(module, attribute) if attribute else module


def _guard(name: str, original: Callable[..., Any], instead: str, is_method: bool) -> Any:
    shown = name.removesuffix(".__init__")
    if not is_method:
        return _Function(shown, original, instead)

    @functools.wraps(original)
    def method(*args: Any, **options: Any) -> Any:
        if NODE.get() and threading.get_ident() in _active:
            _refuse(shown, instead, sys._getframe(1))
        return original(*args, **options)

    return method


class _Function:
    """A guarded function; an object, because a class that keeps it must not turn it into a method: C ones are not."""

    def __init__(self, shown: str, original: Callable[..., Any], instead: str) -> None:
        functools.update_wrapper(self, original)
        self._shown, self._original, self._instead = shown, original, instead

    def __call__(self, *args: Any, **options: Any) -> Any:
        if NODE.get() and threading.get_ident() in _active:
            _refuse(self._shown, self._instead, sys._getframe(1))
        return self._original(*args, **options)


def _refuse(shown: str, instead: str, caller: FrameType) -> None:
    """Raise Escape unless the caller may do this."""
    code = caller.f_code
    if code.co_name == "<module>" or str(caller.f_globals.get("__name__")).partition(".")[0] in TRUSTED_CALLERS:
        return
    while caller.f_back is not None and caller.f_globals.get("__name__") == shown.partition(".")[0]:
        caller = caller.f_back  # subprocess.run calls subprocess.Popen: the one to name is who called run
    place = f"{caller.f_code.co_qualname} ({caller.f_code.co_filename}:{caller.f_lineno})"
    sentence = f"{shown} leaves the simulation, called by node {NODE.get()} in {place}: {instead}"
    for caught in _active.get(threading.get_ident(), ()):
        if len(caught) < ESCAPES_KEPT_MAX:
            caught.append(sentence)
    raise Escape(sentence)
