"""`sim run | replay | timeline`: over workflow documents and Python files, good ones and wrong ones.

Tests: engine/cli/sim.py, engine/cli/sim_file.py
"""

import json
import shlex
import sys
from pathlib import Path

import pytest

from engine.cli.exits import ExitCode
from engine.cli.main import main
from engine.cli.sim_file import Asked
from engine.simulation import seeds as seeds_module
from engine.simulation.seeds import WANTED
from tests.cli.shell import HELLO, engine, write

PYTHON = """\
from engine import Workflow, job
from engine.simulation.simulate import simulate

WORK = Workflow("work", job("one", shell="work", on_lost="rerun"))

@simulate(seeds=3, faults=None)
async def test_good(sim):
    await sim.add_order(WORK)
    sim.sometimes("an order was added")

@simulate(seeds=3, faults=None)
async def test_bad(sim):
    await sim.add_order(WORK)
    assert sim.seed != 2, "seed 2 is bad"

@simulate(seeds=1)
async def test_of_pytest(sim, tmp_path):
    pass
"""
PARAMETERS = """\
name: sum
parameters:
  n: integer
steps:
  - job: first
    shell: one
    on_lost: rerun
  - job: second
    shell: two
    environment: {X: "${x}"}
    on_lost: rerun
"""
SOON = ("--seeds", "2", "--orders", "2", "--seconds", "5")


@pytest.fixture(autouse=True)
def nothing_wanted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("UNDERSTUDY_SEED", "UNDERSTUDY_SEEDS", "UNDERSTUDY_CORPUS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(WANTED, "corpus", None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hello(tmp_path: Path) -> str:
    return str(write(tmp_path, HELLO))


@pytest.fixture
def tests(tmp_path: Path) -> str:
    return str(write(tmp_path, PYTHON, "test_it.py"))


# --- documents


def test_a_workflow_is_run_in_whole_clusters_and_told_in_figures(
    hello: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sim", "run", hello, *SOON, "--controllers", "2", "--agents", "local=3,far", "-p", "who=Ada"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "hello"
    assert lines[1].startswith("  2 seeds: ")
    assert " messages, " in lines[2]
    assert " failover" in lines[2]
    assert " faults: " in lines[3]
    assert lines[4].startswith("  4 orders: ")


def test_json_is_one_object(hello: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "run", hello, *SOON, "--output", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    (test,) = found["tests"]
    assert (test["test"], test["seeds"], test["failure"], test["never"]) == ("hello", 2, None, [])
    assert sum(test["orders"].values()) == 4
    assert test["hours_per_cpu_hour"] > 1


def test_jobs_may_be_said_to_give_results_and_it_is_told_when_they_should(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(write(tmp_path, PARAMETERS))
    assert main(["sim", "run", file, *SOON, "-p", "n=5"]) == 0
    assert "say with --jobs FILE which results they give" in capsys.readouterr().out
    jobs = str(write(tmp_path, "first: {ms_max: 50, results: {x: 1}}\n'*':\n", "jobs.yaml"))
    assert main(["sim", "run", file, *SOON, "-p", "n=5", "--jobs", jobs]) == 0
    assert "4 orders: finished 4" in capsys.readouterr().out


def test_a_replay_prints_the_same_timeline_every_time(hello: str, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for _ in range(2):
        assert main(["sim", "replay", "3", hello, "--orders", "1", "--seconds", "5"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert "OrderAdded hello-1" in texts[0]
    assert texts[0].endswith("\nseed 3 of hello: nothing was found\n")
    assert main(["sim", "replay", "4", hello, "--orders", "1", "--seconds", "5"]) == 0
    assert capsys.readouterr().out != texts[0]


def test_a_timeline_is_one_page(hello: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "timeline", "3", hello, "--orders", "1", "--seconds", "5"]) == 0
    assert capsys.readouterr().out.startswith("Wrote lanes.html (")
    page = (tmp_path / "lanes.html").read_text("utf-8")
    assert "<title>seed 3 of hello</title>" in page
    assert "local-1#1" in page
    assert "attempt 1 of hello-1" in page
    assert main(["sim", "timeline", "3", hello, "--out", "no/such/place.html"]) == ExitCode.STATE
    assert "can not be written" in capsys.readouterr().err


# --- Python files


def test_a_failing_seed_is_told_with_the_command_that_replays_it(
    tests: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sim", "run", tests]) == ExitCode.FAILED
    out = capsys.readouterr().out
    assert "test_good\n  3 seeds: " in out
    assert "  met: an order was added\n" in out
    assert "FAILED at seed 2:\n    seed 2 is bad\n" in out
    assert "It is kept in " in out
    (command,) = [line.partition(": ")[2] for line in out.splitlines() if "Replay it" in line]
    words = shlex.split(command)
    assert main(words[words.index("sim") :]) == ExitCode.FAILED
    replayed = capsys.readouterr().out
    assert "OrderAdded work-1" in replayed
    assert replayed.endswith("seed 2 of test_bad: seed 2 is bad\n")


def test_kept_seeds_are_run_first_and_shared_with_pytest(
    tests: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["sim", "run", tests, "--test", "test_bad"])
    (kept,) = (tmp_path / ".understudy-seeds").iterdir()
    assert json.loads(kept.read_text())["test"] == "test_it.py::test_bad"
    capsys.readouterr()
    assert main(["sim", "run", tests, "--test", "test_bad", "--seeds", "1", "--output", "json"]) == ExitCode.FAILED
    written = capsys.readouterr()
    assert "seeds that failed before are run first: 2" in written.err
    failure = json.loads(written.out)["tests"][0]["failure"]
    assert (failure["seed"], failure["found"]) == (2, ["seed 2 is bad"])
    assert failure["replay"].endswith("--test test_bad")


def test_a_seed_that_fails_is_drawn_with_what_was_found(tests: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "timeline", "2", tests, "--test", "test_bad", "--out", "x.html"]) == 0
    assert "seed 2 of test_bad: seed 2 is bad" in capsys.readouterr().err
    assert "seed 2 is bad" in Path("x.html").read_text("utf-8")


def test_what_no_seed_meets_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, PYTHON.replace('sim.sometimes("an order was added")', 'sim.sometimes("x", False)'), "t.py")
    assert main(["sim", "run", str(file), "--test", "test_good"]) == ExitCode.FAILED
    written = capsys.readouterr()
    assert "NEVER MET: x" in written.out
    assert "In none of 3 seeds of test_good: x. Try more seeds." in written.err


def test_ctrl_c_tells_what_has_been_done(
    tests: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, ran = seeds_module.run_one, [0]

    def interrupted(*arguments: object) -> object:
        ran[0] += 1
        if ran[0] == 2:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(seeds_module, "run_one", interrupted)
    assert main(["sim", "run", tests, "--test", "test_good"]) == ExitCode.INTERRUPTED
    assert "test_good\n  1 seed: " in capsys.readouterr().out


# --- mistakes of people

BAD: list[tuple[list[str], ExitCode, str]] = [
    (["run", "none.yaml"], ExitCode.DOCUMENT, "none.yaml"),
    (["run", "none.py"], ExitCode.STATE, "none.py can not be read: there is no such file."),
    (["run", "broken.py"], ExitCode.DOCUMENT, "broken.py:2: the file can not be loaded: ZeroDivisionError"),
    (["run", "syntax.py"], ExitCode.DOCUMENT, "syntax.py:1: the file can not be loaded: SyntaxError"),
    (["run", "empty.py"], ExitCode.USAGE, "Of tests with @simulate in empty.py there is none that can be run here."),
    (["run", "test_it.py", "--orders", "3"], ExitCode.USAGE, "--orders is for workflow documents"),
    (["run", "test_it.py", "--test", "x"], ExitCode.USAGE, "no simulated test 'x'; there are test_good, test_bad"),
    (["run", "test_it.py", "--test", "x"], ExitCode.USAGE, "(test_of_pytest takes tmp_path: run such tests by pytest)"),
    (["replay", "1", "test_it.py"], ExitCode.USAGE, "has several simulated tests, test_good, test_bad: choose one"),
    (["run", "workflow.yaml", "--test", "x"], ExitCode.USAGE, "--test chooses a test of a Python file"),
    (["run", "workflow.yaml", "-p", "who"], ExitCode.USAGE, "-p takes name=value"),
    (["run", "workflow.yaml", "-p", "x=1"], ExitCode.USAGE, "x"),
    (["run", "workflow.yaml", "--agents", "a=x"], ExitCode.USAGE, "--agents takes name=number"),
    (["run", "workflow.yaml", "--agents", "a=0"], ExitCode.USAGE, "This cluster can not be simulated: the number of"),
    (["run", "workflow.yaml", "--controllers", "3"], ExitCode.USAGE, "--controllers"),
    (["run", "workflow.yaml", "--jobs", "none"], ExitCode.STATE, "none can not be read: No such file"),
    (["run", "workflow.yaml", "--jobs", "jobs1"], ExitCode.DOCUMENT, "jobs1 does not say what jobs do: job a has 'x'"),
    (["run", "workflow.yaml", "--jobs", "jobs2"], ExitCode.DOCUMENT, "jobs2 does not say what jobs do: it is not"),
    (["run", "workflow.yaml", "--jobs", "jobs3"], ExitCode.DOCUMENT, "jobs3 does not say what jobs do: Expected `int`"),
    (["run", "workflow.yaml", "--jobs", "jobs4"], ExitCode.DOCUMENT, "jobs4 models job 'helo'; there are "),
    (["run", "workflow.yaml", "--jobs", "jobs5"], ExitCode.DOCUMENT, "ms_min 9 is above ms_max 5"),
    (["run", "workflow.yaml", "--jobs", "jobs6"], ExitCode.DOCUMENT, "fail_rate must be from 0 to 1, not 7"),
    (["run", "workflow.yaml", "--jobs", "jobs7"], ExitCode.DOCUMENT, "job a has 7 where the fields of a Duration"),
    (["run", "no_seeds.py"], ExitCode.DOCUMENT, "ValueError: seeds must be a number from 1 to 10000000, not 0"),
    (["replay", "-1", "workflow.yaml"], ExitCode.USAGE, "-1"),
    (["replay", "x", "workflow.yaml"], ExitCode.USAGE, "'x' is not a valid integer"),
    (["draw"], ExitCode.USAGE, "No such command 'draw'"),
]


@pytest.mark.parametrize(("words", "code", "sentence"), BAD)
@pytest.mark.usefixtures("hello", "tests")
def test_a_mistake_is_one_sentence_and_no_traceback(
    words: list[str], code: ExitCode, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in {
        "broken.py": "x = 1\nx / 0\n",
        "syntax.py": "def f(:\n",
        "empty.py": "x = 1\n",
        "jobs1": "a: {x: 1}",
        "jobs2": "[1]",
        "jobs3": "a: {ms_max: soon}",
        "jobs4": "helo: {ms_max: 5}",
        "jobs5": "'*': {ms_min: 9, ms_max: 5}",
        "jobs6": "'*': {fail_rate: 7}",
        "jobs7": "a: 7",
        "no_seeds.py": "from engine.simulation.simulate import simulate\nsimulate(seeds=0)\n",
    }.items():
        write(tmp_path, text, name)
    assert main(["sim", *words]) == code
    written = capsys.readouterr()
    assert sentence in written.err
    assert "Traceback" not in written.err
    assert written.out == ""


@pytest.mark.parametrize("command", ["run", "replay", "timeline"])
def test_every_command_has_help_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"engine sim {command}" in out
    assert "Examples:" in out
    assert "--controllers" in out


def test_options_are_repeated_as_a_shell_reads_them() -> None:
    asked = Asked(controllers=2, agents="a=2,b=1", arguments=("x=a b", "y=1"), seconds=2.5, jobs=Path("my jobs"))
    assert asked.words() == (
        " --controllers 2 --agents a=2,b=1 --arguments 'x=a b' --arguments y=1 --seconds 2.5 --jobs 'my jobs'"
    )
    assert Asked().words() == ""


def test_it_works_from_a_shell(tests: str, tmp_path: Path) -> None:
    done = engine("sim", "run", tests, "--test", "test_good", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("test_good\n  3 seeds: ")
