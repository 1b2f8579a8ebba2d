"""`journal restored`: what was restored from a copy is other data from then on.

Tests: engine/cli/restoring.py, engine/pair/cells.py
"""

import asyncio
import shutil
from pathlib import Path

import pytest

from engine import Engine
from engine.cli.exits import ExitCode
from engine.cli.main import main
from engine.journal.sqlite_store import open_sqlite_store
from engine.pair.cells import STORE_ID, store_id
from engine.real import RealPlace


async def identity(path: Path, *, first: str = "") -> bytes | None:
    """Return the identity of a journal's data, given now if `first` is."""
    store = await open_sqlite_store(str(path))
    try:
        if first:
            await store_id(store, lambda: first)
        return store.cell(STORE_ID)
    finally:
        await store.close()


async def made(state: Path) -> None:
    async with Engine(state):
        pass


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory whose controller is of a pair."""
    found = tmp_path / "state"
    asyncio.run(made(found))
    asyncio.run(identity(found / "controller" / "journal.db", first="the data"))
    return found


def test_restored_data_of_a_pair_gets_another_identity(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["journal", "restored", str(state)]) == ExitCode.FINISHED
    out = capsys.readouterr().out
    assert f"{state / 'controller' / 'journal.db'}: has another identity now" in out
    assert f"{state / 'agent-local' / 'journal.db'}: is of no pair" in out
    found = asyncio.run(identity(state / "controller" / "journal.db"))
    assert found not in (None, b"the data")
    assert main(["journal", "verify", str(state)]) == ExitCode.FINISHED


def test_a_directory_in_use_is_left_alone(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = RealPlace(state)
    try:
        assert main(["journal", "restored", str(state)]) == ExitCode.STATE
    finally:
        place.close()
    assert "in use" in capsys.readouterr().err
    assert asyncio.run(identity(state / "controller" / "journal.db")) == b"the data"


def test_what_is_no_state_directory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["journal", "restored", str(tmp_path)]) == ExitCode.STATE
    assert main(["journal", "restored", str(tmp_path / "nowhere")]) == ExitCode.USAGE
    assert "restored" in capsys.readouterr().err


def test_one_nodes_folder_is_enough(state: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(state, copy)
    assert main(["journal", "restored", str(copy / "controller")]) == ExitCode.FINISHED
    assert asyncio.run(identity(copy / "controller" / "journal.db")) != b"the data"
    assert asyncio.run(identity(state / "controller" / "journal.db")) == b"the data"
