"""Leases at the guard: what has one ends with it, whatever became of its owner or of the guard itself.

Most tests run the guard inside the test, with a clock that they move; the processes are real.

Tests: engine/jobs/guard.py, engine/jobs/guard_host.py, engine/jobs/guard_launch.py
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.jobs import guard as script
from engine.jobs import guard_host
from engine.jobs.guard_launch import put_in_order
from engine.runtime.real_clock import RealClock
from tests.jobs.test_guard_records import OPTIONS, Counted, Inside, recorded
from tests.support.guarding import WAIT_S_MAX, alive, appears, environment, gone, shell, watching

GRACE_MS, MARGIN_MS = 300, 50
STUBBORN = "trap '' TERM; echo up > {up}; while :; do sleep 0.01; done"


class Clock:
    """The guard's clock, moved by hand."""

    def __init__(self) -> None:
        self.now_ms = script.now_ms() + 60_000  # ahead: a process is known by a birth not later than its record

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    one = Clock()
    monkeypatch.setattr(script, "now_ms", one)
    return one


@pytest.fixture
def guard(tmp_path: Path, clock: Clock) -> Iterator[Inside]:
    mask = os.umask(0o022)
    os.umask(mask)
    inside = Inside(str(tmp_path), OPTIONS)
    yield inside
    os.umask(mask)
    close(inside)


def close(inside: Inside) -> None:
    inside.selector.close()
    for file in (inside.habits["stdin"], inside.folder, inside.log):
        os.close(file)


def ask(guard: Inside, key: str, text: str, until_ms: int | None, **more: Any) -> None:
    request = {
        "key": key,
        "folder": f"at/{key}",
        "argv": ["/bin/sh", "-c", text],
        "environment": environment(),
        "directory": "/",
        "script": None,
        "timeout_ms": -1,
        "kill_delay_ms": 3_600_000,
        "output_bytes_max": 1_000,
        "lease_until_ms": until_ms,
        "lease_grace_ms": GRACE_MS,
        "lease_margin_ms": MARGIN_MS,
    }
    guard.start(request | more)


def until_file(path: Path) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not path.exists():
        assert time.monotonic() < deadline


def begun(guard: Inside, tmp_path: Path, key: str, until_ms: int | None, text: str = STUBBORN) -> script.Job:
    """Start a job that ignores TERM, and wait until it does."""
    ask(guard, key, text.format(up=tmp_path / f"{key}.up"), until_ms)
    guard.until(key, "started")
    until_file(tmp_path / f"{key}.up")
    return guard.jobs[key]


def end_of(guard: Inside, clock: Clock, key: str) -> list[Any]:
    """Turn until a job has ended, time passing meanwhile; returns its last report."""
    deadline = time.monotonic() + WAIT_S_MAX
    while True:
        for row in guard.turn():
            if row[0] == key and row[1] in {"ended", "lost"}:
                return row
        clock.now_ms += 1
        assert time.monotonic() < deadline


def test_term_goes_out_before_the_deadline_and_kill_a_grace_later(guard: Inside, clock: Clock, tmp_path: Path) -> None:
    until_ms = clock.now_ms + 10_000
    job = begun(guard, tmp_path, "a", until_ms)
    clock.now_ms = until_ms - GRACE_MS - MARGIN_MS - 1
    guard.turn()
    assert (job.phase, job.told) == (script.RUNNING, False)
    clock.now_ms += 1
    guard.turn()
    assert (job.phase, job.told, job.kill_ms) == (script.DYING, True, until_ms - MARGIN_MS)
    clock.now_ms = until_ms - MARGIN_MS - 1
    guard.turn()
    assert alive(job.pid)
    clock.now_ms += 1
    row = end_of(guard, clock, "a")
    assert (row[4], row[5]) == (-signal.SIGKILL, "fenced")
    assert "its lease ran out" in row[6]


def test_a_grant_raises_the_deadline_and_an_old_one_shortens_nothing(
    guard: Inside, clock: Clock, tmp_path: Path
) -> None:
    first_ms = clock.now_ms + 10_000
    job = begun(guard, tmp_path, "a", first_ms)
    guard.obey("lease", ["a", "unknown"], first_ms + 5_000)
    guard.obey("lease", ["a"], first_ms + 1_000)
    clock.now_ms = first_ms + 4_000
    guard.turn()
    assert job.phase == script.RUNNING
    clock.now_ms = first_ms + 5_000
    assert end_of(guard, clock, "a")[5] == "fenced"


def test_a_grant_that_comes_too_late_brings_nothing_back(guard: Inside, clock: Clock, tmp_path: Path) -> None:
    until_ms = clock.now_ms + 10_000
    job = begun(guard, tmp_path, "a", until_ms)
    clock.now_ms = until_ms - GRACE_MS - MARGIN_MS  # the guard has not looked yet
    guard.obey("lease", ["a"], until_ms + 60_000)
    guard.turn()
    assert job.phase == script.DYING
    guard.obey("lease", ["a"], until_ms + 60_000)
    clock.now_ms = until_ms
    end_of(guard, clock, "a")


def test_what_has_no_lease_gets_none(guard: Inside, clock: Clock, tmp_path: Path) -> None:
    job = begun(guard, tmp_path, "a", None)
    guard.obey("lease", ["a"], clock.now_ms + 1)
    clock.now_ms += 3_000_000
    guard.turn()
    assert job.phase == script.RUNNING
    guard.obey("kill", "a", True)
    end_of(guard, clock, "a")


def test_what_waits_until_its_lease_is_over_is_not_begun(guard: Inside, clock: Clock, tmp_path: Path) -> None:
    ask(guard, "a", f"touch {tmp_path}/began", clock.now_ms + GRACE_MS + MARGIN_MS)
    row = end_of(guard, clock, "a")
    assert (row[3], row[4], row[5]) == (0, -signal.SIGTERM, "fenced")
    assert not (tmp_path / "began").exists()


def test_a_kill_with_a_long_delay_ends_with_the_lease(guard: Inside, clock: Clock, tmp_path: Path) -> None:
    until_ms = clock.now_ms + 10_000
    job = begun(guard, tmp_path, "a", until_ms)
    guard.obey("kill", "a", False)
    guard.turn()
    assert job.kill_ms > until_ms
    guard.obey("lease", ["a"], until_ms + 1_000)  # its delay is an hour: it may be ended so late only with leases
    clock.now_ms = until_ms
    guard.turn()
    assert alive(job.pid)
    clock.now_ms = until_ms + 1_000
    assert end_of(guard, clock, "a")[5] == "killed"


def test_what_a_job_left_behind_ends_with_the_lease_too(guard: Inside, clock: Clock, tmp_path: Path) -> None:
    """The main process obeys TERM, and its child does not."""
    until_ms = clock.now_ms + 10_000
    child = f"( {STUBBORN.format(up=tmp_path / 'a.up')} ) & echo $! > {tmp_path}/child; wait"
    job = begun(guard, tmp_path, "a", until_ms, text=child)
    guard.obey("kill", "a", False)
    deadline = time.monotonic() + WAIT_S_MAX
    while not job.gone:
        guard.turn()
        assert time.monotonic() < deadline
    left = int((tmp_path / "child").read_text())
    assert alive(left)
    clock.now_ms = until_ms - MARGIN_MS
    end_of(guard, clock, "a")
    assert not alive(left)


# --- the record file --------------------------------------------------------------------------------------------------


def leases_in(folder: Path) -> list[list[Any]]:
    return [record for record in recorded(folder) if record[0] == "lease"]


def test_the_first_deadline_is_durable_with_the_start_and_later_ones_are_not_synced(
    guard: Inside, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    until_ms = clock.now_ms + 10_000
    ask(guard, "a", "exec sleep 60", until_ms)
    counted = Counted(os.fdatasync)
    monkeypatch.setattr(os, "fdatasync", counted)
    guard.obey("lease", ["a"], until_ms + 1)  # it is not begun yet: nothing to be written
    assert recorded(tmp_path) == []
    guard.until("a", "started")
    assert counted.count == 1
    guard.obey("lease", ["a"], until_ms + 1_000)
    assert counted.count == 1
    assert leases_in(tmp_path) == [
        ["lease", "a", until_ms + 1, GRACE_MS, MARGIN_MS],
        ["lease", "a", until_ms + 1_000, GRACE_MS, MARGIN_MS],
    ]
    guard.obey("kill", "a", True)
    end_of(guard, clock, "a")


def test_compaction_keeps_the_last_deadline(guard: Inside, clock: Clock, tmp_path: Path) -> None:
    until_ms = clock.now_ms + 10_000
    ask(guard, "a", "exec sleep 60", until_ms)
    guard.until("a", "started")
    for more_ms in range(1, 50):
        guard.obey("lease", ["a"], until_ms + more_ms)
    guard.write(b"".join(guard.image()), anew=True)
    assert leases_in(tmp_path) == [["lease", "a", until_ms + 49, GRACE_MS, MARGIN_MS]]
    guard.obey("kill", "a", True)
    end_of(guard, clock, "a")


def test_the_next_guard_takes_the_deadline_over(guard: Inside, clock: Clock, tmp_path: Path) -> None:
    until_ms = clock.now_ms + 10_000
    job = begun(guard, tmp_path, "a", until_ms)
    guard.obey("lease", ["a"], until_ms + 1_000)
    assert put_in_order(guard.folder, OPTIONS["boot"], 0) == []  # type: ignore[arg-type]
    following = Inside(str(tmp_path), OPTIONS)
    following.recover()
    adopted = following.jobs["a"]
    assert adopted.fence_ms == until_ms + 1_000 - GRACE_MS - MARGIN_MS
    assert adopted.adopted
    clock.now_ms = until_ms
    following.turn()
    assert alive(job.pid)
    clock.now_ms = until_ms + 1_000 - MARGIN_MS
    following.turn()
    end_of(guard, clock, "a")  # its child; the next guard only sees that it is gone
    assert end_of(following, clock, "a")[1] == "lost"
    close(following)


def test_a_job_whose_first_deadline_is_damaged_does_not_run_on(guard: Inside, clock: Clock, tmp_path: Path) -> None:
    begun(guard, tmp_path, "a", clock.now_ms + 10_000)
    log = tmp_path / "guard.log"
    lines = log.read_bytes().split(b"\n")
    damaged = [line.replace(b"lease", b"leasf") if b'"lease"' in line else line for line in lines]
    assert damaged != lines
    log.write_bytes(b"\n".join(damaged))
    (fault,) = put_in_order(guard.folder, OPTIONS["boot"], 0)  # type: ignore[arg-type]
    assert "damaged" in fault
    assert [record[0] for record in recorded(tmp_path)] == ["guard", "start"], "without its pid it is ended, then lost"
    guard.obey("kill", "a", True)
    end_of(guard, clock, "a")


def test_with_a_later_deadline_it_does(guard: Inside, clock: Clock, tmp_path: Path) -> None:
    until_ms = clock.now_ms + 10_000
    begun(guard, tmp_path, "a", until_ms)
    guard.obey("lease", ["a"], until_ms + 1_000)
    log = tmp_path / "guard.log"
    log.write_bytes(log.read_bytes().replace(b'"lease"', b'"leasf"', 1))
    put_in_order(guard.folder, OPTIONS["boot"], 0)  # type: ignore[arg-type]
    assert [record[0] for record in recorded(tmp_path)] == ["guard", "start", "pid", "lease"]
    guard.obey("kill", "a", True)
    end_of(guard, clock, "a")


# --- the whole of it --------------------------------------------------------------------------------------------------


async def test_a_job_without_another_lease_is_ended_and_one_with_leases_runs_on(tmp_path: Path) -> None:
    clock = RealClock()
    async with watching(tmp_path) as watch:
        until_ms = clock.monotonic_ms() + 1_000
        lease = {"lease_until_ms": until_ms, "lease_grace_ms": 300, "lease_margin_ms": 100}
        watch.host.start(shell("a", "exec sleep 60", **lease))
        watch.host.start(shell("b", "exec sleep 60", **lease))
        await watch.started("a", "b")
        watch.host.lease(["b"], until_ms + 3_600_000)
        [report] = await watch.until("a")
        assert (report.kind, report.cause) == ("ended", "fenced")
        assert clock.monotonic_ms() >= until_ms - 400
        watch.host.kill("b", now=True)
        [report] = await watch.until("b")
        assert report.cause == "killed", "the other one had a lease"


async def test_a_guard_that_begins_behind_a_killed_one_keeps_the_deadlines(tmp_path: Path) -> None:
    clock = RealClock()
    async with watching(tmp_path / "s") as watch:
        until_ms = clock.monotonic_ms() + 2_000
        text = STUBBORN.format(up=tmp_path / "up")
        lease = {"lease_until_ms": until_ms, "lease_grace_ms": 300, "lease_margin_ms": 100}
        watch.host.start(shell("a", text, **lease))
        [started] = await watch.started("a")
        await appears(tmp_path / "up")
        os.kill(watch.host.guard_pid, signal.SIGKILL)
        [report] = await watch.until("a")
        assert report.kind == "lost", "the guard that would have seen its end was killed"
        await gone(started.pid)


async def test_a_guard_too_old_for_leases_gets_no_leased_job(tmp_path: Path) -> None:
    """It says nothing of leases when it is ready, and would start the job as if it had none."""
    old = guard_host._decode(json.dumps({"ready": 1, "version": 1}).encode())
    assert not old.leases
    async with watching(tmp_path) as watch:
        assert watch.host._leases, "the present one does"
        watch.host._leases = old.leases
        [report] = await watch.run(shell("a", "true", lease_until_ms=RealClock().monotonic_ms() + 60_000))
        assert report.kind == "refused"
        assert "too old to end a job with its lease" in report.sentence
        [report] = await watch.run(shell("b", "true"))
        assert report.kind == "ended"


async def test_nor_does_it_while_its_connection_is_being_made_anew(tmp_path: Path) -> None:
    """What was taken on then would be sent to it as soon as it listens again, and it would run without a lease."""
    async with watching(tmp_path) as watch:
        wire, watch.host._wire, watch.host._leases = watch.host._wire, None, False
        watch.host.start(shell("a", "true", lease_until_ms=RealClock().monotonic_ms() + 60_000))
        assert not watch.host._unanswered
        watch.host._wire = wire
        [report] = await watch.until("a")
        assert report.kind == "refused"
