"""The leak check, tried in a pytest of its own: each test of LEAKY must be reported, each of CLEAN must not.

It runs once without and once with xdist; the short directory is tried in this process.
"""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import ROOT

HEAD = """
import asyncio, os, subprocess, sys, threading
import pytest

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
KEPT = []
"""

LEAKY = """
async def test_task():
    KEPT.append(asyncio.get_running_loop().create_task(asyncio.sleep(600)))
    await asyncio.sleep(0)

def test_task_of_a_run():
    async def main():
        KEPT.append(asyncio.get_running_loop().create_task(asyncio.sleep(600)))
    asyncio.run(main())

def test_file(tmp_path):
    KEPT.append(open(tmp_path / "left-open", "w"))

def test_pipe():
    os.pipe()

def test_loop():
    KEPT.append(asyncio.new_event_loop())

def test_child():
    KEPT.append(subprocess.Popen(SLEEPER))

def test_zombie():
    KEPT.append(subprocess.Popen([sys.executable, "-c", ""]))
    os.waitid(os.P_PID, KEPT[-1].pid, os.WEXITED | os.WNOWAIT)

def test_orphan():
    code = f"import subprocess; subprocess.Popen({SLEEPER!r}, start_new_session=True, stdin=-3, stdout=-3, stderr=-3)"
    subprocess.run([sys.executable, "-c", code], check=True)

def test_thread():
    end = threading.Event()
    KEPT.append(end)
    threading.Thread(target=end.wait, args=(600,), name="left-alone").start()
"""

CLEAN = """
def test_nothing():
    pass

@pytest.fixture
async def worker():
    task = asyncio.get_running_loop().create_task(asyncio.sleep(600))
    yield task
    task.cancel()
    await asyncio.wait([task])

async def test_task_that_its_fixture_ends(worker):
    assert not worker.done()

async def test_process_that_is_waited_for():
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    assert await process.wait() == 0

def test_files_that_are_closed(tmp_path):
    with open(tmp_path / "x", "w") as one, open(tmp_path / "y", "w") as other:
        one.write("x"); other.write("y")

def test_thread_that_is_just_ending():
    thread = threading.Thread(target=lambda: threading.Event().wait(0.05))
    thread.start()

@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    process = subprocess.Popen(SLEEPER)
    with open(tmp_path_factory.mktemp("m") / "lasting", "w") as file:
        yield file
    process.kill()
    process.wait()

def test_what_outlives_the_test(lasting):
    assert not lasting.closed

def test_failed_one_is_not_told_twice(tmp_path):
    KEPT.append(open(tmp_path / "left-by-failed", "w"))
    assert False
"""

EXPECTED = {
    "test_task": r"task \S+ \(sleep\) at \S+:\d+: await it",
    "test_task_of_a_run": r"task \S+ \(sleep\).*: await it",
    "test_file": r"file descriptor \S+/left-open: close it",
    "test_pipe": r"file descriptor pipe:\[\d+\] \(2 times\): close it",
    "test_loop": r"file descriptor anon_inode:\[eventpoll\]: close it",
    "test_child": r"process \d+ \(.*time\.sleep\(600\).*\): end it",
    "test_zombie": r"process \d+ \(.* ended but not waited for\): end it",
    "test_orphan": r"process \d+ \(.*time\.sleep\(600\).*\): end it",
    "test_thread": r"thread left-alone: join it",
}


def _run(folder: Path, text: str, *options: str) -> str:
    """Run a test file under the leak check, in a pytest that knows nothing of this project's settings."""
    (folder / "test_it.py").write_text(HEAD + text)
    (folder / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings =\n"
        "    ignore::ResourceWarning\n    ignore::pytest.PytestUnraisableExceptionWarning\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "tests.house.leaks", "-p", "no:cacheprovider", "--color=no", "-rA"]
    command += [
        "-c",
        str(folder / "pytest.ini"),
        f"--rootdir={folder}",
        f"--basetemp={folder}/t",
        *options,
        str(folder),
    ]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env={**kept, "PYTHONPATH": str(ROOT), "UNDERSTUDY_LEAK_GRACE_S": "0.2"},
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.stdout + ended.stderr


@pytest.mark.parametrize("options", [(), pytest.param(("-n", "2"), marks=pytest.mark.slow)], ids=["alone", "xdist"])
def test_every_kind_of_leak_is_told(tmp_path: Path, options: tuple[str, ...]) -> None:
    output = _run(tmp_path, LEAKY + ENDING, *options)
    errors = dict(re.findall(r"_ ERROR at teardown of (\w+) _+\n(?:\[gw\d\].*\n)?((?:.+\n)+?)(?=_|=)", output))
    assert set(errors) == set(EXPECTED), output
    for name, pattern in EXPECTED.items():
        assert re.search(pattern, errors[name]), f"{name}: {errors[name]}"


# The thread of test_thread would hold the exit of the interpreter.
ENDING = """
@pytest.fixture(scope="session", autouse=True)
def ending():
    yield
    for one in KEPT:
        if isinstance(one, threading.Event):
            one.set()
"""


def test_what_is_closed_in_time_is_not_told(tmp_path: Path) -> None:
    output = _run(tmp_path, CLEAN)
    assert "1 failed, 6 passed" in output, output
    assert "left behind" not in output, output


def test_short_tmp_holds_a_unix_socket(short_tmp: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_tmp / ("s" * 60)))
    (short_tmp / "closed" / "inner").mkdir(parents=True)
    (short_tmp / "closed" / "inner").chmod(0)
    (short_tmp / "closed").chmod(0)
    assert len(str(short_tmp)) < 40
