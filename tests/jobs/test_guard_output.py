"""The guard bounds what jobs write, and loses nothing on a full disk.

Tests: engine/jobs/guard.py
"""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.jobs.guard_launch import reap
from tests.support.guarding import alive, gone, shell, spec, watching

LIMIT = 100_000
MARK = f"\n[cut here: more than {LIMIT} bytes]\n".encode()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = os.geteuid() == 0 and shutil.which("mount")
    command = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", str(place)]
    if not mounted or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)  # lazily: a killed job may be on its way out


def fill(disk: Path) -> Path:
    """Leave not a byte free."""
    path = disk / "filler"
    with open(path, "ab", 0) as file:
        for size in (1 << 20, 4_096, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    return path


async def test_output_beyond_the_limit_is_cut_with_a_mark(tmp_path: Path) -> None:
    async with watching(tmp_path) as watch:
        text = f"head -c {3 * LIMIT} /dev/zero; head -c {LIMIT} /dev/zero >&2"
        [report] = await watch.run(shell("a", text, output_bytes_max=LIMIT))
        assert (report.return_code, report.cause) == (0, "exited")
        assert watch.out("a") == bytes(LIMIT) + MARK
        assert watch.out("a", "err") == bytes(LIMIT), "exactly the limit is not too much"
        assert (report.out_bytes, report.err_bytes) == (LIMIT + len(MARK), LIMIT)


async def test_output_is_cut_while_the_job_runs(tmp_path: Path) -> None:
    gate = tmp_path / "go"
    os.mkfifo(gate)
    async with watching(tmp_path / "s") as watch:
        text = f"head -c {2 * LIMIT} /dev/zero; read x < {gate}; echo the end"
        watch.host.start(shell("a", text, output_bytes_max=LIMIT))
        await watch.started("a")
        path = Path(watch.host.path("at/a/out"))
        while path.stat().st_size != LIMIT + len(MARK):
            await asyncio.sleep(0)
        with open(os.open(gate, os.O_RDWR), "wb", buffering=0) as opened:
            opened.write(b"x\n")
            await watch.until("a")
        assert watch.out("a") == bytes(LIMIT) + MARK


async def test_a_job_that_prints_without_end_is_killed(tmp_path: Path) -> None:
    async with watching(tmp_path) as watch:
        [report] = await watch.run(spec("a", "yes", output_bytes_max=LIMIT))
        assert (report.return_code, report.cause) == (-9, "output")
        assert "the limit being 100000" in report.sentence
        assert watch.out("a") == (b"y\n" * LIMIT)[:LIMIT] + MARK


async def test_a_job_that_writes_steadily_is_killed_at_ten_times_the_limit(tmp_path: Path) -> None:
    async with watching(tmp_path) as watch:
        text = "while :; do head -c 1000 /dev/zero >&2; sleep 0.001; done"
        [report] = await watch.run(shell("a", text, output_bytes_max=10_000))
        assert report.cause == "output"
        assert report.err_bytes < 11_000


async def test_a_start_is_refused_when_the_disk_is_nearly_full(tmp_path: Path) -> None:
    async with watching(tmp_path, reserve_bytes=1 << 60) as watch:
        [report] = await watch.run(spec("a", "true"))
        assert report.kind == "refused"
        assert "MiB are free on the disk of the state directory" in report.sentence
    async with watching(tmp_path) as watch:
        assert [one.kind for one in watch.all] == ["refused"]


async def test_who_writes_is_killed_when_the_disk_is_nearly_full_and_who_does_not_is_not(small_disk: Path) -> None:
    async with watching(small_disk, reserve_bytes=2 << 20) as watch:
        watch.host.start(spec("quiet", "sleep", "1000"))
        [report] = await watch.run(shell("a", "while :; do head -c 100000 /dev/zero; sleep 0.01; done"))
        assert (report.return_code, report.cause) == (-9, "disk")
        assert "nearly full" in report.sentence
        watch.host.kill("quiet")
        [report] = await watch.until("quiet")
        assert report.cause == "killed"


async def test_an_ending_waits_until_the_disk_takes_it(small_disk: Path, tmp_path: Path) -> None:
    gate = tmp_path / "go"
    os.mkfifo(gate)
    async with watching(small_disk, reserve_bytes=0) as watch:
        watch.host.start(shell("a", f"read x < {gate}; exit 5"))
        await watch.started("a")
        filler = fill(small_disk)
        keys = [f"k{number}" for number in range(100)]
        for key in keys:  # some of their records may still find room in the file's last page
            watch.host.start(spec(key, "true"))
        [report] = await watch.until(keys[-1])
        assert "the guard's record file can not be written" in report.sentence
        with open(os.open(gate, os.O_RDWR), "wb", buffering=0) as opened:
            opened.write(b"x\n")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.6):
                    await watch.until("a")
        filler.unlink()
        [report] = await watch.until("a")
        assert (report.kind, report.return_code) == ("ended", 5)
        [report] = await watch.run(spec("later", "true"))
        assert report.kind == "ended"
    async with watching(small_disk) as watch:
        kinds = {one.key: one.kind for one in watch.all}
        assert (kinds["a"], kinds["later"]) == ("ended", "ended")
        assert {kinds[key] for key in keys} == {"refused"}


async def test_a_start_is_refused_when_the_state_directory_is_gone(tmp_path: Path) -> None:
    state = tmp_path / "s"
    async with watching(state) as watch:
        [report] = await watch.run(spec("a", "true"))
        assert report.kind == "ended"
        shutil.rmtree(state)
        [report] = await watch.run(spec("b", "true"))
        assert report.kind == "refused"
        assert "it was removed" in report.sentence
    assert not state.exists()
    await gone(watch.host.guard_pid)
    reap()


async def test_a_guard_whose_state_directory_is_gone_stays_with_its_jobs_and_no_longer(tmp_path: Path) -> None:
    state = tmp_path / "s"
    async with watching(state) as watch:
        watch.host.start(spec("a", "sleep", "1000"))
        [report] = await watch.started("a")
        shutil.rmtree(state)
    assert alive(watch.host.guard_pid)
    os.kill(report.pid, signal.SIGKILL)
    await gone(watch.host.guard_pid)
    reap()
