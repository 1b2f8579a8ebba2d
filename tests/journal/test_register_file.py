"""A register's file: whose it is, damage, a full disk, failing system calls, kill -9, power cuts.

Tests: engine/journal/register_file.py
"""

import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from engine.journal.lock import lock_directory
from engine.journal.register import SqliteRegister, open_sqlite_register
from engine.journal.register_file import FILE_NAME
from engine.journal.sqlite_thread import inline_place
from engine.ports import StoreFault
from tests.journal.crashes import acked, environment
from tests.journal.power import TRACED, Disk, parse
from tests.journal.register_script import CLUSTER
from tests.journal.register_script import owned as expected_at
from tests.journal.registers import owned
from tests.journal.test_syscalls import why_not

SCRIPT = str(Path(__file__).with_name("register_script.py"))
KILLS = 12
UPTO = 25
FLIPS = 150


def command(folder: Path, upto: int, *more: str) -> list[str]:
    return [sys.executable, SCRIPT, str(folder), str(upto), *more]


async def opened(folder: Path) -> SqliteRegister:
    """Open without a thread: one that a failing test does not close would keep the whole run from ending."""
    return await open_sqlite_register(str(folder), dial=inline_place)


async def epoch_kept(folder: Path, lines: list[str]) -> int:
    """The epoch in a folder: whole, not below what was answered, at most one above; and it can go on."""
    answered = acked(lines)
    register = await opened(folder)
    try:
        value = await register.read(CLUSTER)
        if value is None:
            assert answered == 0
            return 0
        assert value == expected_at(value.epoch)
        assert answered <= value.epoch <= answered + 1, f"{answered} was answered, {value.epoch} is there"
        assert await register.cas(value, expected_at(value.epoch + 1)) == expected_at(value.epoch + 1)
        return value.epoch + 1
    finally:
        await register.close()


async def made(folder: Path, *epochs: int) -> Path:
    """A register with two clusters, closed."""
    register = await opened(folder)
    await register.create(owned(1))
    await register.create(owned(1, "b", "ab", cluster="other"))
    for epoch in epochs:
        await register.seed(owned(epoch))
    await register.close()
    return folder / FILE_NAME


async def refusal(folder: Path) -> str:
    with pytest.raises(StoreFault) as fault:
        await opened(folder)
    lock_directory(str(folder)).release()  # the folder was given back
    return str(fault.value)


# --- what is not opened


async def test_the_folder_belongs_to_one_process(tmp_path: Path) -> None:
    register = await opened(tmp_path / "r")
    with pytest.raises(StoreFault, match="is in use by this very process"):
        await opened(tmp_path / "r")
    await register.close()
    await (await opened(tmp_path / "r")).close()


@pytest.mark.parametrize("content", [b"hello", b"x" * 5_000, b"\x00" * 5_000])
async def test_a_foreign_file_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(content)
    assert re.search("is not a register of ours|is damaged", await refusal(tmp_path))
    assert path.read_bytes() == content


async def test_somebody_elses_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE register (cluster)")
    before = path.read_bytes()
    assert "is an SQLite file, but not a register of ours" in await refusal(tmp_path)
    assert path.read_bytes() == before


async def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    assert "is not a register of ours" in await refusal(tmp_path)


async def test_a_newer_version_is_refused_with_both_numbers(tmp_path: Path) -> None:
    path = await made(tmp_path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 7")
    assert "has version 7, this program knows versions up to 1" in await refusal(tmp_path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 0")
    assert "lost the version" in await refusal(tmp_path)


async def test_a_row_that_is_not_what_was_written_is_named(tmp_path: Path) -> None:
    for change in ("epoch = 9", "nonce = 'x'", "insync = '[]'", "insync = x'ff'", "digest = x''", "owner = 'b'"):
        path = await made(tmp_path)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute(f"UPDATE register SET {change} WHERE cluster = 'pair'")
        assert re.search(r"is damaged \(the row of 'pair' ", await refusal(tmp_path)), change
        path.unlink()


async def test_a_row_damaged_while_it_is_open_ends_the_register(tmp_path: Path) -> None:
    path = await made(tmp_path)
    register = await opened(tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE register SET epoch = 9 WHERE cluster = 'pair'")
    for _ in range(2):
        with pytest.raises(StoreFault, match="the row of 'pair'"):
            await register.read("pair")
    with pytest.raises(StoreFault, match="the row of 'pair'"):
        await register.read("other")
    assert register.fault is not None
    await register.close()


async def test_an_emptied_file_beside_a_log_with_values_is_damage(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    killed(folder, 20)
    whole = (folder / FILE_NAME).read_bytes()
    (folder / FILE_NAME).write_bytes(b"")
    assert "it is empty or gone" in await refusal(folder)
    (folder / FILE_NAME).unlink()
    assert "it is empty or gone" in await refusal(folder)
    (folder / FILE_NAME).write_bytes(whole)
    await (await opened(folder)).close()


async def test_flipped_bits_are_told_or_change_nothing(tmp_path: Path) -> None:
    """A register that is opened says what was written, or None for a cluster it never had; never another value."""
    path = await made(tmp_path / "sound", 5, 6)
    whole, draw, refused = path.read_bytes(), random.Random(3), 0
    folder = tmp_path / "flipped"
    folder.mkdir()
    for _ in range(FLIPS):
        place = draw.randrange(len(whole)) if draw.random() < 0.5 else len(whole) - 1 - draw.randrange(300)
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << draw.randrange(8)
        (folder / FILE_NAME).write_bytes(spoilt)
        try:
            register = await opened(folder)
        except StoreFault:
            refused += 1
        else:
            assert await register.read("pair") == owned(6)
            assert await register.read("other") == owned(1, "b", "ab", cluster="other")
            await register.close()
        for left in folder.iterdir():
            left.unlink()
    assert refused > FLIPS // 5


async def test_damage_in_the_middle_of_the_log_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    killed(folder, 20)
    log = folder / f"{FILE_NAME}-wal"
    spoilt = bytearray(log.read_bytes())
    spoilt[32 + 5 * (24 + 4_096) + 100] ^= 1
    log.write_bytes(spoilt)
    assert "write-ahead log has a damaged frame" in await refusal(folder)
    assert log.read_bytes() == spoilt


async def test_another_program_that_holds_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.journal.sqlite_write.BUSY_MS_MAX", 50)
    path = await made(tmp_path)
    register = await opened(tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreFault, match="is held by another program"):
            await register.cas(owned(1), owned(2))
        other.execute("ROLLBACK")
    with pytest.raises(StoreFault, match="is held by another program"):
        await register.read("pair")
    await register.close()


# --- what is answered is kept


def killed(folder: Path, epoch: int) -> None:
    """Leave what a process leaves that was killed when it had answered an epoch; its log was never carried over."""
    process = subprocess.Popen(command(folder, 10**9, "1000000"), stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdout is not None
    while f"acked {epoch}" not in process.stdout.readline():
        pass
    process.kill()
    process.communicate()


async def test_what_is_read_after_a_kill_is_in_the_file_itself_before_it_is_answered(tmp_path: Path) -> None:
    """The log of a killed process may hold what was never fsynced; who has read it must not see it vanish."""
    folder = tmp_path / "r"
    killed(folder, 20)
    assert (folder / f"{FILE_NAME}-wal").stat().st_size > 20 * 4_096
    register = await opened(folder)
    left_bytes = (folder / f"{FILE_NAME}-wal").stat().st_size
    value = await register.read(CLUSTER)
    await register.close()
    assert left_bytes == 0
    assert value is not None
    assert value.epoch >= 20


@pytest.mark.slow
async def test_nothing_answered_is_lost_by_kill_9(ram_path: Path) -> None:
    folder, draw, epoch = ram_path / "r", random.Random(9), 0
    for _ in range(KILLS):
        process = subprocess.Popen(command(folder, 10**9), stdout=subprocess.PIPE, text=True, env=environment())
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(draw.randint(0, 60))]
        process.kill()  # wherever it is by now
        lines += process.communicate()[0].splitlines()
        assert not [line for line in lines if line.startswith("fault")]
        assert acked(lines[:1]) in {0, epoch, 1}
        epoch = await epoch_kept(folder, lines if acked(lines) else [f"acked {max(epoch, 0)}"])
    assert epoch > 100


@pytest.mark.parametrize("kib", [700, 1_024])
def test_a_full_disk_is_told_and_costs_nothing_that_was_answered(tmp_path: Path, kib: int) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("needs unshare and the right to mount (root)")
    place = tmp_path / "small"
    place.mkdir()
    fills = " ".join(f'"{one}"' for one in command(place / "r", 10**6, "1000000"))
    script = (
        f'mount -t tmpfs -o size={kib}k none "{place}"; cd "{place}"; dd if=/dev/zero of=ballast bs=1k count=400'
        f" 2>/dev/null; {fills} || true; rm ballast; {fills} || true"
    )
    ended = subprocess.run(
        ["unshare", "-m", "sh", "-ec", script],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=True,
    )
    lines = ended.stdout.splitlines()
    assert ended.stderr == ""
    full = [number for number, line in enumerate(lines) if line.startswith("fault ")]
    assert len(full) == 2
    for number in full:
        assert re.fullmatch(r"fault The disk of \S+register\.db is full; .* Free some space and .*", lines[number])
    before, again = acked(lines[: full[0]]), lines[full[0] + 1]
    assert before > 20
    assert again in {f"open {before}", f"open {before + 1}"}
    assert acked(lines) > before + 20


@pytest.fixture
def strace() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.slow
@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("way", ["signal=KILL", "error=EIO", "error=ENOSPC"])
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync", "fsync", "ftruncate"])
async def test_a_system_call_that_kills_or_fails(ram_path: Path, call: str, way: str) -> None:
    told: list[str] = []
    for number in (1, 3, 9, 17):
        folder = ram_path / f"{number}"
        folder.mkdir()
        only = [part for suffix in ("", "-wal", "-journal") for part in ("-P", f"{folder}/{FILE_NAME}{suffix}")]
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:{way}:when={number}"]
        traced = ["strace", "-f", "-qq", "-o", os.devnull, *only, *inject, *command(folder, UPTO)]
        ended = subprocess.run(traced, capture_output=True, text=True, env=environment(), check=False, timeout=60)
        lines = ended.stdout.splitlines()
        told += [line for line in lines[-1:] if line.startswith("fault")]
        assert "Traceback" not in ended.stderr
        await epoch_kept(folder, lines)
    assert all(line.startswith("fault The disk of ") for line in told), told
    if call in {"pwrite64", "fdatasync"}:
        assert bool(told) == (way != "signal=KILL")


@pytest.mark.slow
@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("seed", range(2))
async def test_nothing_answered_is_lost_by_a_power_cut(ram_path: Path, seed: int) -> None:
    folder, log = ram_path / "traced", ram_path / "calls"
    options = ["-f", "-qq", "-xx", "-s", "1000000", "-o", str(log), "-e", f"trace={TRACED}"]
    run = ["strace", *options, *command(folder, UPTO)]
    subprocess.run(run, env=environment(), stdout=subprocess.DEVNULL, check=True, timeout=60)
    with open(log, encoding="ascii") as lines:
        calls = list(parse(lines))
    disk, cuts, wrong = Disk(), 0, []
    for number, call in enumerate(calls):
        if not disk.see(call):
            continue
        cuts += 1
        left = ram_path / "left"
        left.mkdir()
        disk.cut(left, random.Random(f"{number} {seed}"))
        try:
            await epoch_kept(left, [f"acked {disk.acked}"])
        except Exception as error:  # noqa: BLE001 - whatever goes wrong is what we count
            wrong.append(f"behind call {number} ({call.name}): {error!r}")
        shutil.rmtree(left)
    assert disk.acked == UPTO
    assert cuts > 50
    assert not wrong, "\n".join(wrong)
