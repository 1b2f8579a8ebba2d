"""The guard ends whole process trees, also what left its group and its parent; and never a stranger.

Tests: engine/jobs/guard.py
"""

import asyncio
import signal
import sys
from pathlib import Path

from tests.support.guarding import alive, appears, environment, gone, shell, spec, watching

# A process that ignores TERM and goes its own way: another session, its parent dead.
RUNAWAY = """
import os, signal, sys
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) > 2:  # and nothing left by which to know it
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.chdir("/")
with open(sys.argv[1], "a") as file:
    file.write(f"{os.getpid()}\\n")
signal.pause()
"""


async def pids_in(path: Path, lines: int = 1) -> list[int]:
    return [int(line) for line in await appears(path, lines=lines)]


def runaway(*arguments: object) -> str:
    return " ".join([f"{sys.executable} -I -S $RUNAWAY", *map(str, arguments)])


def runaway_environment(tmp_path: Path, **more: str) -> dict[str, str]:
    script = tmp_path / "runaway.py"
    script.write_text(RUNAWAY)
    return environment(RUNAWAY=str(script), **more)


async def test_a_tree_that_ignores_term_is_gone_when_its_end_is_reported(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    text = f"""
        trap '' TERM
        (trap '' TERM; echo $(exec sh -c 'echo $PPID') >> {pids}; while :; do sleep 0.01; done) &
        setsid sh -c "trap '' TERM; echo \\$\\$ >> {pids}; while :; do sleep 0.01; done" &
        {runaway(pids)}
        echo $$ >> {pids}
        while :; do sleep 0.01; done
    """
    async with watching(tmp_path / "s") as watch:
        watch.host.start(shell("a", text, kill_delay_ms=100, environment=runaway_environment(tmp_path)))
        family = await pids_in(pids, 4)
        watch.host.kill("a")
        [report] = await watch.until("a")
        assert (report.return_code, report.cause) == (-signal.SIGKILL, "killed")
        assert [pid for pid in family if alive(pid)] == []


async def test_children_have_their_delay_also_when_their_parent_ends_first(tmp_path: Path) -> None:
    text = f"""
        (trap 'sleep 0.3; echo tidied > {tmp_path}/trace; exit 0' TERM
         echo up > {tmp_path}/up; while :; do sleep 0.01; done) &
        exec sleep 1000
    """
    async with watching(tmp_path / "s") as watch:
        watch.host.start(shell("a", text, kill_delay_ms=30_000))
        await appears(tmp_path / "up")
        watch.host.kill("a")
        [report] = await watch.until("a")
        assert (report.return_code, report.cause) == (-signal.SIGTERM, "killed")
    assert (tmp_path / "trace").read_text() == "tidied\n"


async def test_what_a_job_leaves_behind_is_killed_before_its_end_is_told(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    text = f"""
        sleep 1000 & echo $! >> {pids}
        setsid sh -c 'echo $$ >> {pids}; exec sleep 1000' &
        {runaway(pids)}
        while [ $(wc -l < {pids}) -lt 3 ]; do sleep 0.01; done
        exit 6
    """
    async with watching(tmp_path / "s") as watch:
        [report] = await watch.run(shell("a", text, environment=runaway_environment(tmp_path)))
        assert (report.kind, report.return_code, report.cause) == ("ended", 6, "exited")
        assert [pid for pid in await pids_in(pids, 3) if alive(pid)] == []


async def test_a_runaway_is_known_by_the_result_path_in_its_environment(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    async with watching(tmp_path / "s") as watch:
        mark = runaway_environment(tmp_path, UNDERSTUDY_RESULT=f"{watch.host.path('at/a')}/result")
        watch.host.start(spec("other", "sleep", "1000"))
        await watch.started("other")
        await watch.run(
            shell("a", f"{runaway(pids, 'hidden')}; until [ -s {pids} ]; do sleep 0.01; done", environment=mark)
        )
        [pid] = await pids_in(pids)
        assert not alive(pid)
        watch.host.kill("other")
        await watch.until("other")


async def test_an_unknown_orphan_lives_as_long_as_it_may_belong_to_somebody(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    hidden = f"{runaway(pids, 'hidden')}; until [ -s {pids} ]; do sleep 0.01; done"
    async with watching(tmp_path / "s") as watch:
        watch.host.start(shell("elder", "read x < /dev/tty || exec sleep 1000"))
        await watch.started("elder")
        await watch.run(shell("a", hidden, environment=runaway_environment(tmp_path)))
        [pid] = await pids_in(pids)
        assert alive(pid), "it might be the elder's"
        watch.host.kill("elder")
        await watch.until("elder")
        await gone(pid)


async def test_a_detached_child_of_a_running_job_survives_the_ends_of_others(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    async with watching(tmp_path / "s") as watch:
        text = f"{runaway(pids)}; exec sleep 1000"
        watch.host.start(shell("a", text, environment=runaway_environment(tmp_path)))
        [pid] = await pids_in(pids)
        for number in range(5):
            await watch.run(shell(f"b{number}", "sleep 1000 & exit 0"))
        assert alive(pid)
        watch.host.kill("a", now=True)
        [report] = await watch.until("a")
        assert report.return_code == -signal.SIGKILL
        assert not alive(pid)


async def test_a_stranger_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    async with watching(tmp_path / "s") as watch:
        watch.host.start(shell("a", "setsid sleep 1000 & exec sleep 1000"))
        await watch.started("a")
        folder = watch.host.path("at/a")
        stranger = await asyncio.create_subprocess_exec("sleep", "1000", cwd=folder)
        try:
            watch.host.kill("a")
            await watch.until("a")
            assert alive(stranger.pid)
        finally:
            stranger.kill()
            await stranger.wait()


async def test_many_trees_end_at_once(tmp_path: Path) -> None:
    keys = [f"k{number}" for number in range(40)]
    async with watching(tmp_path) as watch:
        for key in keys:
            watch.host.start(shell(key, "trap '' TERM; setsid sleep 1000 & sleep 1000 & wait; wait", kill_delay_ms=50))
        await watch.started(*keys)
        for key in keys:
            watch.host.kill(key)
        reports = await watch.until(*keys)
        assert {one.cause for one in reports} == {"killed"}


async def test_a_chain_of_short_lived_sessions_is_caught(tmp_path: Path) -> None:
    chain = f"""
import os, time
for left in range(2_000):
    if os.fork():
        os._exit(0)
    os.setsid()
    open({str(tmp_path / "beat")!r}, "w").close()
    time.sleep(0.02)
"""
    async with watching(tmp_path / "s") as watch:
        text = f"import os\nos.fork() or exec({chain!r})\nwhile not os.path.exists({str(tmp_path / 'beat')!r}): pass"
        [report] = await watch.run(spec("a", sys.executable, "-I", "-S", "-c", text))
        assert (report.return_code, report.sentence) == (0, "")
        mark = str(tmp_path / "beat").encode()
        left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if mark in read_or_nothing(path)]
        assert left == []


def read_or_nothing(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
