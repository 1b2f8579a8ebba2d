"""Escapes are refused to the code of nodes, to nobody else, and everything is put back."""

import asyncio
import contextlib
import importlib
import logging
import os
import random
import secrets
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.simulation.escapes import REFUSED, Escape, _find, forbid_escapes
from engine.simulation.loop import NODE, VirtualLoop, run
from engine.simulation.loop_refusals import ESCAPES_KEPT_MAX

# ruff: noqa: PLW0108  # a lambda looks the name up when it is called; the name itself would be the original
REACHING: dict[str, tuple[Callable[[], object], str]] = {
    "time.time": (lambda: time.time(), "world.clock"),
    "time.time_ns": (lambda: time.time_ns(), "world.clock"),
    "time.monotonic": (lambda: time.monotonic(), "world.clock"),
    "time.perf_counter": (lambda: time.perf_counter(), "world.clock"),
    "time.clock_gettime": (lambda: time.clock_gettime(time.CLOCK_REALTIME), "world.clock"),
    "time.sleep": (lambda: time.sleep(0), "asyncio.sleep"),
    "random.random": (lambda: random.random(), "world.jitter"),
    "random.choice": (lambda: random.choice([1, 2]), "world.jitter"),
    "random.shuffle": (lambda: random.shuffle([1, 2]), "world.jitter"),
    "uuid.uuid1": (lambda: uuid.uuid1(), "world.new_id"),
    "uuid.uuid4": (lambda: uuid.uuid4(), "world.new_id"),
    "os.urandom": (lambda: os.urandom(8), "world.jitter"),
    "secrets.token_hex": (lambda: secrets.token_hex(), "world.jitter"),
    "secrets.randbelow": (lambda: secrets.randbelow(5), "world.jitter"),
    "socket.socket": (lambda: socket.socket(), "world.transport"),
    "socket.socketpair": (lambda: socket.socketpair(), "world.transport"),
    "socket.getaddrinfo": (lambda: socket.getaddrinfo("localhost", 1), "world.transport"),
    "threading.Thread.start": (lambda: threading.Thread(target=int).start(), "TaskScope"),
    "subprocess.Popen": (lambda: subprocess.run(["true"], check=True), "world.process_host"),
    "os.fork": (lambda: os.fork() or os._exit(0), "world.process_host"),
    "os.system": (lambda: os.system("true"), "world.process_host"),
}


@contextlib.contextmanager
def as_node(name: str) -> Iterator[None]:
    token = NODE.set(name)
    try:
        yield
    finally:
        NODE.reset(token)


@pytest.mark.parametrize("name", REACHING)
def test_a_node_that_reaches_for_the_real_world_is_told_what_to_use(name: str) -> None:
    reach, instead = REACHING[name]
    with forbid_escapes() as caught, as_node("agent#3"):
        with pytest.raises(Escape) as refused:
            reach()
        assert instead in str(refused.value)
        assert "node agent#3" in str(refused.value)
    assert caught == [str(refused.value)]
    assert str(refused.value).startswith(f"{name} leaves")
    assert f"{Path(__file__).name}:" in str(refused.value)


@pytest.mark.parametrize(
    "name", [name for name in REACHING if name not in {"os.fork", "socket.socketpair", "socket.socket"}]
)
def test_the_environment_reaches_the_real_world_as_ever(name: str) -> None:
    with forbid_escapes() as caught:
        REACHING[name][0]()
        with socket.socket() as made:
            assert isinstance(made, socket.socket)
    assert caught == []


def test_a_swallowed_escape_is_still_seen() -> None:
    async def node() -> None:
        with contextlib.suppress(Exception):
            time.time()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        await loop.create_task(node(), context=loop.context_of("agent#1"))

    with forbid_escapes() as caught:
        run(main(), seed=1)
    assert len(caught) == 1
    assert "time.time leaves the simulation, called by node agent#1" in caught[0]


def originals() -> dict[tuple[str, str], Any]:
    owners = {owner_name: vars(_find(owner_name)) for owner_name, _, _ in REFUSED}
    return {(owner, name): owners[owner].get(name) for owner, names, _ in REFUSED for name in names}


def test_everything_is_put_back_whatever_happens() -> None:
    before = originals()
    assert len(before) > 40
    with pytest.raises(KeyboardInterrupt), forbid_escapes():
        assert originals() != before
        raise KeyboardInterrupt
    assert originals() == before


def test_a_failure_while_it_is_put_in_place_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = originals()
    monkeypatch.setattr("engine.simulation.escapes.REFUSED", (*REFUSED, ("no_such_module", ("name",), "nothing")))
    with pytest.raises(ModuleNotFoundError), forbid_escapes():
        pytest.fail("entered")
    assert originals() == before
    with as_node("a"):
        time.time()


def test_entering_twice_is_one_ban_until_the_outer_one_is_left() -> None:
    before = originals()
    with forbid_escapes() as outer:
        with forbid_escapes() as inner:
            pass
        with as_node("a"), pytest.raises(Escape):
            time.time()
    assert (len(outer), len(inner)) == (1, 0)
    assert originals() == before


def test_another_thread_is_left_alone_and_may_leave_in_any_order() -> None:
    before = originals()
    entered, leave = threading.Event(), threading.Event()
    seen: list[object] = []

    def other() -> None:
        with as_node("a"):
            seen.append(time.time())  # this thread has forbidden nothing yet
        with forbid_escapes():
            entered.set()
            leave.wait(10)
        seen.append(originals() == before)

    with forbid_escapes():
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(10)
    assert originals() != before  # the other one still needs it
    with as_node("a"):
        time.time()
    leave.set()
    thread.join()
    assert isinstance(seen[0], float)
    assert seen[1] is True


def test_logging_is_let_through(caplog: pytest.LogCaptureFixture) -> None:
    with forbid_escapes() as caught, as_node("a"):
        logging.getLogger("node").warning("says %s", "something")
    assert caught == []
    assert caplog.messages == ["says something"]


def test_what_a_module_does_while_it_is_imported_is_let_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reads_the_clock_at_import.py").write_text(
        "import time\nSTART = time.time()\n\ndef later():\n    return time.time()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with forbid_escapes() as caught, as_node("a"):
        module = importlib.import_module("reads_the_clock_at_import")
        assert module.START > 0
        with pytest.raises(Escape):
            module.later()
    assert len(caught) == 1
    del sys.modules["reads_the_clock_at_import"]


def test_a_function_kept_by_a_class_does_not_become_a_method() -> None:
    with forbid_escapes():

        class Stopwatch:
            clock: Any = time.monotonic

        assert Stopwatch().clock() > 0
        assert time.monotonic.__name__ == "monotonic"


def test_the_list_of_escapes_is_bounded() -> None:
    with forbid_escapes() as caught, as_node("a"):
        for _ in range(ESCAPES_KEPT_MAX + 50):
            with pytest.raises(Escape):
                time.time()
    assert len(caught) == ESCAPES_KEPT_MAX


def test_a_whole_simulation_runs_under_it() -> None:
    """asyncio itself needs none of what is refused."""

    async def node() -> int:
        queue: asyncio.Queue[int] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            group.create_task(queue.put(7))
            group.create_task(asyncio.sleep(1))
        async with asyncio.timeout(5):
            return await asyncio.wait_for(queue.get(), 1)

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        tasks = [loop.create_task(node(), context=loop.context_of(f"n{number}")) for number in range(3)]
        return [await task for task in tasks]

    with forbid_escapes() as caught:
        assert run(main(), seed=1, debug=True) == [7, 7, 7]
    assert caught == []
