"""kill -9 of a writing process at random moments: everything acknowledged is there, and it goes on.

Tests: engine/journal/sqlite_store.py, engine/journal/sqlite_write.py
"""

import random
import subprocess
from pathlib import Path

import pytest

from tests.journal.crashes import acked, assert_sound, command, environment

KILLS = 20

pytestmark = pytest.mark.slow


async def test_what_was_acknowledged_survives_kill_9(ram_path: Path) -> None:
    path = str(ram_path / "journal.db")
    draw = random.Random(9)
    tip = 0
    for _ in range(KILLS):
        process = subprocess.Popen(command(path, 10**9), stdout=subprocess.PIPE, text=True, env=environment())
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(draw.randint(0, 150))]
        process.kill()  # wherever it is by now
        lines += process.communicate()[0].splitlines()
        assert not [line for line in lines if line.startswith("fault")]
        assert acked(lines[:1]) in {0, tip}
        tip = await assert_sound(path, max(acked(lines), tip))
    assert tip > 100
