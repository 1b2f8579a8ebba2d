"""Supervisor: keeps a node alive, within limits. Floor 5.

* A node that stepped down is booted again, as often as that happens.
* A node that ended by a mistake is closed and booted again, the same road as at any start; too many times within a
  window, or by a fault of its store, and it is given up.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from engine.base.log import logger
from engine.base.tasks import TaskScope
from engine.ports import Clock, StoreFault

RESTARTS_MAX = 5
WINDOW_MS = 60_000

log = logger("supervisor")


class SteppedDown(Exception):
    """A node of a pair acts no more, as its rules ask for; it is booted again, and that is no mistake of anybody."""


class Node(Protocol):
    """What can be supervised."""

    async def close(self, reason: str = ...) -> None: ...


N = TypeVar("N", bound=Node)
Boot = Callable[[Callable[[BaseException], None]], Coroutine[Any, Any, N]]


class Supervisor(Generic[N]):
    """One node, booted again when it ends by itself."""

    def __init__(
        self,
        name: str,
        boot: Boot[N],
        clock: Clock,
        on_given_up: Callable[[BaseException], None],
        restarts_max: int = RESTARTS_MAX,
    ) -> None:
        """`boot` is given the callback by which the node says that it ended, and returns the running node."""
        self.name = name
        self.node: N | None = None
        self.restarts = 0
        self._boot = boot
        self._clock = clock
        self._on_given_up = on_given_up
        self._restarts_max = restarts_max
        self._ended: asyncio.Future[BaseException]  # why the present node ended; its first word counts
        self._recent: deque[int] = deque()
        self._closing: asyncio.Task[None] | None = None
        self._scope = TaskScope(f"supervisor of {name}", on_given_up)
        self._closings = TaskScope(f"closings of {name}", on_given_up)

    async def start(self) -> None:
        """Boot the node for the first time; what fails now is raised, not retried."""
        await self._begin()
        self._scope.start(self._watch(), "watch")

    async def close(self, reason: str = "it was closed") -> None:
        """End the node and stop watching; safe to call twice."""
        await self._scope.close()
        if self._closing is not None:
            await asyncio.wait([self._closing])  # of a node that ended before; to break it off would leave half of it
        node, self.node = self.node, None
        if node is not None:
            await node.close(reason)

    async def _begin(self) -> None:
        ended = self._ended = asyncio.get_running_loop().create_future()

        def told(error: BaseException) -> None:
            if not ended.done():
                ended.set_result(error)

        self.node = await self._boot(told)

    async def _watch(self) -> None:
        while True:
            error = await self._ended
            node, self.node = self.node, None
            if node is not None:
                self._closing = self._closings.start(node.close(str(error)), "close")
                await asyncio.wait([self._closing])
            if not self._may_restart(error):
                self._on_given_up(error)
                return
            self.restarts += 1
            log.warning("node restarts", node=self.name, error=str(error), restarts=self.restarts)
            try:
                await self._begin()
            except Exception as failure:  # noqa: BLE001 - counted, and raised to the owner in the end
                if not self._ended.done():
                    self._ended.set_result(failure)

    def _may_restart(self, error: BaseException) -> bool:
        if isinstance(error, StoreFault):
            return False
        if isinstance(error, SteppedDown):
            return True
        now_ms = self._clock.monotonic_ms()
        self._recent.append(now_ms)
        while self._recent and self._recent[0] < now_ms - WINDOW_MS:
            self._recent.popleft()
        return len(self._recent) <= self._restarts_max
