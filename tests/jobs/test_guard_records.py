"""The guard's record file: what a disk that fails may and may not do to starts and endings. The guard runs in the test.

Tests: engine/jobs/guard.py, engine/jobs/guard_launch.py
"""

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.jobs import guard as script
from engine.jobs.guard_launch import put_in_order
from tests.support.guarding import environment

OPTIONS = {"boot": "this-boot", "linger_ms": 60_000, "reserve_bytes": 0, "running_max": 100, "compact_bytes": 1 << 20}


class Inside(script.Guard):
    """A guard without a loop: the test makes its turns. Other children of this process are none of its business."""

    free_bytes = 1 << 40

    def orphans(self) -> list[int]:
        return []

    def turn(self) -> list[list[Any]]:
        """One turn without hearing; returns what it would tell."""
        now = script.now_ms()
        for step in (self.reap, self.commit, self.spawn, self.look, self.sweep):
            step(now)
        rows, self.rows = self.rows, []
        return rows

    def until(self, key: str, *kinds: str) -> list[list[Any]]:
        """Turn until a key has a report of one of these kinds; returns all reports on the way."""
        rows: list[list[Any]] = []
        deadline = time.monotonic() + 60
        while not any(row[0] == key and row[1] in kinds for row in rows):
            assert time.monotonic() < deadline, rows
            rows += self.turn()
        return rows

    def ask(self, key: str, text: str) -> None:
        self.start(
            {
                "key": key,
                "folder": f"at/{key}",
                "argv": ["/bin/sh", "-c", text],
                "environment": environment(),
                "directory": "/",
                "script": None,
                "timeout_ms": -1,
                "kill_delay_ms": 5_000,
                "output_bytes_max": 1_000,
            }
        )


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Inside]:
    mask = os.umask(0o022)
    os.umask(mask)
    inside = Inside(str(tmp_path), OPTIONS)
    yield inside
    os.umask(mask)
    inside.selector.close()
    for file in (inside.habits["stdin"], inside.folder, inside.log):
        os.close(file)


def failing(call: Callable[..., Any], times: int) -> Callable[..., Any]:
    """The call as it would be on a disk that fails so many times."""
    left = times

    def replaced(*arguments: Any, **more: Any) -> Any:
        nonlocal left
        left -= 1
        if left >= 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return call(*arguments, **more)

    return replaced


class Counted:
    """A call that is counted."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call, self.count = call, 0

    def __call__(self, *arguments: Any) -> Any:
        self.count += 1
        return self.call(*arguments)


def recorded(folder: Path) -> list[list[Any]]:
    return [json.loads(line[9:]) for line in (folder / "guard.log").read_bytes().splitlines()]


def test_a_start_that_is_not_durable_does_not_begin(
    guard: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fdatasync", failing(os.fdatasync, 1))
    guard.ask("a", f"touch {tmp_path}/began")
    rows = guard.turn()
    assert [row[:2] for row in rows] == [["a", "refused"]]
    assert "Input/output error" in rows[0][6]
    for _ in range(50):
        guard.turn()
    assert not (tmp_path / "began").exists()
    guard.ask("a", f"touch {tmp_path}/began")
    assert [row[:2] for row in guard.turn()] == [["a", "refused"]], "the key is used up"


def test_an_ending_that_is_not_durable_is_not_told(guard: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    guard.ask("a", "exit 3")
    assert [row[:2] for row in guard.until("a", "started")] == [["a", "started"]]
    synced = Counted(os.fdatasync)
    monkeypatch.setattr(os, "fdatasync", failing(synced, 3))
    rows = guard.until("a", "ended")
    assert [row[:2] for row in rows] == [["a", "ended"]]
    assert synced.count == 1, "told after the first sync that succeeded"


def test_after_a_failed_sync_the_file_is_written_anew(
    guard: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.fstat(guard.log).st_ino
    guard.ask("early", "exit 0")
    guard.until("early", "ended")
    monkeypatch.setattr(os, "fdatasync", failing(os.fdatasync, 2))
    guard.ask("refused", "exit 0")
    guard.turn()
    guard.ask("late", "exit 0")
    assert [row[:2] for row in guard.turn()] == [["late", "refused"]]
    guard.ask("last", "exit 0")
    guard.until("last", "ended")
    assert os.fstat(guard.log).st_ino != before
    assert not (tmp_path / "guard.log.new").exists()
    kinds = {record[1]: record[2] for record in recorded(tmp_path) if record[0] == "end"}
    assert kinds == {"early": "ended", "refused": "refused", "late": "refused", "last": "ended"}


@pytest.mark.parametrize("call", ["write", "fdatasync", "rename", "fsync"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_whatever_fails_no_job_runs_twice_or_unrecorded(
    guard: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, times: int
) -> None:
    guard.options = {**OPTIONS, "compact_bytes": 100}
    monkeypatch.setattr(script, "KEY_BYTES", 1)  # so that nearly each turn writes the file anew
    for number in range(12):
        if number == 4:
            monkeypatch.setattr(os, call, failing(getattr(os, call), times))
        guard.ask(f"k{number}", f"echo k{number} >> {tmp_path}/count")
        guard.until(f"k{number}", "ended", "refused")
    monkeypatch.undo()
    ran = (tmp_path / "count").read_text().split()
    assert len(ran) == len(set(ran))
    assert {key for key, row in guard.ended.items() if row[1] == "ended"} == set(ran)
    deadline = time.monotonic() + 60
    while guard.ending:
        assert time.monotonic() < deadline
        guard.turn()
    faults = put_in_order(guard.folder, "this-boot", 0)
    ended = {record[1]: record[2] for record in recorded(tmp_path) if record[0] == "end"}
    assert faults == []
    assert ended == {key: row[1] for key, row in guard.ended.items()}
    assert set(ended) == {f"k{number}" for number in range(12)}


def test_a_record_is_written_before_the_process_begins(guard: Inside, tmp_path: Path) -> None:
    guard.ask("a", f"cat {tmp_path}/guard.log")
    guard.until("a", "ended")
    [line] = (tmp_path / "at" / "a" / "out").read_text().splitlines()[:1]
    assert json.loads(line[9:])[:2] == ["start", "a"]


def test_one_sync_makes_a_whole_batch_durable(guard: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = Counted(os.fdatasync)
    monkeypatch.setattr(os, "fdatasync", synced)
    for number in range(40):
        guard.ask(f"k{number}", "exit 0")
    rows = guard.turn()
    assert synced.count == 1
    assert len(rows) == script.SPAWNS_PER_TURN, "and the others wait for their turn"
    guard.until("k39", "ended")


def test_a_job_wants_no_second_ending_when_it_is_killed_while_its_ending_waits(
    guard: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard.ask("a", "exit 0")
    guard.until("a", "started")
    monkeypatch.setattr(os, "fdatasync", failing(os.fdatasync, 2))
    while "a" not in guard.ending:
        guard.turn()
    guard.obey("kill", "a", True)
    guard.obey("forget", ["a"])
    rows = guard.until("a", "ended")
    assert [(row[1], row[4]) for row in rows] == [("ended", 0)]


def test_an_orphan_that_died_just_now_keeps_endings_back(guard: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "orphans", lambda: [1 << 30])  # it may have left others to us, that are not listed yet
    guard.ask("a", "exit 0")
    guard.until("a", "started")
    while not guard.jobs["a"].gone:
        assert guard.turn() == []
    assert guard.turn() == []
    assert guard.ending == {}
    monkeypatch.setattr(guard, "orphans", list)
    guard.until("a", "ended")
