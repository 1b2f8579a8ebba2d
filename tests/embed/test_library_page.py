"""The page about the library: each of its programs runs as it stands there, in a fresh folder, without a warning."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine import Engine, OrderHandle

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
    names = [name for kind in (Engine, OrderHandle) for name in vars(kind) if not name.startswith("_")]
    options = [name for name in inspect.signature(Engine).parameters if name != "self"]
    assert [name for name in (*names, *options) if not re.search(rf"\b{name}\b", text)] == []
