"""Example 04: what its README says happens, in the order in which it says it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "04_simulated"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the example, as somebody who follows it has one."""
    return Path(shutil.copytree(FOLDER, tmp_path / "04", ignore=shutil.ignore_patterns(".*", "__pycache__")))


def run(folder: Path, *words: str, **environment: str) -> tuple[int, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UNDERSTUDY_", "PYTEST_"))}
    ended = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
    )
    return ended.returncode, ended.stdout + ended.stderr


APART = ("-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "--rootdir", ".", "-c", os.devnull)


def test_it_passes_by_pytest_and_by_the_command_line(folder: Path) -> None:
    code, text = run(folder, "pytest", *APART, "test_invoices.py")
    assert (code, "1 passed" in text) == (0, True), text
    code, text = run(folder, "engine", "sim", "run", "test_invoices.py", "--seeds", "20")
    assert code == 0, text
    assert text.count("  met: ") == 3


def test_the_workflow_can_be_tried_without_a_test(folder: Path) -> None:
    words = ("sim", "run", "workflow.yaml", "-p", "number=4711", "--jobs", "jobs.yaml", "--seeds", "5")
    code, text = run(folder, "engine", *words, "--controllers", "2")
    assert code == 0, text
    assert "orders: finished" in text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_mistake_is_found_replayed_drawn_kept_and_mended(folder: Path) -> None:
    workflow = folder / "workflow.yaml"
    right = workflow.read_text()
    wrong, count = re.subn(r"(shell: \./charge\n)", r"\1    on_lost: rerun\n", right)
    assert count == 1
    workflow.write_text(wrong)
    code, text = run(folder, "engine", "sim", "run", "test_invoices.py", "--seeds", "400")
    assert code == 1, text
    assert "always: an invoice is charged once" in text
    found = re.search(r"Replay it: python -m engine (sim replay (\d+) .*)", text)
    assert found is not None
    code, replayed = run(folder, "engine", *found[1].split())
    assert code == 1
    assert replayed.endswith("always: an invoice is charged once\n")
    code, text = run(folder, "engine", "sim", "timeline", found[2], "test_invoices.py")
    assert code == 0, text
    assert "charge invoice-" in (folder / "lanes.html").read_text("utf-8")
    workflow.write_text(right)
    for number in range(3):
        code, text = run(folder, "engine", "sim", "run", "test_invoices.py")
        assert code == 0, text
        assert f"run first: {found[2]}" in text
        assert ("is no longer kept" in text) == (number == 2)
