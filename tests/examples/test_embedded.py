"""Example 02: the ten lines print what its README says, twice, and go on with the folder of the first time."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "02_embedded"


def run(state: Path) -> str:
    ended = subprocess.run(
        [sys.executable, "-W", "error", str(FOLDER / "embedded.py"), str(state)],
        cwd=state.parent,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_it_prints_what_its_readme_says(tmp_path: Path) -> None:
    said = re.findall(r"`('total': \d+)`", (FOLDER / "README.md").read_text())
    for _ in range(2):
        assert said[0] in run(tmp_path / "state")


def test_its_functions_do_what_they_are_called() -> None:
    namespace: dict[str, object] = {"__name__": "embedded"}
    exec(compile((FOLDER / "embedded.py").read_text(), "embedded.py", "exec"), namespace)
    assert namespace["square"](5) == {"square": 25}  # type: ignore[operator]
    assert namespace["total"]({"a": 1, "b": 2}) == {"total": 3}  # type: ignore[operator]
