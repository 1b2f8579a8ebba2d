"""Calls: runs people's blocking functions in daemon threads and brings the results back in batches. Floor 5.

* Threads are daemons: a function that never returns keeps no process alive, and its slot stays taken.
* Results that are ready together cost the loop one wake-up together.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any

THREADS_MAX = 32

Done = Callable[[Any, BaseException | None], None]


class Calls:
    """A pool of threads that grows with the work, up to a bound."""

    def __init__(self, name: str, threads_max: int = THREADS_MAX) -> None:
        self._name = name
        self._threads_max = threads_max
        self._work: SimpleQueue[tuple[Callable[..., Any], Mapping[str, Any], Done] | None] = SimpleQueue()
        self._results: deque[tuple[Done, Any, BaseException | None]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._threads = 0
        self._open = 0
        self._is_woken = False
        self._closed = False

    def submit(self, function: Callable[..., Any], arguments: Mapping[str, Any], done: Done) -> None:
        """Run a function; `done(result, error)` is called in the loop that submitted it."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        if self._threads <= self._open and self._threads < self._threads_max:
            name = f"{self._name}-call-{self._threads + 1}"
            threading.Thread(target=self._run, name=name, daemon=True).start()  # may fail: then nothing was taken
            self._threads += 1
        self._open += 1
        self._work.put((function, arguments, done))

    def _run(self) -> None:
        while True:
            item = self._work.get()
            if item is None:
                return
            function, arguments, done = item
            result, error = None, None
            try:
                result = function(**arguments)
            except BaseException as raised:  # noqa: BLE001 - it is handed to the caller
                error = raised
            self._results.append((done, result, error))
            del item, function, arguments, done, result, error
            self._wake()

    def _wake(self) -> None:
        with self._lock:
            if self._is_woken or self._closed or self._loop is None:
                return
            self._is_woken = True
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            return  # the loop has ended; nobody waits any more

    def _deliver(self) -> None:
        with self._lock:
            self._is_woken = False
        for _ in range(len(self._results)):
            done, result, error = self._results.popleft()
            self._open -= 1
            if self._closed:
                continue
            try:
                done(result, error)
            except BaseException:
                if self._results:
                    self._wake()  # the others have not done anything wrong
                raise

    def close(self) -> None:
        """Let idle threads end; running functions are abandoned and their results dropped."""
        with self._lock:
            self._closed = True
        for _ in range(self._threads):
            self._work.put(None)
