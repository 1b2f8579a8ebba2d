"""The role's log: structured, bounded, never in the way. Tests: engine/cli/log.py"""

import json
import logging
from pathlib import Path

import pytest

from engine.base.log import logger
from engine.cli import log as module
from engine.cli.log import Logging, RunLog


def entries(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_came_before_the_state_was_ours_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Logging(debug=False) as log:
        logging.getLogger("understudy.test").info("before")
        log.file.open(tmp_path)
        logging.getLogger("understudy.test").warning("after %s", "that")
        logging.getLogger("understudy.test").debug("not kept")
    found = entries(tmp_path / "log/run.log")
    assert [(one["level"], one["logger"], one["event"]) for one in found] == [
        ("info", "understudy.test", "before"),
        ("warning", "understudy.test", "after that"),
    ]
    assert str(found[0]["at"]).endswith("Z")
    assert capsys.readouterr().err == ""


def test_fields_and_exceptions_are_fields(tmp_path: Path) -> None:
    with Logging(debug=False) as log:
        log.file.open(tmp_path)
        try:
            raise ValueError("odd")
        except ValueError:
            logger("test").exception("it failed", order="o-1", count=3, odd=object)
    (found,) = entries(tmp_path / "log/run.log")
    assert (found["order"], found["count"], found["event"]) == ("o-1", 3, "it failed")
    assert "ValueError: odd" in str(found["exception"])


def test_debug_shows_everything_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Logging(debug=True):
        logging.getLogger("understudy.test").debug("deep", extra={"order": "o-1"})
    assert "understudy.test: deep order='o-1'" in capsys.readouterr().err


def test_a_library_that_shows_operands_is_kept_from_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    telltale = logging.getLogger("aiosqlite")
    before = telltale.level
    with Logging(debug=True) as log:
        log.file.open(tmp_path)
        telltale.debug("executing %s", "INSERT with hunter2")
        telltale.warning("it closes late")
    assert telltale.level == before
    told = capsys.readouterr().err + (tmp_path / "log/run.log").read_text()
    assert "hunter2" not in told
    assert "it closes late" in told


def test_the_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_BYTES_MAX", 1_000)
    with Logging(debug=False) as log:
        log.file.open(tmp_path)
        for number in range(100):
            logging.getLogger("understudy.test").info("line %d", number)
    assert sorted(path.name for path in (tmp_path / "log").iterdir()) == ["run.log", "run.log.1"]
    assert all(path.stat().st_size <= 1_000 for path in (tmp_path / "log").iterdir())
    assert entries(tmp_path / "log/run.log")[-1]["event"] == "line 99"


def test_a_second_run_goes_on_in_the_same_file(tmp_path: Path) -> None:
    for number in range(2):
        with Logging(debug=False) as log:
            log.file.open(tmp_path)
            logging.getLogger("understudy.test").info("run %d", number)
    assert [one["event"] for one in entries(tmp_path / "log/run.log")] == ["run 0", "run 1"]


def test_a_file_that_can_not_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("no folder")
    with Logging(debug=False) as log:
        log.file.open(tmp_path)
        logging.getLogger("understudy.test").info("lost")


def test_what_waits_in_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EARLY_RECORDS_MAX", 3)
    with Logging(debug=False) as log:
        for number in range(10):
            logging.getLogger("understudy.test").info("early %d", number)
        log.file.open(tmp_path)
    assert len(entries(tmp_path / "log/run.log")) == 3


def test_a_record_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    class Odd:
        def __str__(self) -> str:
            raise ValueError

    with Logging(debug=False) as log:
        log.file.open(tmp_path)
        logging.getLogger("understudy.test").info("odd", extra={"odd": Odd()})
    assert entries(tmp_path / "log/run.log")[0]["event"] == "a record that can not be written"


def test_the_tree_is_left_as_it_was() -> None:
    top = logging.getLogger()
    before = (top.level, list(top.handlers))
    with Logging(debug=True):
        assert any(isinstance(one, RunLog) for one in top.handlers)
    assert (top.level, top.handlers) == before
