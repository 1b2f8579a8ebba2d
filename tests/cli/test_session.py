"""`run` as a process: kill -9, Ctrl-C, a held order, a state directory in use.

Tests: engine/cli/session.py, engine/cli/presses.py, engine/cli/recall.py
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.controller import Controller
from engine.base.ids import START
from engine.cli.exits import Ended, ExitCode
from engine.cli.face import Face
from engine.cli.lines import SilentScreen
from engine.cli.log import Logging
from engine.cli.recall import RecallingEngine
from engine.cli.request import Request
from engine.cli.session import Session
from engine.client.client import EventStream
from engine.documents.convert import workflow_from_text
from engine.embed import Engine
from engine.journal.inspect import stat
from engine.language import standard_language
from engine.model.event import AttemptStarted, OrderSuspended
from engine.model.workflow import Workflow, WorkflowId
from engine.ports import World
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


def until_marked(here: Path, running: Running) -> None:
    """Wait until it is durable that the order is to be suspended, where nothing of it can be read."""
    while "OrderMarked" not in engine("journal", "dump", cwd=here).stdout:
        assert running.process.poll() is None


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
        until_marked(here, running)
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


def lose(here: Path) -> None:
    """Kill the guard and then the job it watches, once that runs: nobody sees how it ended."""
    pid = here / "gate.pid"
    while not (pid.exists() and pid.read_text().endswith("\n")):
        pass
    os.kill(int((here / ".understudy/subagent-local/guard.lock").read_text()), signal.SIGKILL)
    os.killpg(int(pid.read_text()), signal.SIGKILL)
    pid.unlink()


def test_a_release_is_for_what_was_lost_before(here: Path) -> None:
    write(here, GATED.replace('echo 1 >> "$GATE.second"', 'echo $$ > "$GATE.pid"'))
    with begun(here) as first:
        first.process.kill()
        first.process.wait()
        lose(here)
    with Running("run", "workflow.yaml", "--release", "rerun", cwd=here) as second:
        second.until("second", "the lost attempt 2 is run again")
        second.until("second", "starts, attempt 3")
        lose(here)
        assert second.ended() == ExitCode.HELD, second.err()
        assert "Held: nobody saw how attempt 3 of second" in second.err()
    done = engine("run", "workflow.yaml", "--release", "fail", cwd=here)
    assert done.returncode == ExitCode.FAILED, done.stderr


async def test_an_order_whose_past_the_journal_has_trimmed_goes_on_too(here: Path) -> None:
    with begun(here, "--id", "old") as first:
        first.process.kill()
    journal = str(here / ".understudy/controller/journal.db")
    async with Engine(here / ".understudy", snapshot_every_records=3) as busy:
        while stat(journal).first < 10:
            order = await busy.add_order(workflow_from_text(HELLO, standard_language()))
            await order.result()
    (here / "gate").touch()
    done = await asyncio.to_thread(engine, "run", "workflow.yaml", "--output", "json", cwd=here)
    assert done.returncode == ExitCode.FINISHED, done.stderr
    found = json.loads(done.stdout)
    assert (found["order"], found["state"]) == ("old", "finished")
    assert [step["label"] for step in found["steps"]] == ["second", "third"], "what came before is not known any more"
    assert counts(here) == {"first": 1, "second": 1, "third": 1}


class Tardy(RecallingEngine):
    """An engine that is opened only when all orders have ended: whoever asks it is too late."""

    async def _boot_controller(self, world: World, **options: Any) -> Controller:
        controller = await super()._boot_controller(world, **options)
        while not all(order.is_terminal for order in controller.loop.state.orders.values()):
            await asyncio.sleep(0)
        return controller


@pytest.mark.parametrize("trimmed", [False, True])
async def test_an_order_that_ends_while_the_engine_is_opened_is_followed(here: Path, trimmed: bool) -> None:
    workflow = workflow_from_text(GATED, standard_language())
    async with Engine(here / "state", snapshot_every_records=3 if trimmed else 100_000) as before:
        stream = before.events()
        await before.add_order(workflow, {"gate": str(here / "gate")}, order_id="old")
        async for happening in stream:
            if isinstance(happening.event, AttemptStarted) and happening.event.attempt == 2:
                break
        while trimmed and stat(str(here / "state/controller/journal.db")).first < 10:
            other = await before.add_order(workflow_from_text(HELLO, standard_language()))
            await other.result()
    (here / "gate").touch()
    face = Face()
    with Logging(debug=False) as log:
        request = Request(here / "workflow.yaml", here / "state")
        session = Session(request, workflow, {}, face, SilentScreen(face), log)
        session._engine = Tardy(here / "state")
        ending = await session.run()
    assert (ending.code, ending.order.id) == (ExitCode.FINISHED, "old")
    labels = [step.label for step in ending.table.steps()]
    assert labels == (["second", "third"] if trimmed else ["first", "second", "third"])
    assert counts(here) == {"first": 1, "second": 1, "third": 1}


def test_an_order_whose_end_was_kept_is_not_gone_on_with(here: Path) -> None:
    """Nobody may have been told of it, but it has ended: the same command begins another one."""
    (here / "gate").touch()
    with Running("run", "workflow.yaml", "-p", gate(here), "--id", "old", cwd=here) as first:
        first.until("finished")
        first.process.kill()
    done = engine("run", "workflow.yaml", "-p", gate(here), "--output", "json", cwd=here)
    assert done.returncode == ExitCode.FINISHED, done.stderr
    assert json.loads(done.stdout)["order"] != "old"


class Hesitant(Session):
    """A session that looks around before each event it hears: it must not judge by what it has not heard yet."""

    async def _read(self, stream: EventStream) -> None:
        async for happening in stream:
            await self._news.put(None)
            while not self._news.empty():
                await asyncio.sleep(0)
            for _ in range(10):
                await asyncio.sleep(0)
            await self._news.put(happening)


async def test_a_resumed_order_is_not_taken_for_a_suspended_one(here: Path) -> None:
    workflow = workflow_from_text(GATED, standard_language())
    async with Engine(here / "state") as before:
        order = await before.add_order(workflow, {"gate": str(here / "gate")}, order_id="old")
        await order.suspend()
        (here / "gate").touch()
        async for happening in before.events(START):
            if isinstance(happening.event, OrderSuspended):
                break
    face = Face()
    with Logging(debug=False) as log:
        request = Request(here / "workflow.yaml", here / "state")
        ending = await Hesitant(request, workflow, {}, face, SilentScreen(face), log).run()
    assert ending.code is ExitCode.FINISHED


async def test_ctrl_c_before_an_order_began_runs_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Engine.deploy

    async def deploy(self: Engine, workflow: Workflow) -> WorkflowId:
        os.kill(os.getpid(), signal.SIGINT)
        return await original(self, workflow)

    monkeypatch.setattr(Engine, "deploy", deploy)
    workflow = workflow_from_text(GATED, standard_language())
    request = Request(here / "workflow.yaml", here / "state")
    face = Face()
    with Logging(debug=False) as log:
        session = Session(request, workflow, {"gate": str(here / "gate")}, face, SilentScreen(face), log)
        with pytest.raises(Ended) as ended:
            await session.run()
    assert ended.value.code is ExitCode.INTERRUPTED
    assert counts(here) == {}


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
    waiting = 'echo 1 >> "$GATE.third"\n      while [ ! -e "$GATE.told" ]; do sleep 0.02; done'
    write(here, GATED.replace('shell: echo 1 >> "$GATE.third"', f"shell: |\n      {waiting}"))
    with begun(here) as running:
        running.out.close()
        (here / "gate").touch()  # what is said of it then meets a closed pipe, while the third job runs
        until_marked(here, running)
        (here / "gate.told").touch()
        assert running.process.wait(60) == ExitCode.SUSPENDED
        assert running.err() == ""
    (here / "gate.told").unlink()  # it is no count
    assert engine("run", "workflow.yaml", cwd=here).returncode == ExitCode.FINISHED
    assert counts(here) == {"first": 1, "second": 1, "third": 1}


def test_debug_shows_log_lines_and_no_picture(here: Path) -> None:
    write(here, HELLO, "hello.yaml")
    argv = [sys.executable, "-m", "engine", "run", "hello.yaml", "--debug", "-p", "who=hunter2"]
    done = subprocess.run(argv, cwd=here, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.FINISHED
    assert " asyncio: " in done.stderr or "understudy." in done.stderr
    assert "greeting = hello hunter2" in done.stdout
    assert "hunter2" not in done.stderr, "what people hand to a workflow is in no log"
    assert "hunter2" not in (here / ".understudy/log/run.log").read_text()
