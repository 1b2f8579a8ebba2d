"""`run` as a process: kill -9, Ctrl-C, a held order, a state directory that can not be had.

Tests: engine/cli/session.py, engine/cli/presses.py
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.cli.exits import ExitCode
from tests.cli.shell import GATED, HELLO, Running, engine, environment, write

pytestmark = pytest.mark.acceptance

# A call inside the engine's own process, which dies with it. It waits for a file, in a thread that nobody can end.
CALLING = """\
name: calling
parameters:
  gate: string
steps:
  - fork:
      call:
        - job: wait
          python: gate_waiting:wait
          arguments: {gate: "${gate}"}
      shell:
        - job: quick
          shell: echo quick
  - job: after
    shell: echo after
"""
GATE_WAITING = """\
import pathlib
import time


def wait(gate):
    with open(f"{gate}.called", "a") as file:
        file.write("1\\n")
    while not pathlib.Path(gate).exists():
        time.sleep(0.02)
"""


@pytest.fixture
def here(short_tmp: Path) -> Iterator[Path]:
    """A directory with both documents; at its end the gate is opened, so that no job is left waiting."""
    write(short_tmp, GATED)
    write(short_tmp, CALLING, "calling.yaml")
    write(short_tmp, GATE_WAITING, "gate_waiting.py")
    yield short_tmp
    if short_tmp.exists():
        (short_tmp / "gate").touch()


def gate(here: Path) -> str:
    return f"gate={here / 'gate'}"


def counts(here: Path) -> dict[str, int]:
    """Return how often each job began."""
    return {path.suffix[1:]: path.read_text().count("1") for path in here.glob("gate.*")}


def begun(here: Path, *options: str) -> Running:
    """Begin the gated workflow and wait until its second job runs."""
    running = Running("run", "workflow.yaml", "-p", gate(here), *options, cwd=here)
    running.until("second", "starts")
    return running


def test_after_kill_9_the_same_command_goes_on_where_it_was(here: Path) -> None:
    with begun(here) as first:
        first.process.kill()
    with Running("run", "workflow.yaml", cwd=here) as second:
        assert "goes on; 1 step has ended before" in second.until("order")
        (here / "gate").touch()
        assert second.ended() == ExitCode.FINISHED, second.err()
        assert not [line for line in second.lines if "first" in line], "what is past is not told again"
    assert counts(here) == {"first": 1, "second": 1, "third": 1}
    done = engine("run", "workflow.yaml", "-p", gate(here), "--output", "json", cwd=here)
    assert json.loads(done.stdout)["state"] == "finished"
    assert counts(here) == {"first": 2, "second": 2, "third": 2}, "a finished one is not gone on with"


def test_ctrl_c_suspends_and_the_same_command_goes_on(here: Path) -> None:
    with begun(here) as first:
        first.signal(signal.SIGINT)
        first.until("to be suspended")
        (here / "gate").touch()
        assert first.ended() == ExitCode.SUSPENDED
        err = first.err()
    assert "running attempts are let run to their end" in err
    assert err.endswith("is suspended. `python -m engine run workflow.yaml` goes on where it was.\n")
    assert counts(here) == {"first": 1, "second": 1}
    refused = engine("run", "workflow.yaml", "-p", gate(here), cwd=here)
    assert refused.returncode == ExitCode.USAGE
    assert "leave -p out to go on with it, or add --new to begin another one" in refused.stderr
    done = engine("run", "workflow.yaml", cwd=here)
    assert done.returncode == ExitCode.FINISHED, done.stderr
    assert "goes on; 2 steps have ended before" in done.stdout
    assert counts(here) == {"first": 1, "second": 1, "third": 1}


def test_json_of_a_suspended_order(here: Path) -> None:
    with Running("run", "workflow.yaml", "-p", gate(here), "--output", "json", "--id", "o", cwd=here) as running:
        while not (here / "gate.second").exists():
            assert running.process.poll() is None
        running.signal(signal.SIGTERM)
        (here / "gate").touch()
        assert running.ended() == ExitCode.SUSPENDED
    found = json.loads("".join(running.lines))
    assert (found["order"], found["state"], found["exit_code"]) == ("o", "suspended", 5)
    assert [step["label"] for step in found["steps"]] == ["first", "second"]


def test_a_second_ctrl_c_cancels_and_kills(here: Path) -> None:
    with begun(here) as running:
        running.signal(signal.SIGINT)
        running.until("to be suspended")
        running.signal(signal.SIGINT)
        assert "killed" in running.until("second", "killed")
        assert running.ended() == ExitCode.CANCELLED
        assert running.err().endswith("was cancelled.\n")
    done = engine("run", "workflow.yaml", "--release", "rerun", cwd=here)
    assert done.returncode == ExitCode.USAGE, "a cancelled one has ended"


def test_asking_twice_to_terminate_is_asking_once(here: Path) -> None:
    with begun(here) as running:
        running.signal(signal.SIGTERM)
        running.until("to be suspended")
        running.signal(signal.SIGTERM)
        (here / "gate").touch()
        assert running.ended() == ExitCode.SUSPENDED


def test_a_third_ctrl_c_gives_up_what_does_not_end(here: Path) -> None:
    with Running("run", "calling.yaml", "-p", gate(here), cwd=here) as running:
        running.until("wait", "starts")
        running.signal(signal.SIGINT)
        running.until("to be suspended")
        running.signal(signal.SIGINT)
        running.until("to be killed")
        running.signal(signal.SIGINT)
        assert running.ended() == ExitCode.INTERRUPTED
        assert "Gave up waiting. `python -m engine run calling.yaml` tells what became of the order." in running.err()
        assert "Traceback" not in running.err()
    (here / "gate").touch()
    done = engine("run", "calling.yaml", cwd=here)
    assert done.returncode == ExitCode.CANCELLED, done.stderr


def lost(here: Path) -> None:
    """Kill a run in the middle of a call, whose end nobody can see then."""
    with Running("run", "calling.yaml", "-p", gate(here), cwd=here) as running:
        running.until("quick", "succeeded")
        while not (here / "gate.called").exists():
            assert running.process.poll() is None
        running.process.kill()


def test_a_lost_call_holds_the_order_until_a_person_speaks(here: Path) -> None:
    lost(here)
    held = engine("run", "calling.yaml", cwd=here)
    assert held.returncode == ExitCode.HELD, held.stderr
    assert "held: nobody saw how attempt 1 ended" in held.stdout
    assert "Held: nobody saw how attempt 1 of wait in calling-" in held.stderr
    assert "`python -m engine run calling.yaml --release rerun` to run it again" in held.stderr
    found = json.loads(engine("run", "calling.yaml", "--output", "json", cwd=here).stdout)
    assert (found["state"], found["exit_code"], found["held"][0]["attempt"]) == ("held", 3, 1)
    (here / "gate").touch()
    done = engine("run", "calling.yaml", "--release", "rerun", cwd=here)
    assert done.returncode == ExitCode.FINISHED, done.stderr
    assert "the lost attempt 1 is run again" in done.stdout
    assert counts(here) == {"called": 2}


def test_a_lost_call_may_count_as_failed_at_once(here: Path) -> None:
    lost(here)
    done = engine("run", "calling.yaml", "--release", "fail", cwd=here)
    assert done.returncode == ExitCode.FAILED, done.stderr
    assert "the lost attempt 1 counts as failed" in done.stdout
    assert counts(here) == {"called": 1}


def test_an_order_goes_on_with_the_version_it_began_with(here: Path) -> None:
    with begun(here) as first:
        first.process.kill()
    write(here, GATED.replace(".third", ".changed"))
    (here / "gate").touch()
    done = engine("run", "workflow.yaml", cwd=here)
    assert done.returncode == ExitCode.FINISHED, done.stderr
    assert "workflow.yaml has changed since order gated-" in done.stderr
    assert "--new begins another order with the changed file" in done.stderr
    assert counts(here) == {"first": 1, "second": 1, "third": 1}


def test_a_new_one_beside_an_unfinished_one(here: Path) -> None:
    with begun(here, "--id", "old") as first:
        first.signal(signal.SIGINT)
        first.until("to be suspended")
        (here / "gate").touch()
        assert first.ended() == ExitCode.SUSPENDED
    done = engine("run", "workflow.yaml", "--new", "-p", gate(here), "--output", "json", cwd=here)
    assert done.returncode == ExitCode.FINISHED, done.stderr
    assert json.loads(done.stdout)["order"] != "old"
    done = engine("run", "workflow.yaml", "--output", "json", cwd=here)
    assert json.loads(done.stdout)["order"] == "old"


def test_others_that_go_on_meanwhile_are_mentioned(here: Path) -> None:
    write(here, HELLO, "hello.yaml")
    with begun(here, "--id", "old") as first:
        first.process.kill()
    done = engine("run", "hello.yaml", cwd=here)
    assert done.returncode == ExitCode.FINISHED, done.stderr
    assert done.stderr == "Unfinished too in .understudy, and going on meanwhile: old\n"
    (here / "gate").touch()
    assert engine("run", "workflow.yaml", cwd=here).returncode == ExitCode.FINISHED


def test_a_state_directory_in_use_names_its_process(here: Path) -> None:
    with begun(here) as running:
        other = engine("run", "workflow.yaml", cwd=here)
        assert other.returncode == ExitCode.IN_USE
        assert other.stdout == ""
        assert str(running.process.pid) in other.stderr
        assert other.stderr.count("\n") == 1
        (here / "gate").touch()
        assert running.ended() == ExitCode.FINISHED


def test_a_reader_that_goes_away_suspends_the_order_quietly(here: Path) -> None:
    with begun(here) as running:
        running.out.close()
        (here / "gate").touch()
        assert running.process.wait(60) == ExitCode.SUSPENDED
        assert running.err() == ""
    assert engine("run", "workflow.yaml", cwd=here).returncode == ExitCode.FINISHED
    assert counts(here) == {"first": 1, "second": 1, "third": 1}


def test_a_damaged_journal_is_named_and_left_alone(here: Path) -> None:
    write(here, HELLO, "hello.yaml")
    assert engine("run", "hello.yaml", cwd=here).returncode == ExitCode.FINISHED
    path = here / ".understudy/controller/journal.db"
    connection = sqlite3.connect(path)
    connection.execute("UPDATE record SET events = zeroblob(10) WHERE number = 3")
    connection.commit()
    connection.close()
    content = path.read_bytes()
    done = engine("run", "hello.yaml", cwd=here)
    assert done.returncode == ExitCode.STATE, done.stderr
    assert "record 3" in done.stderr
    assert "Traceback" not in done.stderr
    assert path.read_bytes() == content
    checked = engine("journal", "verify", cwd=here)
    assert checked.returncode == ExitCode.FAILED
    assert "DAMAGED: record 3 " in checked.stdout


def test_a_journal_of_a_newer_version_is_refused(here: Path) -> None:
    write(here, HELLO, "hello.yaml")
    assert engine("run", "hello.yaml", cwd=here).returncode == ExitCode.FINISHED
    connection = sqlite3.connect(here / ".understudy/controller/journal.db")
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    done = engine("run", "hello.yaml", cwd=here)
    assert done.returncode == ExitCode.STATE
    assert "999" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_state_directory_that_can_not_be_made_is_a_sentence(here: Path) -> None:
    for place in ("/proc/understudy", "workflow.yaml/state"):
        done = engine("run", "workflow.yaml", "-p", gate(here), "--state", place, cwd=here)
        assert done.returncode == ExitCode.STATE, done.stderr
        assert place in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root by its mode")
def test_a_read_only_state_directory_is_a_sentence(here: Path) -> None:
    folder = here / "read-only"
    folder.mkdir(mode=0o500)
    done = engine("run", "workflow.yaml", "-p", gate(here), "--state", folder, cwd=here)
    assert done.returncode == ExitCode.STATE
    assert done.stderr.count("\n") == 1


def test_debug_shows_log_lines_and_no_picture(here: Path) -> None:
    write(here, HELLO, "hello.yaml")
    argv = [sys.executable, "-m", "engine", "run", "hello.yaml", "--debug"]
    done = subprocess.run(argv, cwd=here, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.FINISHED
    assert " asyncio: " in done.stderr or "understudy." in done.stderr
    assert "greeting = hello world" in done.stdout
