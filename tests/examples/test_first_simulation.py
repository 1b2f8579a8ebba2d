"""docs/simulation.md: its first test, step by step, as somebody does who follows the page."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def engine(folder: Path, *words: str) -> tuple[int, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UNDERSTUDY_", "PYTEST_"))}
    ended = subprocess.run(
        [sys.executable, "-m", "engine", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**kept, "PYTHONPATH": str(ROOT)},
    )
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_first_test_of_the_page_passes_and_finds_the_mistake_the_page_tells_to_make(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "simulation.md").read_text()
    source = re.search(r"Write `test_orders\.py`:\n\n```python\n(.*?)```", page, re.DOTALL)
    assert source is not None
    file = tmp_path / "test_orders.py"
    file.write_text(source[1])
    code, text = engine(tmp_path, "sim", "run", "test_orders.py", "--seeds", "10")
    assert code == 0, text
    assert "met: all three were paid" in text
    right = 'job("pay", shell="./pay")'
    wrong = 'job("pay", shell="./pay", on_lost="rerun")'
    assert right in source[1]
    assert wrong in page
    file.write_text(source[1].replace(right, wrong))
    code, text = engine(tmp_path, "sim", "run", "test_orders.py", "--seeds", "200")
    assert code == 1, text
    assert "paid twice: " in text
    seed = re.search(r"FAILED at seed (\d+)", text)
    assert seed is not None
    code, text = engine(tmp_path, "sim", "timeline", seed[1], "test_orders.py")
    assert (code, "Wrote lanes.html" in text) == (0, True), text
