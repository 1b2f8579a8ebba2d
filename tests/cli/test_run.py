"""`run` in this very process: how orders end, what is said, what is refused.

Tests: engine/cli/run.py, engine/cli/choice.py, engine/cli/closing.py
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.base.ids import AgentId, OrderId, SubagentId
from engine.cli.choice import agents_needed, bundles_needed
from engine.cli.closing import say_ending, tail_of
from engine.cli.exits import ExitCode
from engine.cli.face import Face
from engine.cli.main import main
from engine.cli.request import Request
from engine.cli.steps import StepTable
from engine.documents.convert import workflow_from_text
from engine.language import standard_language
from engine.model.order import Order, OrderState
from engine.model.outcome import failed
from engine.model.workflow import Workflow, WorkflowId
from tests.cli.shell import HELLO, engine, environment, write

FAILING = """\
name: failing
steps:
  - fork:
      good:
        - job: fine
          shell: echo all is well
      bad:
        - job: broken
          shell: |
            for i in $(seq 30); do echo "err $i" >&2; done
            printf 'out \\033[31mred\\377\\n'
            exit 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def json_of(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_success_is_told_with_the_results(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here, HELLO)
    assert main(["run", "workflow.yaml", "-p", "who=Ada"]) == ExitCode.FINISHED
    written = capsys.readouterr()
    heading, *lines = written.out.splitlines()
    assert f"of workflow hello, version {heading.split('version ')[1][:10]}, begins" in heading
    assert f"process {os.getpid()}" in heading
    assert [line.split("  ")[-1] for line in lines[:-2] if "greet" in line] == [
        "starts, attempt 1",
        next(line.split("  ")[-1] for line in lines if "succeeded" in line),
    ]
    assert lines[-1] == "  greeting = hello Ada"
    assert written.err == ""
    assert (here / ".understudy/log/run.log").exists()


def test_json_output_is_one_object_and_nothing_else(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here, HELLO)
    assert main(["run", "workflow.yaml", "--output", "json", "--id", "h-1", "--state", "s"]) == ExitCode.FINISHED
    written = capsys.readouterr()
    assert written.err == ""
    found = json.loads(written.out)
    assert (found["order"], found["workflow"], found["state"], found["exit_code"]) == ("h-1", "hello", "finished", 0)
    assert found["outcome"]["kind"] == "succeeded"
    assert found["results"] == {"greeting": "hello world"}
    assert found["state_directory"] == "s"
    (step,) = found["steps"]
    assert (step["label"], step["position"], step["order"], step["attempt"]) == ("greet", "0", "h-1", 1)
    assert (step["state"], step["return_code"]) == ("succeeded", 0)
    assert step["started"] <= step["ended"]
    assert Path(step["files"], "out").exists()


def test_a_failure_is_told_with_the_last_lines_and_the_files(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here, FAILING)
    assert main(["run", "workflow.yaml", "--id", "f-1"]) == ExitCode.FAILED
    err = capsys.readouterr().err
    assert err.startswith("Order f-1 failed with return code 3: in branch bad")
    assert "order/bad broken, attempt 1: failed with return code 3 after " in err
    assert "    err 21\n" in err
    assert "    err 30\n" in err
    assert "err 20\n" not in err
    assert "    out \\u001b[31mred\ufffd\n" in err
    assert "fine" not in err
    folder = Path(err.rpartition("its files: ")[2].strip())
    assert (folder / "err").read_text().count("\n") == 30


def test_json_of_a_failure(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here, FAILING)
    assert main(["run", "workflow.yaml", "--output", "json"]) == ExitCode.FAILED
    found = json_of(capsys)
    assert (found["state"], found["exit_code"], found["results"]) == ("failed", 1, None)
    (broken,) = [step for step in found["steps"] if step["label"] == "broken"]
    assert (broken["state"], broken["return_code"]) == ("failed", 3)
    assert Path(broken["files"], "err").exists()


def test_a_callable_beside_the_document_is_found_and_may_print(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = here / "elsewhere"
    folder.mkdir()
    (folder / "beside_document.py").write_text("def double(n):\n    print('noise')\n    return {'doubled': 2 * n}\n")
    steps = "steps:\n  - job: d\n    python: beside_document:double\n    arguments: {n: '${n}'}\n"
    write(folder, f"name: py\nparameters:\n  n: integer\n{steps}results:\n  doubled: ${{doubled}}\n")
    assert main(["run", "elsewhere/workflow.yaml", "-p", "n=21", "--output", "json"]) == ExitCode.FINISHED
    written = capsys.readouterr()
    assert json.loads(written.out)["results"] == {"doubled": 42}
    assert written.err == "noise\n"


def test_a_callable_that_fails_names_the_log(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here, "name: py\nsteps:\n  - job: d\n    python: json:loads\n    arguments: {s: '{'}\n")
    assert main(["run", "workflow.yaml"]) == ExitCode.FAILED
    err = capsys.readouterr().err
    assert "JSONDecodeError" in err
    assert "details: .understudy/log/run.log" in err
    assert "Traceback" in (here / ".understudy/log/run.log").read_text()


def test_every_agent_and_bundle_that_is_named_is_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agents = "  - job: a\n    shell: echo\n    agent: berlin\n  - job: b\n    shell: echo\n    bundle: big\n"
    write(here, f"name: far\nsteps:\n{agents}")
    assert main(["run", "workflow.yaml", "--output", "json"]) == ExitCode.FINISHED
    files = [step["files"].split("/")[1] for step in json_of(capsys)["steps"]]
    assert files == ["subagent-berlin", "subagent-local"]
    write(here, HELLO)
    assert main(["run", "workflow.yaml"]) == ExitCode.FINISHED, "an agent of an earlier order is no obstacle"


def test_agents_and_bundles_are_read_from_workflow_and_state(tmp_path: Path) -> None:
    steps = (
        "  - fork:\n      x:\n        - job: a\n          shell: echo\n          agent: berlin\n          bundle: big\n"
    )
    workflow = workflow_from_text(f"name: far\nagent: home\nsteps:\n{steps}", standard_language())
    for name in ("agent-oslo", "agent-bad name", "controller"):
        (tmp_path / name).mkdir()
    assert agents_needed(workflow, Request(Path("w"), tmp_path)) == ("local", "berlin", "oslo")
    (bundle,) = bundles_needed(workflow)
    assert (bundle.id, bundle.agent, bundle.priorities) == (
        "big",
        AgentId("berlin"),
        {SubagentId("subagent-berlin"): 1},
    )


def test_an_agent_s_name_that_can_not_be_is_the_document_s_fault(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for agent in ("'no spaces'", "a" * 95):
        write(here, f"name: far\nagent: {agent}\nsteps:\n  - job: a\n    shell: echo\n")
        assert main(["run", "workflow.yaml"]) == ExitCode.DOCUMENT
        assert capsys.readouterr().err.startswith("workflow.yaml")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["gone.yaml"], ExitCode.DOCUMENT, "gone.yaml: The file cannot be read: No such file or directory."),
        (["workflow.yaml", "-p", "cuont=1"], ExitCode.USAGE, "no parameter 'cuont'"),
        (["workflow.yaml", "-p", "who"], ExitCode.USAGE, "-p takes name=value, not 'who'."),
        (["workflow.yaml", "-p", "who=a", "-p", "who=b"], ExitCode.USAGE, "given twice"),
        (["workflow.yaml", "--id", "no spaces"], ExitCode.USAGE, "'no spaces' can not be an order's id"),
        (["workflow.yaml", "--new", "--release", "fail"], ExitCode.USAGE, "leave one out"),
        (["workflow.yaml", "--release", "fail"], ExitCode.USAGE, "there is nothing to release"),
        (["workflow.yaml", "--release", "fail", "--id", "x"], ExitCode.USAGE, "Order x is not unfinished"),
        (["workflow.yaml", "--state", "workflow.yaml"], ExitCode.STATE, "workflow.yaml"),
    ],
)
def test_what_can_not_be_run_is_a_sentence(
    arguments: list[str], code: ExitCode, sentence: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(here, HELLO)
    assert main(["run", *arguments]) == code
    written = capsys.readouterr()
    assert written.out == ""
    assert sentence in written.err
    assert written.err.count("\n") == 1
    assert "Traceback" not in written.err


def test_a_wrong_document_touches_no_state(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here, "name: w\nstops: []\n")
    assert main(["run", "workflow.yaml"]) == ExitCode.DOCUMENT
    assert "workflow.yaml:2:1: stops: " in capsys.readouterr().err
    assert not (here / ".understudy").exists()


def test_an_order_that_is_named_runs_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here, HELLO)
    assert main(["run", "workflow.yaml", "--id", "once"]) == ExitCode.FINISHED
    capsys.readouterr()
    assert main(["run", "workflow.yaml", "--id", "once", "--output", "json"]) == ExitCode.FINISHED
    written = capsys.readouterr()
    assert written.err == "Order once ended before, finished; nothing was run.\n"
    assert json.loads(written.out)["results"] == {"greeting": "hello world"}
    assert len(json.loads(written.out)["steps"]) == 1
    assert main(["run", "workflow.yaml", "--id", "once", "--new"]) == ExitCode.USAGE
    assert "exists already" in capsys.readouterr().err
    write(here, HELLO.replace("name: hello", "name: other"), "other.yaml")
    assert main(["run", "other.yaml", "--id", "once"]) == ExitCode.USAGE
    assert "is one of workflow hello" in capsys.readouterr().err


def test_a_version_that_was_changed_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here, HELLO.replace("steps:", 'version: "1"\nsteps:'))
    assert main(["run", "workflow.yaml"]) == ExitCode.FINISHED
    write(here, HELLO.replace("steps:", 'version: "1"\nsteps:').replace("hello $WHO", "bye $WHO"))
    capsys.readouterr()
    assert main(["run", "workflow.yaml"]) == ExitCode.DOCUMENT
    assert "deployed already with another content; choose a new version" in capsys.readouterr().err


def test_a_value_no_order_can_keep_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here, "name: w\nparameters:\n  n: integer\nsteps:\n  - sleep: 0s\n")
    assert main(["run", "workflow.yaml", "-p", f"n={2**70}"]) == ExitCode.USAGE
    assert "does not fit into 64 bits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "tail"),
    [
        (b"", []),
        (b"one\ntwo\n", ["one", "two"]),
        (b"no end", ["no end"]),
        (b"a\tb\r\n\x1b[2J\xff", ["a       b", "\\u001b[2J\ufffd"]),
        (b"x" * 100_000, ["x" * 400 + "…"]),
        (b"".join(b"%d\n" % number for number in range(100_000)), [str(n) for n in range(99_990, 100_000)]),
    ],
)
def test_the_tail_of_a_log(content: bytes, tail: list[str], tmp_path: Path) -> None:
    path = tmp_path / "err"
    path.write_bytes(content)
    assert tail_of(path) == tail


def test_a_log_that_is_not_there_has_no_tail(tmp_path: Path) -> None:
    assert tail_of(tmp_path / "gone") == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_order_whose_output_can_not_be_written_is_suspended_for_the_disk(here: Path) -> None:
    write(here, HELLO)
    argv = [sys.executable, "-m", "engine", "run", "workflow.yaml", "--id", "h-1"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            argv, cwd=here, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == ExitCode.STATE, done.stderr
    assert done.stderr == (
        "Standard output can not be written: No space left on device.\n"
        "Order h-1 is suspended. `python -m engine run workflow.yaml --id h-1` goes on where it was.\n"
    )
    assert engine("run", "workflow.yaml", "--id", "h-1", cwd=here).returncode == ExitCode.FINISHED


def test_a_state_directory_without_a_name_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(here, HELLO)
    assert main(["run", "workflow.yaml", "--state", ""]) == ExitCode.USAGE
    assert "--state needs the name of a directory" in capsys.readouterr().err
    assert list(here.iterdir()) == [path]
    assert main(["run", "workflow.yaml", "--state", "."]) == ExitCode.FINISHED


def test_a_broken_order_says_once_why(capsys: pytest.CaptureFixture[str]) -> None:
    order = Order(
        id=OrderId("o"),
        workflow=WorkflowId("w@1"),
        added=1,
        variables={},
        state=OrderState.BROKEN,
        outcome=failed("No rule foresaw it."),
    )
    table = StepTable(order.id, Workflow("w", "1", ()))
    say_ending(Face(), Request(Path("w.yaml")), ExitCode.FAILED, table, order, json=False)
    assert capsys.readouterr().err == "Order o broke: No rule foresaw it.\n"
