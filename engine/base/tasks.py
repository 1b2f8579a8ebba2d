"""TaskScope: the one place where asyncio tasks are made, kept and ended. Floor 0.

* A task is referenced until it ends (asyncio itself keeps none), and no scope closes before its tasks have ended.
* A task that fails tells the scope's owner at once; nothing fails in silence.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class TaskScope:
    """Tasks of one owner: started here, cancelled and awaited by `close`."""

    def __init__(self, name: str, on_failure: Callable[[BaseException], None]) -> None:
        self.name = name
        self._on_failure = on_failure
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._closed = False

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start a coroutine as a task of this scope; after `close` it is refused with RuntimeError."""
        if self._closed:
            work.close()
            raise RuntimeError(f"task scope {self.name} is closed; {name} was not started")
        started = asyncio.get_running_loop().create_task(work, name=f"{self.name}:{name}")
        self._tasks[started] = None
        started.add_done_callback(self._ended)
        return started

    def _ended(self, ended: asyncio.Task[Any]) -> None:
        self._tasks.pop(ended, None)
        if not ended.cancelled() and (error := ended.exception()) is not None:
            self._on_failure(error)

    def __len__(self) -> int:
        return len(self._tasks)

    async def close(self) -> None:
        """Cancel all tasks but the caller's own and wait until they have ended; safe to call twice."""
        self._closed = True
        current = asyncio.current_task()
        while pending := [one for one in self._tasks if one is not current]:
            for one in pending:
                one.cancel()
            await asyncio.wait(pending)
