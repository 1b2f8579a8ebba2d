"""PythonCalls: runs the callables of python jobs, sync ones in the world's threads, async ones as tasks. Floor 4.

* Whatever a callable does (raise, exit, return what can not be kept) is its attempt's outcome and nobody else's.
* What it returns is checked where it ran and copied, so that neither its size nor a later change of it does harm.
* Each attempt is told ended once. One that has not begun by its timeout, or is killed before, never begins.
* A callable that goes on after its timeout or a kill is given up as unknown: nothing here can end it.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from engine.base.log import logger
from engine.base.tasks import TaskScope
from engine.jobs.python import CallableFault, PythonJob, find_callable, is_async, results_of, sentence_of
from engine.model.job import Start
from engine.model.outcome import SUCCEEDED, Outcome, OutcomeKind, failed, unknown
from engine.ports import World

CLOSE_MS_MAX = 5_000  # for async callables to end when the node does; then they are left to themselves

Ended = Callable[[str, Outcome, dict[str, Any]], None]

_TIMED_OUT = Outcome(OutcomeKind.TIMED_OUT, None, "it ran longer than its timeout")
_KILLED = Outcome(OutcomeKind.KILLED, None, "it was cancelled on request")
_NEVER_BEGAN = "it did not begin: every thread for callables was busy"

log = logger("callables")


class _Call:
    """One attempt, until it is told ended."""

    __slots__ = ("kill_delay_ms", "stopping", "task", "ticket", "timer")

    def __init__(self, kill_delay_ms: int) -> None:
        self.kill_delay_ms = kill_delay_ms
        self.ticket = [None]  # whoever takes it decides: the thread that begins, or the loop that gives up before
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.stopping: Outcome | None = None  # it was asked to end: what that makes of it

    def claim(self) -> bool:
        try:
            self.ticket.pop()
        except IndexError:
            return False
        return True


class PythonCalls:
    """The callables that one subagent runs."""

    def __init__(self, world: World, known: Mapping[str, Callable[..., Any]], ended: Ended) -> None:
        """`known`: callables by name, looked at for each attempt; others are imported."""
        self._world = world
        self._known = known
        self._imported: dict[str, Callable[..., Any]] = {}
        self._ended = ended
        self._calls: dict[str, _Call] = {}
        self._scope = TaskScope(f"callables of {world.node}", self._failed)
        self._closing = False

    def __contains__(self, key: str) -> bool:
        return key in self._calls

    def begin(self, start: Start, job: PythonJob) -> None:
        """Run an attempt; `ended` is called when it has ended, or nothing more will be known of it."""
        call = self._calls[start.key] = _Call(start.kill_delay_ms)
        if start.timeout_ms is not None:
            self._arm(call, start.timeout_ms, partial(self._overdue, start.key))
        function = self._known.get(job.python) or self._imported.get(job.python)
        if function is not None:
            self._run(start, call, function)
            return

        def found(function: Any, error: BaseException | None) -> None:
            if error is not None:
                self._settle(start.key, None, error)
            else:
                self._imported[job.python] = function
                self._run(start, call, function)

        # Importing is somebody's program too: it may take long, or end in sys.exit.
        self._apart(start.key, find_callable, {"path": job.python, "known": {}}, found)

    def kill(self, key: str) -> None:
        """End an attempt: an async callable is cancelled; a thread gets the kill delay to return by itself."""
        call = self._calls.get(key)
        if call is not None and call.stopping is None:
            self._ask_to_end(key, call, _KILLED, call.kill_delay_ms)

    async def close(self) -> None:
        """Cancel async callables and wait for them, within bounds; nothing is told ended any more."""
        self._closing = True
        for call in self._calls.values():
            if call.timer is not None:
                call.timer.cancel()
        self._calls.clear()
        try:
            async with asyncio.timeout(CLOSE_MS_MAX / 1_000):
                await self._scope.close()  # those that were given up before are among its tasks
        except TimeoutError:
            log.warning("async callables do not end when they are cancelled", count=len(self._scope))

    # --- running ------------------------------------------------------------------------------------------------------

    def _run(self, start: Start, call: _Call, function: Callable[..., Any]) -> None:
        if self._calls.get(start.key) is not call:
            return  # it was given up meanwhile
        if is_async(function):
            if call.claim():
                call.task = self._scope.start(self._await(start, call, function), start.key)
                call.task.add_done_callback(partial(self._unheard, start.key, call))
            return
        arguments = {"call": call, "function": function, "arguments": start.arguments}
        self._apart(start.key, _called, arguments, partial(self._settle, start.key))

    def _apart(
        self,
        key: str,
        function: Callable[..., Any],
        arguments: Mapping[str, Any],
        done: Callable[[Any, BaseException | None], None],
    ) -> None:
        try:
            self._world.call(function, arguments, done)
        except Exception as error:  # noqa: BLE001 - no thread is to be had, or the world is revoked: it never began
            self._settle(key, None, error)

    async def _await(self, start: Start, call: _Call, function: Callable[..., Any]) -> None:
        try:
            results = results_of(await function(**start.arguments))
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - sys.exit in a callable must not end the program around us
            if self._closing:
                return
            if isinstance(error, asyncio.CancelledError) and call.stopping is not None:
                self._tell(start.key, call.stopping, {})
            else:
                self._settle(start.key, None, error)
        else:
            self._settle(start.key, results, None)

    def _unheard(self, key: str, call: _Call, _task: "asyncio.Task[None]") -> None:
        """Tell the end of one that was cancelled before it took its first step."""
        if self._calls.get(key) is call:
            self._tell(key, call.stopping or _KILLED, {})

    # --- stopping -----------------------------------------------------------------------------------------------------

    def _arm(self, call: _Call, delay_ms: int, then: Callable[[], None]) -> None:
        if call.timer is not None:
            call.timer.cancel()
        call.timer = asyncio.get_running_loop().call_later(delay_ms / 1_000, then)

    def _overdue(self, key: str) -> None:
        call = self._calls[key]
        self._ask_to_end(key, call, _TIMED_OUT, 0 if call.task is None else call.kill_delay_ms)

    def _ask_to_end(self, key: str, call: _Call, outcome: Outcome, delay_ms: int) -> None:
        call.stopping = outcome
        if call.task is not None:
            call.task.cancel()
        elif call.claim():
            sentence = outcome.message if outcome is _KILLED else _NEVER_BEGAN
            self._tell(key, Outcome(outcome.kind, None, sentence), {})
            return
        if delay_ms == 0:
            self._give_up(key, outcome)
        else:
            self._arm(call, delay_ms, partial(self._give_up, key, outcome))

    def _give_up(self, key: str, outcome: Outcome) -> None:
        self._tell(key, unknown(f"{outcome.message}, and goes on: a callable inside this process can not be ended"), {})

    # --- endings ------------------------------------------------------------------------------------------------------

    def _settle(self, key: str, results: dict[str, Any] | None, error: BaseException | None) -> None:
        if error is None:
            if results is not None:  # else it was given up before it began
                self._tell(key, SUCCEEDED, results)
        elif key in self._calls:
            if not isinstance(error, CallableFault):
                log.note("callable failed", attempt=key, exc_info=error)
            self._tell(key, failed(str(error) if isinstance(error, CallableFault) else sentence_of(error)), {})

    def _tell(self, key: str, outcome: Outcome, results: dict[str, Any]) -> None:
        call = self._calls.pop(key, None)
        if call is not None:
            if call.timer is not None:
                call.timer.cancel()
            self._ended(key, outcome, results)

    def _failed(self, error: BaseException) -> None:
        log.error("a callable's task failed", error=sentence_of(error))


def _called(call: _Call, function: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Run a callable in its thread, and check there what it returned."""
    if not call.claim():
        return None
    returned = function(**arguments)
    if asyncio.iscoroutine(returned):
        returned.close()
    return results_of(returned)
