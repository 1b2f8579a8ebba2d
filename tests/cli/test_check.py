"""`check`: every fault of every file.

Tests: engine/cli/check.py, engine/cli/document.py
"""

import json
from pathlib import Path

import pytest

from engine.cli.document import read_workflow
from engine.cli.exits import Ended, ExitCode
from engine.cli.main import main
from engine.language import standard_language
from tests.cli.shell import HELLO, write

WRONG = """\
name: wrong
steps:
  - jb: a
    shell: echo
  - job: b
    shell: echo
    timeout: soon
"""


def test_a_right_file_is_ok_with_its_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, HELLO)
    assert main(["check", str(path)]) == ExitCode.FINISHED
    assert capsys.readouterr().out == f"{path}: ok, 1 step\n"


def test_all_faults_of_all_files_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right, wrong, gone = write(tmp_path, HELLO), write(tmp_path, WRONG, "wrong.yaml"), tmp_path / "gone.yaml"
    assert main(["check", str(right), str(wrong), str(gone)]) == ExitCode.DOCUMENT
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{right}: ok, 1 step"
    assert out[1].startswith(f"{wrong}:3:5: steps[0]")
    assert "needs a name" in out[1]
    assert out[2].startswith(f"{wrong}:7:14: steps[1].timeout: ")
    assert out[3].startswith(f"{gone}: ")
    assert "No such file" in out[3]
    assert len(out) == 4


def test_json_output_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right, wrong = write(tmp_path, HELLO), write(tmp_path, WRONG, "wrong.yaml")
    assert main(["check", str(right), str(wrong), "--output", "json"]) == ExitCode.DOCUMENT
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert [one["ok"] for one in found["files"]] == [True, False]
    assert found["files"][0]["steps"] == 1
    fault = found["files"][1]["faults"][0]
    assert (fault["line"], fault["column"], fault["path"]) == (3, 5, "steps[0]")
    assert fault["sentence"].endswith(".")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("deep.yaml", b"a: " + b"[" * 10_000),
        ("deep.json", b"[" * 10_000),
        ("binary.yaml", b"\x00\xff\xfe\x80"),
        ("empty.yaml", b""),
        ("list.yaml", b"- a\n- b\n"),
        ("other.txt", b"name: a\n"),
        ("twice.yaml", b"name: a\nname: b\nsteps: []\n"),
    ],
)
def test_a_hostile_file_is_a_sentence(
    name: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert main(["check", str(path)]) == ExitCode.DOCUMENT
    written = capsys.readouterr()
    assert written.err == ""
    assert all(line.startswith(str(path)) for line in written.out.splitlines())
    assert written.out.count("\n") >= 1


def test_a_huge_file_is_refused_by_its_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(100 << 20)
    assert main(["check", str(path)]) == ExitCode.DOCUMENT
    assert "104857600 bytes" in capsys.readouterr().out


def test_a_directory_is_no_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "folder.yaml"
    folder.mkdir()
    assert main(["check", str(folder)]) == ExitCode.DOCUMENT
    assert "no regular file" in capsys.readouterr().out


def test_for_a_run_the_faults_are_its_sentence(tmp_path: Path) -> None:
    with pytest.raises(Ended) as ended:
        read_workflow(write(tmp_path, WRONG), standard_language())
    assert ended.value.code is ExitCode.DOCUMENT
    assert ended.value.sentence.count("\n") == 1


def test_a_workflow_that_was_read_has_a_version(tmp_path: Path) -> None:
    assert read_workflow(write(tmp_path, HELLO), standard_language()).version
