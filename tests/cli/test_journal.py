"""`journal verify | dump | stat` on what a run left. Tests: engine/cli/journal.py"""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.cli.exits import ExitCode
from engine.cli.main import main
from tests.cli.shell import HELLO, write

Ask = Callable[..., tuple[int, str, str]]

FORKING = """\
name: forking
steps:
  - fork:
      x: [{sleep: 0s}]
      y: [{sleep: 0s}]
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory after two orders."""
    folder = tmp_path_factory.mktemp("ran")
    state = str(folder / "state")
    write(folder, HELLO)
    write(folder, FORKING, "forking.yaml")
    assert main(["run", str(folder / "workflow.yaml"), "--state", state, "--id", "h-1"]) == ExitCode.FINISHED
    assert main(["run", str(folder / "forking.yaml"), "--state", state, "--id", "f-1"]) == ExitCode.FINISHED
    return folder / "state"


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    def asked(*arguments: object) -> tuple[int, str, str]:
        code = main(["journal", *map(str, arguments)])
        written = capsys.readouterr()
        return code, written.out, written.err

    return asked


def test_verify_looks_at_every_journal_of_a_state_directory(ran: Path, ask: Ask) -> None:
    code, out, err = ask("verify", ran)
    assert (code, err) == (ExitCode.FINISHED, "")
    assert [line.partition(": ")[0] for line in out.splitlines()] == [
        str(ran / "agent-local/journal.db"),
        str(ran / "controller/journal.db"),
        str(ran / "subagent-local/journal.db"),
    ]
    *with_orders, cells = out.splitlines()
    assert all(": sound, records 1 to " in line for line in with_orders)
    assert ": sound, no records" in cells, "a subagent keeps only cells"


def test_verify_names_the_damaged_record(ran: Path, ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    shutil.copy(ran / "controller/journal.db", path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE record SET events = zeroblob(10) WHERE number = 4")
    connection.commit()
    connection.close()
    code, out, _ = ask("verify", path)
    assert code == ExitCode.FAILED
    assert out.startswith(f"{path}: DAMAGED: record 4 ")
    code, out, _ = ask("verify", path, "--output", "json")
    found = json.loads(out)
    assert (code, found["ok"], found["journals"][0]["damaged"]) == (ExitCode.FAILED, False, 4)
    code, out, _ = ask("dump", path)
    assert code == ExitCode.FAILED
    assert "\n4  DAMAGED: record 4 " in out
    behind = [line.split()[2:4] for line in out.partition("\n4  DAMAGED")[2].splitlines()[1:]]
    for order in ("h-1", "f-1"):
        assert ["OrderFinished", order] in behind, "what can be read is shown"


def test_dump_shows_the_controller_s_journal(ran: Path, ask: Ask) -> None:
    code, out, _ = ask("dump", ran)
    assert code == ExitCode.FINISHED
    kinds = [line.split()[2] for line in out.splitlines()]
    assert kinds[0] == "EpochBegan"
    assert {"OrderAdded", "AttemptAssigned", "AttemptEnded", "OrderForked", "OrderFinished"} <= set(kinds)
    code, out, _ = ask("dump", ran, "--node", "agent-local")
    assert code == ExitCode.FINISHED
    assert "node=local" in out.splitlines()[0]


def test_dump_of_one_order_is_its_story_with_its_branches(ran: Path, ask: Ask) -> None:
    code, out, _ = ask("dump", ran, "--order", "f-1")
    assert code == ExitCode.FINISHED
    assert {line.split()[3] for line in out.splitlines()} == {"f-1", "f-1|x", "f-1|y"}
    assert out.splitlines()[0].split()[2] == "OrderAdded"
    code, out, err = ask("dump", ran, "--order", "nobody")
    assert (code, out) == (ExitCode.FAILED, "")
    assert err.startswith("There is nothing about order nobody in ")


def test_dump_is_bounded_and_says_how_to_go_on(ran: Path, ask: Ask) -> None:
    _, whole, _ = ask("dump", ran)
    code, out, err = ask("dump", ran, "--limit", 3)
    assert code == ExitCode.FINISHED
    assert out.splitlines() == whole.splitlines()[:3]
    assert err.startswith("There is more: the limit of 3 is reached. Go on with --after ")
    after = int(err.rstrip(".\n").rpartition(" ")[2])
    _, out, _ = ask("dump", ran, "--after", after)
    assert out.splitlines()[-1] == whole.splitlines()[-1]
    assert all(int(line.partition(".")[0]) > after for line in out.splitlines())


def test_dump_as_json_is_an_object_for_each_event(ran: Path, ask: Ask) -> None:
    _, out, _ = ask("dump", ran, "--output", "json", "--order", "h-1")
    found = [json.loads(line) for line in out.splitlines()]
    assert found[0]["event"] == "OrderAdded"
    assert found[0]["fields"]["variables"] == {"who": "world"}
    assert [one["index"] for one in found] == sorted(one["index"] for one in found)


def test_stat(ran: Path, ask: Ask) -> None:
    code, out, _ = ask("stat", ran / "controller")
    assert code == ExitCode.FINISHED
    assert out.startswith(f"{ran / 'controller/journal.db'}\n  records 1 to ")
    assert "2 epochs" in out
    _, out, _ = ask("stat", ran, "--output", "json")
    found = json.loads(out)["journals"]
    folders = ("agent-local", "controller", "subagent-local")
    assert [one["path"] for one in found] == [str(ran / folder / "journal.db") for folder in folders]
    assert found[1]["records"] == found[1]["last"]


@pytest.mark.parametrize("command", ["verify", "dump", "stat"])
@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("gone", "There is no journal at "),
        (".", "There is no journal in "),
        ("workflow.yaml", "is damaged (file is not a database)"),
        ("empty.db", "There is no journal at "),
    ],
)
def test_what_is_no_journal_is_a_sentence(command: str, place: str, sentence: str, tmp_path: Path, ask: Ask) -> None:
    write(tmp_path, HELLO)
    (tmp_path / "empty.db").touch()
    code, out, err = ask(command, tmp_path / place)
    if command == "verify" and place in ("workflow.yaml", "empty.db"):
        assert code in (ExitCode.FAILED, ExitCode.STATE)
        return
    assert (code, out) == (ExitCode.STATE, "")
    assert sentence in err
    assert err.count("\n") == 1


def test_a_node_that_is_not_there_is_named(ran: Path, ask: Ask) -> None:
    code, _, err = ask("dump", ran, "--node", "agent-rome")
    assert code == ExitCode.USAGE
    assert "there are those of agent-local, controller" in err


def test_nothing_is_written(ran: Path, ask: Ask) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(ran.rglob("*"))}
    for command in ("verify", "dump", "stat"):
        ask(command, ran)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(ran.rglob("*"))} == before
