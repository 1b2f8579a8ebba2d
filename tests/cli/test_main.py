"""The frame: help, wrong words, people's mistakes, our mistakes, a reader that goes away.

Tests: engine/cli/main.py, engine/cli/crash.py, engine/cli/face.py, engine/cli/exits.py, engine/__main__.py
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine.cli import main as frame
from engine.cli.crash import report_crash
from engine.cli.exits import Ended, ExitCode
from engine.cli.face import Face
from engine.cli.main import COMMANDS, LazyGroup, main
from tests.cli.shell import ROOT, engine, environment


def test_help_names_every_command_and_imports_none_of_them(tmp_path: Path) -> None:
    script = (
        "import sys; from engine.cli.main import main; code = main(['--help']);"
        "heavy = [m for m in ('asyncio', 'msgspec', 'rich', 'structlog', 'engine.embed', 'engine.language', 'yaml')"
        " if m in sys.modules]; assert not heavy, heavy; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    for name, text in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(text)}$", done.stdout, re.MULTILINE)


def test_version_does_without_the_engine_and_rich(tmp_path: Path) -> None:
    script = (
        "import sys; from engine.cli.main import main; code = main(['version']);"
        "heavy = [m for m in ('asyncio', 'rich', 'structlog', 'engine.embed', 'yaml') if m in sys.modules];"
        "assert not heavy, heavy; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == ExitCode.FINISHED
    out = capsys.readouterr().out
    assert "Usage:" in out
    assert "Examples:" in out
    assert f"engine {command}" in out
    assert not [line for line in out.splitlines() if len(line) > 100]


def test_no_command_is_a_wrong_usage_and_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == ExitCode.USAGE
    assert "Commands:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["rnu"], "did you mean 'run'?"),
        (["--hlep"], "Did you mean '--help'?"),
        (["run", "x.yaml", "--relase", "fail"], "Did you mean '--release'?"),
        (["journal", "vrfy"], "Did you mean 'verify'?"),
        (["something"], "there are run, check, init, journal, sim, version"),
        (["run"], "Missing argument 'FILE'"),
        (["run", "x.yaml", "--release", "perhaps"], "'rerun', 'fail'"),
        (["run", "x.yaml", "--output", "xml"], "'text', 'json'"),
    ],
)
def test_a_wrong_word_is_answered_by_the_right_one(
    arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == ExitCode.USAGE
    written = capsys.readouterr()
    assert written.out == ""
    assert meant in written.err
    assert "--help' for help" in written.err


def test_names_of_commands_agree_with_the_modules() -> None:
    group = LazyGroup("engine")
    for name in COMMANDS:
        command = group.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        assert command.name == name


def test_a_mistake_of_ours_is_one_line_and_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(face: Face, _arguments: object) -> ExitCode:
        face.state = tmp_path
        raise ZeroDivisionError("seven\nby nothing")

    (tmp_path / "log").mkdir()
    monkeypatch.setattr(frame, "_ended", broken)
    assert main(["version"]) == ExitCode.MISTAKE
    written = capsys.readouterr()
    assert written.out == ""
    assert len(written.err.splitlines()) == 1
    assert written.err.startswith("A mistake of ours: ZeroDivisionError: seven by nothing.")
    (kept,) = (tmp_path / "log").iterdir()
    assert str(kept) in written.err
    assert "Traceback" in kept.read_text()
    assert 'raise ZeroDivisionError("seven\\nby nothing")' in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0


def test_with_debug_the_traceback_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    face = Face()
    face.debug = True
    report_crash(face, ZeroDivisionError("seven"))
    assert "ZeroDivisionError: seven" in capsys.readouterr().err


def test_where_no_crash_file_can_be_written_the_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "gone"))
    report_crash(Face(), ZeroDivisionError("seven"))
    assert "--debug" in capsys.readouterr().err


def test_ctrl_c_outside_of_a_run_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pressed(_face: Face, _arguments: object) -> ExitCode:
        raise KeyboardInterrupt

    monkeypatch.setattr(frame, "_ended", pressed)
    assert main(["version"]) == ExitCode.INTERRUPTED
    assert capsys.readouterr().err == "Interrupted.\n"


def test_an_ending_is_its_sentence_and_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(_face: Face, _arguments: object) -> ExitCode:
        raise Ended(ExitCode.IN_USE, "It is in use.")

    monkeypatch.setattr(frame, "_ended", ended)
    assert main(["version"]) == ExitCode.IN_USE
    assert capsys.readouterr().err == "It is in use.\n"


def test_a_reader_that_went_away_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m engine --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("words", ["version", "--help", "run --help", "journal dump --help"])
def test_output_that_can_not_be_written_is_told(words: str, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        argv = [sys.executable, "-m", "engine", *words.split()]
        done = subprocess.run(
            argv, cwd=tmp_path, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == ExitCode.STATE
    assert done.stderr == "Standard output can not be written: No space left on device.\n"


def test_another_fault_of_the_system_is_not_taken_for_one_of_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(frame.root, "main", broken)
    assert main(["version"]) == ExitCode.MISTAKE
    assert "A mistake of ours: OSError" in capsys.readouterr().err


def test_closed_streams_are_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m engine version >&- 2>&-"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment(), check=False)
    assert done.returncode == 0


def test_what_the_terminal_can_not_show_is_escaped(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "engine", "check", "wörk.yaml"]
    ascii_only = {**environment(), "PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"}
    done = subprocess.run(argv, cwd=tmp_path, env=ascii_only, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.DOCUMENT
    assert done.stdout.startswith("w\\xf6rk.yaml: ")


def test_the_page_of_exit_codes_is_right() -> None:
    page = (ROOT / "docs/exit-codes.md").read_text()
    told = {int(code): name for code, name in re.findall(r"^\| (\d+) \| ([a-z ]+) \|", page, re.MULTILINE)}
    assert told == {code.value: code.name.lower().replace("_", " ") for code in ExitCode}


def test_the_door_leaves_with_the_code(tmp_path: Path) -> None:
    assert engine("version", cwd=tmp_path).returncode == 0
    assert engine("nothing", cwd=tmp_path).returncode == 2
