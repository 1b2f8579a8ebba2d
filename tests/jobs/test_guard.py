"""The guard runs programs: what they get, what is reported, what is refused. With real processes.

Tests: engine/jobs/guard.py, engine/jobs/guard_host.py
"""

import os
import signal
import stat
from pathlib import Path

import pytest

from engine.base.problem import EngineClosed
from engine.jobs.guard_host import GuardHost
from engine.ports import ProcessHost, ProcessSpec
from tests.support.guarding import WallClock, alive, appears, environment, gone, shell, spec, watching

KEPT_BY_LIBC = {32, 33}  # glibc's own: its posix_spawn (make uses it) leaves them ignored, and nobody may reset them


def signals_set(lines: bytes) -> dict[str, int]:
    """Read `SigBlk: 0000…` lines: name → mask, without the two signals that belong to the C library."""
    words = lines.decode().replace(":", "").split()
    kept = sum(1 << (number - 1) for number in KEPT_BY_LIBC)
    return {name: int(mask, 16) & ~kept for name, mask in zip(words[::2], words[1::2], strict=True)}


async def test_a_program_runs_and_its_end_is_reported(tmp_path: Path) -> None:
    async with watching(tmp_path) as watch:
        [report] = await watch.run(shell("a", "echo to out; echo to err >&2; exit 3"))
        assert (report.kind, report.return_code, report.cause, report.sentence) == ("ended", 3, "exited", "")
        assert (watch.out("a"), watch.out("a", "err")) == (b"to out\n", b"to err\n")
        assert (report.out_bytes, report.err_bytes) == (7, 7)
        assert [one.kind for one in watch.all] == ["started", "ended"]
        assert watch.all[0].pid == report.pid > 0
        assert watch.all[0].at_ms <= report.at_ms


async def test_exit_codes_and_signals_are_exact(tmp_path: Path) -> None:
    async with watching(tmp_path) as watch:
        reports = await watch.run(*(shell(f"code-{code}", f"exit {code}") for code in (0, 1, 2, 127, 128, 255)))
        assert [one.return_code for one in reports] == [0, 1, 2, 127, 128, 255]
        reports = await watch.run(*(shell(f"signal-{n}", f"kill -{n} $$") for n in (1, 9, 11, 15)))
        assert [(one.return_code, one.cause) for one in reports] == [(-n, "exited") for n in (1, 9, 11, 15)]
        assert reports[1].sentence == "it was ended by signal SIGKILL"


async def test_the_environment_is_exactly_the_one_given(tmp_path: Path) -> None:
    given = environment(ODD="a=b\nc", EMPTY="", BYTES=os.fsdecode(b"\xff\xfe"), UNDERSTUDY_FENCE="4294967297")
    async with watching(tmp_path) as watch:
        await watch.run(spec("a", "/usr/bin/env", "-0", environment=given))
        pairs = dict(line.split(b"=", 1) for line in watch.out("a").split(b"\0")[:-1])
        assert pairs == {os.fsencode(name): os.fsencode(value) for name, value in given.items()}


async def test_a_job_inherits_nothing_from_the_guard(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        async with watching(tmp_path) as watch:
            await watch.run(
                shell("shell", "umask; ls /proc/$$/fd; cut -d' ' -f6 /proc/$$/stat; echo $$"),
                spec("signals", "grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"),
            )
            mask_said, *files, session, pid = watch.out("shell").decode().split()
            assert mask_said == "0027"
            assert files == ["0", "1", "2"]
            assert session == pid, "it leads no session of its own"
            assert signals_set(watch.out("signals")) == {"SigBlk": 0, "SigIgn": 0}
    finally:
        os.umask(mask)


async def test_a_job_inherits_no_signal_settings_of_the_owner(tmp_path: Path) -> None:
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    try:
        async with watching(tmp_path) as watch:
            await watch.run(spec("a", "grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"))
            assert signals_set(watch.out("a")) == {"SigBlk": 0, "SigIgn": 0}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGHUP, ignored)


async def test_standard_input_is_empty(tmp_path: Path) -> None:
    async with watching(tmp_path) as watch:
        [report] = await watch.run(spec("a", "cat"))
        assert (report.return_code, watch.out("a")) == (0, b"")


async def test_the_working_directory_is_the_folder_or_the_one_given(tmp_path: Path) -> None:
    async with watching(tmp_path) as watch:
        await watch.run(spec("own", "pwd"), spec("given", "pwd", directory="/usr"))
        assert watch.out("own").decode().strip() == watch.host.path("at/own")
        assert watch.out("given") == b"/usr\n"


async def test_a_script_lies_beside_the_attempt(tmp_path: Path) -> None:
    text = '#!/bin/sh\necho "$1" grüßt\nexit 4\n'
    async with watching(tmp_path) as watch:
        reports = await watch.run(
            spec("read", "/bin/sh", "-e", "{script}", "leser", script=text),
            spec("run", "{script}", "läufer", script=text),
            spec("none", "echo", "{script}"),
        )
        assert [one.return_code for one in reports] == [4, 4, 0]
        assert (watch.out("read").decode(), watch.out("run").decode()) == ("leser grüßt\n", "läufer grüßt\n")
        assert watch.out("none") == b"{script}\n"
        assert Path(watch.host.path("at/read/script")).read_text() == text


async def test_binary_output_arrives_as_it_is(tmp_path: Path) -> None:
    async with watching(tmp_path) as watch:
        [report] = await watch.run(shell("a", r"printf '\000\377\200\r\n'; printf '\303' >&2"))
        assert (watch.out("a"), watch.out("a", "err")) == (b"\0\xff\x80\r\n", b"\xc3")
        assert (report.out_bytes, report.err_bytes) == (5, 1)


async def test_files_are_for_the_owner_only(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with watching(state) as watch:
        await watch.run(spec("a", "/bin/sh", "{script}", script="exit 0"))
        modes = {str(path.relative_to(state)): stat.S_IMODE(path.lstat().st_mode) for path in state.rglob("*")}
    open_to_others = {name: oct(mode) for name, mode in modes.items() if mode & 0o077}
    assert not open_to_others
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert {"at/a/out", "at/a/err", "at/a/script", "guard.log", "guard.socket"} <= set(modes)


@pytest.mark.parametrize(
    "one, why",
    [
        (spec("a", "no-such-program"), "No such file or directory: 'no-such-program'"),
        (spec("a", "no-\udcff"), r"No such file or directory: 'no-\udcff'"),
        (spec("a", "/etc/passwd"), "Permission denied"),
        (spec("a", "true", directory="/no/such/place"), "No such file or directory: '/no/such/place'"),
        (spec("a", "echo", "a\0b"), "null byte"),
        (spec("a", "true", environment={"A=B": "c"}), "illegal environment variable name"),
        (spec("a", "echo", "x" * (1 << 20)), "Argument list too long"),
        (spec("a"), "there is no program"),
        (spec("a", "echo", "x" * (5 << 20)), "at most 4194304"),
        (ProcessSpec("a", ("true",), {}, folder="../outside"), "no folder inside the state directory"),
        (ProcessSpec("a", ("true",), {}, folder="/tmp"), "no folder inside the state directory"),
        (ProcessSpec("a", ("true",), {}, folder="guard.log/x"), "could not be started"),
        (ProcessSpec("a\udc80", ("true",), {}, folder="at/a"), "must be Unicode text"),
    ],
)
async def test_what_can_not_begin_is_refused_with_a_sentence(tmp_path: Path, one: ProcessSpec, why: str) -> None:
    async with watching(tmp_path) as watch:
        [report] = await watch.run(one)
        assert (report.kind, report.pid, report.cause) == ("refused", 0, "")
        assert why in report.sentence
        assert [each.kind for each in watch.all] == ["refused"]


async def test_a_key_is_started_once(tmp_path: Path) -> None:
    again = shell("a", f"echo once >> {tmp_path}/count; exit 5")
    async with watching(tmp_path / "s") as watch:
        for _ in range(3):
            watch.host.start(again)
        await watch.until("a")
        watch.host.start(again)
        [report] = await watch.run(shell("b", "exit 0"))
        assert [one.return_code for one in watch.all if one.key == "a" and one.kind == "ended"] == [5, 5]
    async with watching(tmp_path / "s") as watch:
        assert {one.key: one.kind for one in watch.all} == {"a": "ended", "b": "ended"}
        watch.all.clear()
        [report] = await watch.run(again)
        assert report.return_code == 5
    assert (tmp_path / "count").read_text() == "once\n"


async def test_a_running_key_is_not_started_again(tmp_path: Path) -> None:
    again = shell("a", f"echo once >> {tmp_path}/count; exec sleep 1000")
    async with watching(tmp_path / "s") as watch:
        watch.host.start(again)
        [first] = await watch.started("a")
        watch.all.clear()
        watch.host.start(again)
        [second] = await watch.started("a")
        assert first == second
        await appears(tmp_path / "count")
        watch.host.kill("a", now=True)
        await watch.until("a")
    assert (tmp_path / "count").read_text() == "once\n"


async def test_a_forgotten_key_may_start_again(tmp_path: Path) -> None:
    async with watching(tmp_path) as watch:
        await watch.run(shell("a", "exit 1"))
        watch.host.forget(["a", "never heard of"])
        watch.all.clear()
        [report] = await watch.run(shell("a", "exit 2"))
        assert report.return_code == 2


async def test_kill_sends_term_and_now_sends_kill(tmp_path: Path) -> None:
    async with watching(tmp_path) as watch:
        for key in ("soft", "hard", "graceful"):
            watch.host.start(shell(key, "trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done"))
        watch.host.start(shell("plain", "exec sleep 1000"))
        await watch.started("soft", "hard", "graceful", "plain")
        watch.host.kill("hard", now=True)
        watch.host.kill("plain")
        hard, plain = await watch.until("hard", "plain")
        assert (hard.return_code, hard.cause) == (-signal.SIGKILL, "killed")
        assert (plain.return_code, plain.cause) == (-signal.SIGTERM, "killed")
        for key in ("soft", "graceful"):
            watch.host.kill(key)
        for report in await watch.until("soft", "graceful"):
            assert report.cause == "killed"


async def test_kill_of_an_unknown_key_does_nothing(tmp_path: Path) -> None:
    async with watching(tmp_path) as watch:
        watch.host.kill("a")
        [report] = await watch.run(shell("a", "exit 7"))
        assert (report.return_code, report.cause) == (7, "exited")
        watch.host.kill("a", now=True)
        [report] = await watch.run(shell("b", "exit 0"))
        assert report.return_code == 0


async def test_a_job_killed_before_it_began_ends_without_beginning(tmp_path: Path) -> None:
    async with watching(tmp_path / "s") as watch:
        watch.host.start(shell("a", f"echo began > {tmp_path}/trace; sleep 1000"))
        watch.host.kill("a")  # in the same turn: both come in one batch
        [report] = await watch.until("a")
        assert (report.kind, report.return_code, report.cause, report.pid) == ("ended", -signal.SIGTERM, "killed", 0)
    assert not (tmp_path / "trace").exists()
    async with watching(tmp_path / "s") as watch:
        assert [(one.kind, one.cause) for one in watch.all] == [("ended", "killed")]


async def test_a_job_that_runs_too_long_is_ended(tmp_path: Path) -> None:
    async with watching(tmp_path) as watch:
        slow, fast = await watch.run(
            spec("slow", "sleep", "1000", timeout_ms=150), shell("fast", "exit 0", timeout_ms=60_000)
        )
        assert (slow.return_code, slow.cause) == (-signal.SIGTERM, "timed_out")
        assert slow.sentence == "it ran longer than 150 ms"
        assert slow.at_ms - watch.all[0].at_ms >= 130
        assert fast.cause == "exited"


async def test_a_job_that_ignores_term_is_killed_after_the_delay(tmp_path: Path) -> None:
    async with watching(tmp_path) as watch:
        stubborn = shell("a", "trap '' TERM; while :; do sleep 0.01; done", timeout_ms=200, kill_delay_ms=100)
        [report] = await watch.run(stubborn)
        assert (report.return_code, report.cause) == (-signal.SIGKILL, "timed_out")


async def test_three_hundred_jobs_at_once(tmp_path: Path) -> None:
    keys = [f"k{number}" for number in range(300)]
    release = tmp_path / "go"
    os.mkfifo(release)
    async with watching(tmp_path / "s") as watch:
        for number, key in enumerate(keys):
            watch.host.start(shell(key, f"echo {key}; read x < {release}; exit {number % 250}"))
        await watch.started(*keys)
        with open(os.open(release, os.O_RDWR), "wb", buffering=0) as gate:
            gate.write(b"x\n" * len(keys))
            reports = await watch.until(*keys)
        assert [one.return_code for one in reports] == [number % 250 for number in range(300)]
        assert [watch.out(key) for key in keys] == [f"{key}\n".encode() for key in keys]


async def test_more_jobs_than_allowed_are_refused(tmp_path: Path) -> None:
    async with watching(tmp_path, running_max=2) as watch:
        for key in ("a", "b", "c"):
            watch.host.start(spec(key, "sleep", "1000"))
        [report] = await watch.until("c")
        assert report.kind == "refused"
        assert "2 others are running" in report.sentence
        watch.host.kill("a", now=True)
        await watch.until("a")
        watch.all.clear()
        [report] = await watch.run(shell("c", "exit 0"))
        assert report.kind == "ended"
        watch.host.kill("b", now=True)
        await watch.until("b")


async def test_two_jobs_never_share_a_folder(tmp_path: Path) -> None:
    async with watching(tmp_path) as watch:
        watch.host.start(ProcessSpec("a", ("sleep", "1000"), environment(), folder="at/x"))
        [report] = await watch.run(ProcessSpec("b", ("true",), environment(), folder="at/x"))
        assert (report.kind, report.sentence) == ("refused", "another job is running in the folder 'at/x'")
        watch.host.kill("a", now=True)
        await watch.until("a")


async def test_a_guard_without_jobs_ends_with_its_owner(tmp_path: Path) -> None:
    async with watching(tmp_path) as watch:
        guard = watch.host.guard_pid
        await watch.run(shell("a", "exit 0"))
        assert alive(guard)
    assert not Path(f"/proc/{guard}").exists(), "neither running nor a zombie"


async def test_a_guard_with_jobs_outlives_its_owner_and_ends_with_them(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    async with watching(tmp_path / "s") as watch:
        guard = watch.host.guard_pid
        watch.host.start(shell("a", f"read x < {tmp_path}/go; exit 9"))
        await watch.started("a")
    assert alive(guard)
    with open(os.open(tmp_path / "go", os.O_RDWR), "wb", buffering=0) as gate:
        gate.write(b"x\n")
        await gone(guard)
    async with watching(tmp_path / "s") as watch:
        assert [(one.kind, one.return_code) for one in watch.all] == [("ended", 9)]
        assert watch.host.guard_pid != guard


async def test_after_close_everything_is_refused(tmp_path: Path) -> None:
    host: ProcessHost = GuardHost(tmp_path, WallClock())
    await host.open()
    await host.close()
    await host.close()
    with pytest.raises(EngineClosed):
        await host.reports()
    with pytest.raises(EngineClosed):
        host.start(shell("a", "exit 0"))
