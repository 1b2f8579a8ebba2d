"""The page about the library: each of its programs runs as it stands there, in a fresh folder, without a warning."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "library.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def test_the_page_has_programs() -> None:
    assert len(BLOCKS) >= 4


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_program_of_the_page_runs(tmp_path: Path, number: int) -> None:
    program = tmp_path / "program.py"
    program.write_text(BLOCKS[number])
    ended = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PYTHONPATH": str(PAGE.parents[1])},
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_page_names_everything_that_is_there() -> None:
    text = PAGE.read_text()
    for name in ("suspend", "resume", "cancel", "release", "view", "obstacle", "ended", "outcome", "result", "add_orders",
                 "events", "parallel_max", "snapshot_every_records", "callables"):  # fmt: skip
        assert name in text
