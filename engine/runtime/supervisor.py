"""Supervisor: keeps a node alive, within limits. Floor 5.

* A node that ended by a mistake is closed and booted again, the same road as at any start; too many times within a
  window, or by a fault of its store, and it is given up.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from engine.base.log import logger
from engine.base.tasks import TaskScope
from engine.ports import Clock, StoreFault

RESTARTS_MAX = 5
WINDOW_MS = 60_000

log = logger("supervisor")


class Node(Protocol):
    """What can be supervised."""

    async def close(self, reason: str = ...) -> None: ...


N = TypeVar("N", bound=Node)
Boot = Callable[[Callable[[BaseException], None]], Awaitable[N]]


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
        self._ended: asyncio.Queue[BaseException] = asyncio.Queue()
        self._recent: deque[int] = deque()
        self._scope = TaskScope(f"supervisor of {name}", on_given_up)

    async def start(self) -> None:
        """Boot the node for the first time; what fails now is raised, not retried."""
        self.node = await self._boot(self._ended.put_nowait)
        self._scope.start(self._watch(), "watch")

    async def close(self, reason: str = "it was closed") -> None:
        """End the node and stop watching; safe to call twice."""
        await self._scope.close()
        if self.node is not None:
            await self.node.close(reason)

    async def _watch(self) -> None:
        while True:
            error = await self._ended.get()
            if self.node is not None:
                await self.node.close(str(error))
                self.node = None
            if not self._may_restart(error):
                self._on_given_up(error)
                return
            self.restarts += 1
            log.warning("node restarts", node=self.name, error=str(error), restarts=self.restarts)
            try:
                self.node = await self._boot(self._ended.put_nowait)
            except Exception as failure:  # noqa: BLE001 - counted, and raised to the owner in the end
                self._ended.put_nowait(failure)

    def _may_restart(self, error: BaseException) -> bool:
        if isinstance(error, StoreFault):
            return False
        now_ms = self._clock.monotonic_ms()
        self._recent.append(now_ms)
        while self._recent and self._recent[0] < now_ms - WINDOW_MS:
            self._recent.popleft()
        return len(self._recent) <= self._restarts_max
