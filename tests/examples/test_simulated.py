"""Example 03: its test passes, and finds the mistake that its README tells to make."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "03_simulated"


def run(folder: Path, seeds: int) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("UNDERSTUDY_", "PYTEST_"))}
    apart = ["-p", "no:cacheprovider", "-p", "no:asyncio", "--rootdir", str(folder), "-c", os.devnull]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *apart, str(folder)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env={**environment, "PYTHONPATH": str(ROOT), "UNDERSTUDY_SEEDS": str(seeds)},
    )
    return ended.returncode, ended.stdout + ended.stderr


def test_it_passes() -> None:
    code, text = run(FOLDER, 10)
    assert code == 0, text
    assert "1 passed" in text


def test_a_payment_that_is_run_again_when_it_is_lost_pays_twice_and_a_seed_shows_it(tmp_path: Path) -> None:
    source = (FOLDER / "test_payroll.py").read_text()
    changed, count = re.subn(
        r'job\("pay", shell="transfer", ', 'job("pay", on_lost="rerun", shell="transfer", ', source
    )
    assert count == 1
    (tmp_path / "test_payroll.py").write_text(changed)
    code, text = run(tmp_path, 200)
    assert code == 1, text
    assert "paid twice" in text
    assert re.search(r"UNDERSTUDY_SEED=\d+", text)
