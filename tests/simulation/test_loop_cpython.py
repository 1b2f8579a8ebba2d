"""CPython's own asyncio tests, run with the virtual loop in the place of asyncio's.

They run in a process of their own: they set event loop policies, leave warnings behind and count on default filters.
There, the default policy makes VirtualLoops, the loop with a time generator that CPython's tests use (TestLoop) becomes
one, and so does BaseEventLoop where the base loop itself is under test. What is excluded is excluded by name.
"""

import asyncio
import importlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from engine.simulation.loop import VirtualLoop
from engine.simulation.loop_nodes import NS_PER_SECOND

MODULES = (
    "test_tasks",
    "test_futures",
    "test_futures2",
    "test_locks",
    "test_queues",
    "test_timeouts",
    "test_taskgroups",
    "test_waitfor",
    "test_runners",
    "test_pep492",
    "test_context",
    "test_staggered",  # 3.13 on
    "test_eager_task_factory",  # 3.12 on
)
CLASSES = {  # of modules that mostly test sockets and selectors, these alone
    "test_base_events": ("BaseEventLoopTests", "RunningLoopTests"),
    "test_events": ("HandleTests",),
}
SELECTOR = "looks at calls of the selector; there is none"
INSIDE = "looks at the base loop's own heap of timers; ours are kept by node"
THREADS = "needs a real thread; that is an Escape here"
BARE = "calls _run_once of a loop with nothing to do: asyncio would sleep in its selector, here it is a Deadlock"
EXCLUDED = {  # by the end of the test's id
    "RunCoroutineThreadsafeTests.test_run_coroutine_threadsafe": THREADS,
    "RunCoroutineThreadsafeTests.test_run_coroutine_threadsafe_task_cancelled": THREADS,
    "RunCoroutineThreadsafeTests.test_run_coroutine_threadsafe_task_factory_exception": THREADS,
    "RunCoroutineThreadsafeTests.test_run_coroutine_threadsafe_with_exception": THREADS,
    "RunCoroutineThreadsafeTests.test_run_coroutine_threadsafe_with_timeout": THREADS,
    ".test_stop_while_run_in_complete": "expects its generator to move the clock after the loop has stopped",
    "BaseEventLoopTests.test_check_thread": THREADS,
    "BaseEventLoopTests.test_asyncgen_finalization_by_gc_in_other_thread": THREADS,
    "BaseEventLoopTests.test_set_default_executor": THREADS,
    "BaseEventLoopTests.test_set_default_executor_error": THREADS,
    "BaseEventLoopTests.test_shutdown_default_executor_timeout": THREADS,
    "BaseEventLoopTests.test_call_later": INSIDE,
    "BaseEventLoopTests.test__run_once_cancelled_event_cleanup": INSIDE,
    "BaseEventLoopTests.test__run_once_schedule_handle": BARE,
    "BaseEventLoopTests.test__run_once": BARE,
    "BaseEventLoopTests.test_custom_run_forever_integration": BARE,
    "BaseEventLoopTests.test_not_implemented": SELECTOR,
    "BaseEventLoopTests.test_run_forever_pre_stopped": SELECTOR,
    "BaseEventLoopTests.test_single_selecter_event_callback_after_stopping": SELECTOR,
}
RAN_MIN = 1_300  # 1,328 on Python 3.11, 1,409 on 3.12, 1,482 on 3.13: running too little would prove too little
RAN_ON_VIRTUAL_LOOP_MIN = 1_000  # 1,069, 1,139 and 1,211; the others need no running loop
SECONDS_MAX = 280  # it takes half a minute of a processor, which others may be using too

POLICY: Any = getattr(importlib.import_module("asyncio.unix_events"), "_UnixDefaultEventLoopPolicy", None)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(importlib.util.find_spec("test") is None, reason="this Python comes without its `test` package")
@pytest.mark.skipif(not hasattr(POLICY, "_loop_factory"), reason="this Python has no default policy to be replaced")
def test_cpythons_own_asyncio_tests_pass(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    if importlib.util.find_spec("test.test_asyncio") is None:
        pytest.skip("this Python's `test` package comes without test_asyncio")
    report_path = tmp_path / "report.json"
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, str(report_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONASYNCIODEBUG": ""},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert report_path.exists(), ended.stdout + ended.stderr
    report = json.loads(report_path.read_text())
    assert report["broken"] == []
    assert report["ran"] >= RAN_MIN
    assert report["ran_on_virtual_loop"] >= RAN_ON_VIRTUAL_LOOP_MIN
    for key in ("ran", "ran_on_virtual_loop", "excluded", "skipped_by_cpython", "loops", "steps"):
        record_property(key, report[key])
        print(f"{key}: {report[key]}")


# --- the process that runs them -------------------------------------------------------------------------------------

_seeds = itertools.count()
_loops: list[int] = [0, 0]  # made, steps


class CountedLoop(VirtualLoop):
    """A VirtualLoop with the next seed, which takes no arguments and is counted."""

    def __init__(self) -> None:
        super().__init__(next(_seeds))
        _loops[0] += 1

    def _step(self, lane: Any) -> None:
        _loops[1] += 1
        super()._step(lane)


class GeneratorLoop(CountedLoop):
    """In the place of CPython's TestLoop: its generator still checks each timer set, but time moves by itself."""

    def __init__(self, generator: Callable[[], Iterator[Any]] | None = None) -> None:
        super().__init__()
        self._generator: Any = generator() if generator is not None else None
        self._timers_seen: list[float] = []
        if self._generator is not None:
            next(self._generator)

    def _set_timer(self, when_ns: int, when: float, *rest: Any) -> asyncio.TimerHandle:
        self._timers_seen.append(when)
        return super()._set_timer(when_ns, when, *rest)

    def _run_once(self) -> None:
        super()._run_once()
        seen, self._timers_seen = self._timers_seen, []
        if self._generator is not None:
            for when in seen:
                self._generator.send(when)

    def advance_time(self, seconds: float) -> None:
        self._now += round(seconds * NS_PER_SECOND)

    def close(self) -> None:
        super().close()
        if self._generator is not None:
            try:
                self._generator.send(0)
            except StopIteration:
                return
            raise AssertionError("fewer timers were set than the test's generator expects")


class CountingResult(unittest.TextTestResult):
    """Counts the tests whose callbacks went through a virtual loop."""

    on_virtual_loop = 0

    def startTest(self, test: unittest.TestCase) -> None:
        self._steps_before = _loops[1]
        super().startTest(test)

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        CountingResult.on_virtual_loop += _loops[1] > self._steps_before


def _single_tests(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from _single_tests(test)
        else:
            yield test


def _load(module_name: str) -> list[unittest.TestCase]:
    try:
        module = importlib.import_module(f"test.test_asyncio.{module_name}")
    except ModuleNotFoundError:
        return []
    tests = _single_tests(unittest.defaultTestLoader.loadTestsFromModule(module))
    classes = CLASSES.get(module_name)
    return [test for test in tests if classes is None or type(test).__name__ in classes]


def _run_suite(tests: list[unittest.TestCase], report: dict[str, Any], excluded: dict[str, list[str]]) -> None:
    chosen = unittest.TestSuite()
    for test in tests:
        end = next((end for end in EXCLUDED if test.id().endswith(end)), None)
        if end is None:
            chosen.addTest(test)
        else:
            excluded.setdefault(end, []).append(test.id())
    counting: Any = CountingResult
    outcome = unittest.TextTestRunner(verbosity=0, resultclass=counting, warnings="ignore").run(chosen)
    report["ran"] += outcome.testsRun - len(outcome.skipped)
    report["skipped_by_cpython"] += len(outcome.skipped)
    report["broken"] += [f"{test.id()}: {text}" for test, text in outcome.failures + outcome.errors]
    report["broken"] += [f"{test.id()}: unexpected success" for test in outcome.unexpectedSuccesses]


def main(report_path: Path) -> None:
    utils: Any = importlib.import_module("test.test_asyncio.utils")
    base_events: Any = importlib.import_module("asyncio.base_events")
    utils.TestLoop = GeneratorLoop
    POLICY._loop_factory = CountedLoop
    report: dict[str, Any] = {"ran": 0, "skipped_by_cpython": 0, "broken": []}
    excluded: dict[str, list[str]] = {}
    for module_name in MODULES:
        _run_suite(_load(module_name), report, excluded)
    tests = [test for module_name in CLASSES for test in _load(module_name)]
    base_events.BaseEventLoop = CountedLoop
    _run_suite(tests, report, excluded)
    report["excluded"] = {end: [len(ids), EXCLUDED[end]] for end, ids in excluded.items()}
    report.update(ran_on_virtual_loop=CountingResult.on_virtual_loop, loops=_loops[0], steps=_loops[1])
    report_path.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
