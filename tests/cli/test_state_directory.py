"""A state directory that can not be had: damaged, newer, full, read-only. Tests: engine/cli/session.py"""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from engine.cli.exits import ExitCode
from tests.cli.shell import GATED, HELLO, engine, environment, write

pytestmark = pytest.mark.acceptance


@pytest.fixture
def here(short_tmp: Path) -> Path:
    """A directory with a document."""
    write(short_tmp, GATED)
    return short_tmp


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
        done = engine("run", "workflow.yaml", "-p", "gate=x", "--state", place, cwd=here)
        assert done.returncode == ExitCode.STATE, done.stderr
        assert place in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root by its mode")
def test_a_read_only_state_directory_is_a_sentence(here: Path) -> None:
    folder = here / "read-only"
    folder.mkdir(mode=0o500)
    done = engine("run", "workflow.yaml", "-p", "gate=x", "--state", folder, cwd=here)
    assert done.returncode == ExitCode.STATE
    assert done.stderr.count("\n") == 1


def mounted(here: Path, mount: str, command: str) -> "subprocess.CompletedProcess[str]":
    """Run a shell command in mounts of its own, with something small on `here/disk`."""
    (here / "disk").mkdir()
    script = f"mount {mount} none disk && {command}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        cwd=here,
        env={**environment(), "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mounts of our own here: {done.stderr.strip()}")
    return done


def test_a_full_disk_is_a_sentence(here: Path) -> None:
    write(here, "name: full\nsteps:\n  - retry: 1000\n    steps:\n      - fail: again and again\n", "full.yaml")
    done = mounted(here, "-t tmpfs -o size=300k", '"$PYTHON" -m engine run full.yaml --state disk/state')
    assert done.returncode == ExitCode.STATE, done.stderr
    assert "is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_read_only_file_system_is_a_sentence(here: Path) -> None:
    command = '"$PYTHON" -m engine run workflow.yaml -p gate=x --state disk/state'
    done = mounted(here, "-t tmpfs", f"mkdir disk/state && mount -o remount,ro disk && {command}")
    assert done.returncode == ExitCode.STATE, done.stderr
    assert "read-only" in done.stderr
    assert done.stderr.count("\n") == 1
