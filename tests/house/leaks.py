"""The leak check on every test: what a test opens or starts, it closes and ends. A pytest plugin.

* Tasks: what is still pending when an asyncio Runner closes (pytest-asyncio's and `asyncio.run` alike).
* Files: descriptors of this process, compared by what they point to before and after the test.
* Processes: children of this process, dead and unreaped ones too, and orphans that carry this session's mark.
* Threads: new ones that are not daemons.
* The check costs a fraction of a millisecond; only where something is left does it wait, for things that are just
  ending. A test that has failed already is not reported a second time.
"""

import asyncio
import asyncio.runners
import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from typing import Any

import pytest

GRACE_S = float(os.environ.get("UNDERSTUDY_LEAK_GRACE_S", "2"))  # how long something that is just ending may take
POLL_S = 0.005

# Descriptors that the interpreter or a tool opens once, in whichever test comes first, and keeps.
KEPT_OPEN = {
    r"/dev/u?random$": "the interpreter's source of entropy where the kernel has no getrandom",
    r".*/\.coverage[^/]*$": "coverage's own database",
}

# Children that the interpreter starts once and keeps, by their command line.
KEPT_RUNNING = {b"multiprocessing.resource_tracker": "one per process, ends with it"}

MARK_VARIABLE = "UNDERSTUDY_TESTED_BY"
PROCESS_EVENTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"})

FAILED = pytest.StashKey[bool]()


class Session:
    """What this process knows beyond one test: its mark, whether a process was started, who is known to run."""

    def __init__(self) -> None:
        self.mark = f"{os.getpid()}-{time.time_ns()}"
        self.process_started = False
        self.known_pids: set[int] = set()
        self.tasks_left: list[str] = []

    def begin(self) -> None:
        """Mark the environment, so that even an orphan of ours is recognised, and listen to process starts."""
        os.environ[MARK_VARIABLE] = "/".join(filter(None, (os.environ.get(MARK_VARIABLE), self.mark)))
        sys.addaudithook(self._heard)
        original = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]

        def noticing(loop: asyncio.AbstractEventLoop) -> None:
            self.tasks_left.extend(_task_text(one) for one in asyncio.all_tasks(loop) if not one.done())
            original(loop)

        asyncio.runners._cancel_all_tasks = noticing  # type: ignore[attr-defined]

    def _heard(self, event: str, _arguments: object, watched: frozenset[str] = PROCESS_EVENTS) -> None:
        if event in watched:  # a default, since at the interpreter's end the module's names are gone before the hook
            self.process_started = True

    def processes(self) -> dict[int, str]:
        """Return pid and command of our children and orphans that nobody knew before."""
        if not self.process_started and not _has_children():
            return {}
        return {pid: text for pid, text in _processes_of(self.mark).items() if pid not in self.known_pids}


session = Session()


def pytest_configure(config: pytest.Config) -> None:
    """Begin once per process, in an xdist worker as well."""
    if MARK_VARIABLE not in os.environ or session.mark not in os.environ[MARK_VARIABLE]:
        session.begin()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember that a test failed: what it left open then is no news."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture(autouse=True)
def leak_check(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compare what is open before and after the test; being set up first, this is torn down last."""
    session.tasks_left.clear()
    session.known_pids.update(session.processes())  # those of fixtures that outlive this test
    session.process_started = False
    files, threads = open_files(), set(threading.enumerate())
    yield
    left = [] if request.node.stash.get(FAILED, False) else _left(files, threads)
    deadline = time.monotonic() + GRACE_S
    while left and not session.tasks_left and time.monotonic() < deadline:
        threading.Event().wait(POLL_S)
        left = _left(files, threads)
    _end(session.processes())
    session.process_started = False
    if left:
        pytest.fail("the test left behind:\n  " + "\n  ".join(left), pytrace=False)


def _left(files: Counter[str], threads: set[threading.Thread]) -> list[str]:
    left = [f"task {text}: await it, or close the TaskScope that owns it" for text in session.tasks_left]
    new_files = open_files() - files
    left += [
        f"file descriptor {target}" + (f" ({count} times)" if count > 1 else "") + ": close it"
        for target, count in sorted(new_files.items())
        if not any(re.match(pattern, target) for pattern in KEPT_OPEN)
    ]
    left += [f"process {pid} ({text}): end it and wait for it" for pid, text in session.processes().items()]
    left += [
        f"thread {one.name}: join it"
        for one in threading.enumerate()
        if one not in threads and not one.daemon and one.is_alive()
    ]
    return left


def open_files() -> Counter[str]:
    """Count this process's descriptors by what they point to; empty where there is no /proc."""
    targets: Counter[str] = Counter()
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        return targets
    for number in numbers:
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:  # the descriptor of the listing itself
            continue
        targets[target.removesuffix(" (deleted)")] += 1
    return targets


def _task_text(one: asyncio.Task[Any]) -> str:
    stack = one.get_stack(limit=1)
    place = f" at {stack[-1].f_code.co_filename}:{stack[-1].f_lineno}" if stack else ""
    work = one.get_coro()
    return f"{one.get_name()} ({getattr(work, '__qualname__', work)}){place}"


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _processes_of(mark: str) -> dict[int, str]:
    """Look through /proc for children of ours and for processes whose environment carries the mark."""
    own, needle = os.getpid(), mark.encode()
    found: dict[int, str] = {}
    for entry in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        if not entry.isdigit() or int(entry) == own:
            continue
        try:
            state, parent = _read(entry, "stat").rpartition(b") ")[2].split()[:2]
            if int(parent) != own and needle not in _read(entry, "environ"):
                continue
            command = _read(entry, "cmdline").replace(b"\0", b" ").strip()
        except OSError:  # it ended meanwhile, or belongs to somebody else
            continue
        if int(parent) != own and state == b"Z":
            continue  # somebody else's to reap
        if not any(kept in command for kept in KEPT_RUNNING):
            ended = " ended but not waited for" if state == b"Z" else ""
            found[int(entry)] = (command.decode(errors="replace")[:200] or "without a name") + ended
    return found


def _read(pid: str, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()


def _end(stray: dict[int, str]) -> None:
    """End what the test left running, so that the next test does not meet it."""
    for pid in stray:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError, PermissionError):
            continue  # it ended by itself, or it is an orphan and init reaps it
