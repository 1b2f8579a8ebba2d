"""`init`: a workflow that runs.

Tests: engine/cli/init.py
"""

from pathlib import Path

import pytest

from engine.cli.exits import ExitCode
from engine.cli.main import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_it_writes_is_right_and_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == ExitCode.FINISHED
    out = capsys.readouterr().out
    assert out.startswith("Wrote workflow.yaml. Run it:\n")
    assert out.splitlines()[1].endswith(" run workflow.yaml")
    assert main(["check", "workflow.yaml"]) == ExitCode.FINISHED
    assert main(["run", "workflow.yaml", "-p", "name=Ada", "--state", "state"]) == ExitCode.FINISHED
    out = capsys.readouterr().out
    assert "greeting = Hello, Ada!" in out
    assert 'echoes = {"loud":"HELLO, ADA!","slow":"hello, ada!"}' in out


def test_it_makes_the_directory_and_names_the_way(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "a/b c"]) == ExitCode.FINISHED
    assert capsys.readouterr().out.splitlines()[1].endswith(" run 'a/b c/workflow.yaml'")
    header = (here / "a/b c/workflow.yaml").read_text()
    assert " run 'a/b c/workflow.yaml' -p name=Ada\n" in header


def test_nothing_is_overwritten_without_force(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = here / "workflow.yaml"
    path.write_text("mine")
    assert main(["init"]) == ExitCode.STATE
    assert path.read_text() == "mine"
    written = capsys.readouterr()
    assert (written.out, written.err) == (
        "",
        "workflow.yaml is there already; choose another directory, or add --force.\n",
    )
    assert main(["init", "--force"]) == ExitCode.FINISHED
    assert path.read_text().startswith("# A workflow for Understudy")


def test_a_file_in_the_way_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "folder").write_text("")
    assert main(["init", "folder"]) == ExitCode.STATE
    assert capsys.readouterr().err.startswith("folder is there already")
    assert main(["init", "folder/below"]) == ExitCode.STATE
    assert "can not be written: Not a directory" in capsys.readouterr().err
