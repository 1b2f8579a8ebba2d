"""`version`. Tests: engine/cli/version.py"""

import importlib.metadata
import json
import platform
import sqlite3

import pytest

from engine.base.wire import FEATURE_LEVEL
from engine.cli.exits import ExitCode
from engine.cli.main import main


def test_it_names_what_this_is_made_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == ExitCode.FINISHED
    out = capsys.readouterr().out
    assert out.startswith("understudy ")
    for part in (platform.python_version(), sqlite3.sqlite_version, f"feature level {FEATURE_LEVEL}"):
        assert part in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--output", "json"]) == ExitCode.FINISHED
    found = json.loads(capsys.readouterr().out)
    assert found["feature_level"] == FEATURE_LEVEL
    assert found["sqlite"] == sqlite3.sqlite_version


def test_a_clone_that_was_never_installed_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert main(["version"]) == ExitCode.FINISHED
    assert capsys.readouterr().out.startswith("understudy not installed\n")
