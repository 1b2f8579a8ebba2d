"""Jobs outlive their owner and are adopted with exact ends; what a killed guard ran is lost, never failed.

Tests: engine/jobs/guard.py, engine/jobs/guard_host.py, engine/jobs/guard_launch.py
"""

import asyncio
import os
import signal
import sys
import zlib
from pathlib import Path

import pytest

from engine.base.problem import EngineClosed
from engine.jobs import guard_launch
from engine.jobs.guard_host import GuardHost
from tests.support.guarding import WallClock, Watch, alive, appears, environment, gone, shell, spec, watching

ROOT = Path(__file__).parents[2]
JOBS = 60

# An owner in a process of its own: it starts jobs that print, wait at a gate, print again, and end in their own way.
OWNER = f"""
import asyncio, sys
from pathlib import Path
from tests.support.guarding import Watch, WallClock, shell
from engine.jobs.guard_host import GuardHost

async def main(state, gate):
    host = GuardHost(state, WallClock())
    watch = Watch(host, await host.open())
    keys = [f"k{{number}}" for number in range({JOBS})]
    for number, key in enumerate(keys):
        count = "for i in 1 2 3; do echo"
        text = f"{{count}} before $i; done; read x < {{gate}}; {{count}} after $i; done; exit {{number}}"
        host.start(shell(key, text))
    await watch.started(*keys)
    print("running", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def owner_killed(state: Path, gate: Path) -> None:
    """Start the jobs from another process and kill that one with everything it can not do any more."""
    command = (sys.executable, "-c", OWNER, str(state), str(gate))
    owner = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert owner.stdout is not None
    assert await owner.stdout.readline() == b"running\n"
    owner.kill()
    await owner.communicate()


def write_log(state: Path, *records: str, end: bytes = b"") -> None:
    state.mkdir(exist_ok=True)
    lines = (b"%08x %s\n" % (zlib.crc32(text.encode()), text.encode()) for text in records)
    (state / "guard.log").write_bytes(b"".join(lines) + end)


def boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_record(key: str, boot_id: str | None = None) -> str:
    return f'["start","{key}","{boot_id or boot()}",1,"at/{key}",-1,5000,1000]'


async def test_jobs_of_a_killed_owner_are_adopted_with_exact_codes_and_lines(tmp_path: Path) -> None:
    state, gate = tmp_path / "s", tmp_path / "go"
    os.mkfifo(gate)
    await owner_killed(state, gate)
    async with watching(state) as watch:
        keys = [f"k{number}" for number in range(JOBS)]
        assert {one.key: one.kind for one in watch.all} == dict.fromkeys(keys, "started")
        assert all(alive(one.pid) for one in watch.all)
        with open(os.open(gate, os.O_RDWR), "wb", buffering=0) as opened:
            opened.write(b"x\n" * JOBS)
            reports = await watch.until(*keys)
        assert [(one.kind, one.return_code) for one in reports] == [("ended", number) for number in range(JOBS)]
        lines = b"".join(b"%s %d\n" % (word, number) for word in (b"before", b"after") for number in (1, 2, 3))
        assert [watch.out(key) for key in keys] == [lines] * JOBS


async def test_jobs_that_end_while_nobody_is_there_are_reported_to_the_next_owner(tmp_path: Path) -> None:
    state, gate = tmp_path / "s", tmp_path / "go"
    os.mkfifo(gate)
    await owner_killed(state, gate)
    guard = int((state / "guard.lock").read_text())
    with open(os.open(gate, os.O_RDWR), "wb", buffering=0) as opened:
        opened.write(b"x\n" * JOBS)
        await appears(state / "guard.log", lines=3 * JOBS + 1)  # and nobody asked for it
    async with watching(state) as watch:
        assert watch.host.guard_pid == guard
        assert {one.key: one.return_code for one in watch.all} == {f"k{number}": number for number in range(JOBS)}


async def test_a_guard_alone_ends_after_its_patience(tmp_path: Path) -> None:
    text = OWNER.replace(f"range({JOBS})", "range(0)").replace("WallClock())", "WallClock(), linger_ms=50)")
    command = (sys.executable, "-c", text, str(tmp_path), "none")
    owner = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert owner.stdout is not None
    await owner.stdout.readline()
    guard = int((tmp_path / "guard.lock").read_text())
    assert alive(guard)
    owner.kill()
    await owner.communicate()
    await gone(guard)
    assert not (tmp_path / "guard.socket").exists()


async def test_what_a_killed_guard_ran_is_lost_when_it_has_ended(tmp_path: Path) -> None:
    gate = tmp_path / "go"
    os.mkfifo(gate)
    async with watching(tmp_path / "s") as watch:
        await watch.run(shell("done", "exit 3"))
        for key in ("waits", "killed"):
            watch.host.start(shell(key, f"read x < {gate}; exit 0"))
        started = await watch.started("waits", "killed")
        first = watch.host.guard_pid
        os.kill(first, signal.SIGKILL)
        [report] = await watch.run(shell("new", "exit 8"))  # asked of the dead guard, done by the next one
        assert (report.kind, report.return_code) == ("ended", 8)
        assert watch.host.guard_pid != first
        assert all(alive(one.pid) for one in started)
        watch.host.kill("killed")
        [report] = await watch.until("killed")
        assert (report.kind, report.pid) == ("lost", started[1].pid)
        assert "guard was killed" in report.sentence
        assert not alive(started[1].pid)
        with open(os.open(gate, os.O_RDWR), "wb", buffering=0) as opened:
            opened.write(b"x\n")
            [report] = await watch.until("waits")
        assert report.kind == "lost"
        assert [one.kind for one in watch.all if one.key == "done"] == ["started", "ended"], "no news of it"
    async with watching(tmp_path / "s") as watch:
        kinds = {one.key: one.kind for one in watch.all}
        assert kinds == {"done": "ended", "new": "ended", "waits": "lost", "killed": "lost"}


async def test_a_guard_killed_again_and_again_starts_nothing_twice_and_loses_no_request(tmp_path: Path) -> None:
    async with watching(tmp_path / "s", restarts_max=100) as watch:
        keys = [f"k{number}" for number in range(200)]
        for number, key in enumerate(keys):
            watch.host.start(shell(key, f"echo {key} >> {tmp_path}/count"))
            if number % 20 == 10:
                os.kill(watch.host.guard_pid, signal.SIGKILL)
                await watch.until(keys[number - 10])
        reports = await watch.until(*keys)
        counted = (tmp_path / "count").read_text().split()
        assert len(counted) == len(set(counted)), "some job ran twice"
        ended = {one.key for one in reports if one.kind == "ended"}
        assert ended <= set(counted), "it is said to have ended and never ran"
        assert {one.kind for one in reports} <= {"ended", "lost"}


async def test_a_kill_is_remembered_when_the_guard_dies(tmp_path: Path) -> None:
    async with watching(tmp_path) as watch:
        watch.host.start(shell("a", "trap '' TERM; echo up; while :; do sleep 0.01; done", kill_delay_ms=200))
        [started] = await watch.started("a")
        await appears(Path(watch.host.path("at/a/out")))
        watch.host.kill("a")
        os.kill(watch.host.guard_pid, signal.SIGKILL)
        [report] = await watch.until("a")
        assert report.kind == "lost"
        assert not alive(started.pid)


async def test_a_killed_guards_job_with_a_deadline_still_meets_it(tmp_path: Path) -> None:
    async with watching(tmp_path) as watch:
        watch.host.start(spec("a", "sleep", "1000", timeout_ms=500))
        [started] = await watch.started("a")
        os.kill(watch.host.guard_pid, signal.SIGKILL)
        [report] = await watch.until("a")
        assert report.kind == "lost"
        assert not alive(started.pid)


async def test_what_a_lost_job_left_behind_is_killed_before_it_is_reported(tmp_path: Path) -> None:
    async with watching(tmp_path / "s") as watch:
        text = f"setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 1000' & read x < {tmp_path}/go"
        os.mkfifo(tmp_path / "go")
        watch.host.start(shell("a", text))
        [pid] = [int(line) for line in await appears(tmp_path / "pid")]
        [started] = await watch.started("a")
        guard = watch.host.guard_pid
        os.kill(guard, signal.SIGSTOP)
        os.kill(started.pid, signal.SIGKILL)
        os.kill(guard, signal.SIGKILL)
        [report] = await watch.until("a")
        assert report.kind == "lost"
        assert not alive(pid)


async def test_a_guard_killed_between_record_and_start_leaves_a_lost_job(tmp_path: Path) -> None:
    write_log(tmp_path, start_record("a"))
    async with watching(tmp_path) as watch:
        [report] = await watch.until("a")
        assert (report.kind, report.pid) == ("lost", 0)
        watch.all.clear()
        [report] = await watch.run(shell("a", "exit 0"))
        assert report.kind == "lost", "a recorded start is never repeated"


async def test_a_process_started_in_the_last_moment_of_a_guard_is_found_by_its_output(tmp_path: Path) -> None:
    folder = tmp_path / "at" / "a"
    folder.mkdir(parents=True)
    write_log(tmp_path, start_record("a"))
    with open(folder / "out", "ab") as out:
        orphan = await asyncio.create_subprocess_exec("sleep", "1000", stdout=out, start_new_session=True)
    async with watching(tmp_path) as watch:
        [report] = await watch.until("a")
        assert report.kind == "lost"
        assert await orphan.wait() == -signal.SIGKILL


async def test_after_a_restart_of_the_machine_everything_unfinished_is_lost(tmp_path: Path) -> None:
    old = "00000000-0000-0000-0000-000000000000"
    mine = f'["pid","a","{old}",1,{os.getpid()},1]'
    write_log(tmp_path, start_record("a", old), mine, '["end","b","ended",5,7,3,"exited","",1,2]')
    async with watching(tmp_path) as watch:
        known = {one.key: one for one in watch.all}
        assert (known["a"].kind, known["a"].sentence) == ("lost", "the machine was restarted while it ran")
        assert (known["b"].kind, known["b"].return_code, known["b"].err_bytes) == ("ended", 3, 2)


async def test_a_pid_that_went_to_somebody_else_is_not_touched(tmp_path: Path) -> None:
    stranger = await asyncio.create_subprocess_exec("sleep", "1000")
    try:
        write_log(tmp_path, start_record("a"), f'["pid","a","{boot()}",1,{stranger.pid},1]')
        async with watching(tmp_path) as watch:
            [report] = await watch.until("a")
            assert report.kind == "lost"
            assert alive(stranger.pid)
    finally:
        stranger.kill()
        await stranger.wait()


@pytest.mark.parametrize("end", [b"0", b'12345678 ["start","x"', b"\0" * 5_000])
async def test_a_torn_end_was_never_durable(tmp_path: Path, end: bytes) -> None:
    write_log(tmp_path, '["end","a","ended",5,7,3,"exited","",1,2]', end=end)
    async with watching(tmp_path) as watch:
        assert {one.key: one.kind for one in watch.all} == {"a": "ended"}
        assert watch.host.faults == []
        [report] = await watch.run(shell("x", "exit 0"))
        assert report.kind == "ended"


@pytest.mark.parametrize(
    "line, key",
    [
        (start_record("x").replace("5000", "6000"), "x"),
        ('["start","or\\"der|x/1/2"', 'or"der|x/1/2'),
        ('["end","x","ended",5,7,0,"exited"', "x"),
        ("\ufffd\ufffd no record at all", None),
    ],
)
async def test_damage_is_named_and_its_job_is_lost(tmp_path: Path, line: str, key: str | None) -> None:
    good = ['["end","a","ended",5,7,3,"exited","",1,2]', '["end","b","ended",5,7,4,"exited","",1,2]']
    write_log(tmp_path, *good)
    text = (tmp_path / "guard.log").read_bytes()
    first, second = text.splitlines(keepends=True)
    (tmp_path / "guard.log").write_bytes(first + b"01234567 " + line.encode() + b"\n" + second)
    async with watching(tmp_path) as watch:
        assert watch.host.faults == ["line 2 of guard.log is damaged"]
        kinds = {one.key: (one.kind, one.sentence) for one in watch.all}
        lost = {key: ("lost", "line 2 of guard.log is damaged")} if key else {}
        assert kinds == {"a": ("ended", ""), "b": ("ended", ""), **lost}
        if key:
            watch.all.clear()
            watch.host.start(shell("other", "exit 0"))
            await watch.until("other")
        assert len(list(tmp_path.glob("guard.log.damaged-*"))) == 1
    async with watching(tmp_path) as watch:
        assert watch.host.faults == []
        assert {one.key for one in watch.all} >= {"a", "b", *([key] if key else [])}


async def test_a_record_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    write_log(tmp_path, '["guard",2,"x",1,1]')
    content = (tmp_path / "guard.log").read_bytes()
    with pytest.raises(EngineClosed, match=r"guard\.log is of version 2"):
        await GuardHost(tmp_path, WallClock()).open()
    assert (tmp_path / "guard.log").read_bytes() == content


async def test_the_record_file_shrinks_when_keys_are_forgotten(tmp_path: Path) -> None:
    async with watching(tmp_path, compact_bytes=5_000) as watch:
        for turn in range(6):
            keys = [f"k{turn}-{number}" for number in range(20)]
            await watch.run(*(spec(key, "true") for key in keys))
            watch.host.forget(keys)
        await watch.run(spec("kept", "true"), spec("last", "true"))
        assert (tmp_path / "guard.log").stat().st_size < 8_000
        assert not (tmp_path / "guard.log.new").exists()
    async with watching(tmp_path) as watch:
        assert {one.key for one in watch.all} == {"kept", "last"}


async def test_a_second_owner_takes_over_and_the_first_one_is_told(tmp_path: Path) -> None:
    first = GuardHost(tmp_path, WallClock())
    watch = Watch(first, await first.open())
    first.start(spec("a", "sleep", "1000"))
    await watch.started("a")
    async with watching(tmp_path) as second:
        assert second.host.guard_pid == first.guard_pid
        assert [(one.key, one.kind) for one in second.all] == [("a", "started")]
        with pytest.raises(EngineClosed, match="somebody else took over"):
            while True:
                await first.reports()
        with pytest.raises(EngineClosed):
            first.kill("a")
        await first.close()
        second.host.kill("a")
        [report] = await second.until("a")
        assert report.cause == "killed"


async def test_two_hosts_that_open_together_share_one_guard(tmp_path: Path) -> None:
    hosts = [GuardHost(tmp_path, WallClock()) for _ in range(4)]
    opened = await asyncio.gather(*(host.open() for host in hosts), return_exceptions=True)
    assert not [one for one in opened if not isinstance(one, list | EngineClosed)]
    assert len({host.guard_pid for host in hosts if host.guard_pid}) == 1
    for host in hosts:
        await host.close()


async def test_signals_to_the_guard_change_nothing(tmp_path: Path) -> None:
    async with watching(tmp_path) as watch:
        watch.host.start(spec("a", "sleep", "1000"))
        await watch.started("a")
        guard = watch.host.guard_pid
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGPIPE):
            os.kill(guard, number)
        [report] = await watch.run(shell("b", "exit 4"))
        assert (report.return_code, watch.host.guard_pid) == (4, guard)
        watch.host.kill("a")
        await watch.until("a")


async def test_a_guard_that_can_not_live_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('I can not')")
    monkeypatch.setattr(guard_launch, "SCRIPT", broken)
    host = GuardHost(tmp_path / "s", WallClock(), restarts_max=2)
    with pytest.raises(EngineClosed, match=r"ended 3 times in 60 s; its last words are in .*guard\.err"):
        await host.open()
    with pytest.raises(EngineClosed):
        await host.reports()
    await host.close()
    assert (tmp_path / "s" / "guard.err").read_text() == "I can not\n" * 3


async def test_a_host_whose_guard_dies_too_often_ends(tmp_path: Path) -> None:
    host = GuardHost(tmp_path, WallClock(), restarts_max=1)
    watch = Watch(host, await host.open())
    for number in range(2):
        await watch.run(spec(f"k{number}", "true"))
        os.kill(host.guard_pid, signal.SIGKILL)
    with pytest.raises(EngineClosed, match="ended 2 times"):
        while True:
            await host.reports()
    await host.close()


async def test_a_state_directory_of_somebody_else_or_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineClosed, match=r"can not begin: .*exists|can not begin: Not a directory"):
        await GuardHost(tmp_path / "file", WallClock()).open()
    if os.geteuid() == 0:
        (tmp_path / "foreign").mkdir()
        os.chown(tmp_path / "foreign", 12_345, -1)
        with pytest.raises(EngineClosed, match="belongs to another user"):
            await GuardHost(tmp_path / "foreign", WallClock()).open()


async def test_a_state_directory_with_a_long_name_is_no_trouble(tmp_path: Path) -> None:
    state = tmp_path.joinpath(*["a-folder-with-a-rather-long-name"] * 20)
    async with watching(state) as watch:
        [report] = await watch.run(spec("a", "true", environment=environment()))
        assert report.return_code == 0


async def test_a_guard_that_talks_nonsense_ends_the_host_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, text in enumerate(("nonsense", '{"reports":[["a"]]}', '{"ready":1,"version":99}')):
        fake = tmp_path / f"fake{number}.py"
        fake.write_text(
            "import json, socket, sys\n"
            "listener = socket.socket(fileno=json.loads(sys.argv[2])['listener'])\n"
            "listener.setblocking(True)\n"
            "link, _ = listener.accept()\n"
            f"link.sendall({text.encode()!r} + b'\\n')\n"
            "link.recv(1)\n"
        )
        monkeypatch.setattr(guard_launch, "SCRIPT", fake)
        host = GuardHost(tmp_path / f"s{number}", WallClock())
        with pytest.raises(EngineClosed, match=r"does not understand|of version 99, this program of 1"):
            await host.open()
        await host.close()
