"""The first example: it runs, and killed at any moment and started again it ends with the same report."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / "examples" / "01_report" / "workflow.yaml"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
KILLS = int(os.environ.get("UNDERSTUDY_KILLS", "12"))


def run_argv(*more: str) -> list[str]:
    return [sys.executable, "-m", "engine", "run", str(WORKFLOW), "--state", "state", *more]


def finish(folder: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        run_argv(*more), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("r")
    ended = finish(folder, "-p", "pace=0s")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return (folder / "weather-report" / "report.md").read_text()


def test_the_report_is_on_all_four_years(report: str) -> None:
    rows = [line.split("|")[1:3] for line in report.splitlines() if line.startswith("| 20")]
    assert [(year.strip(), int(days)) for year, days in rows] == [
        ("2012", 366),
        ("2013", 365),
        ("2014", 365),
        ("2015", 365),
    ]


def test_killed_at_any_moment_and_started_again_it_ends_with_the_same_report(short_tmp: Path, report: str) -> None:
    moments = random.Random(int(os.environ.get("UNDERSTUDY_SEED", "3")))
    given = ["-p", "pace=500ms"]
    for _ in range(KILLS):
        with subprocess.Popen(
            run_argv(*given), cwd=short_tmp, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as running:
            assert running.stdout is not None
            first = running.stdout.readline()
            if first:
                given = []  # the order is accepted, or was: from now on it goes on with what it has
            time.sleep(moments.uniform(0, 0.6))
            running.send_signal(signal.SIGKILL)
            running.stdout.read()
    ended = finish(short_tmp)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (short_tmp / "weather-report" / "report.md").read_text() == report
