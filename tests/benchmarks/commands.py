"""P12: `python -m engine run` of one job, from a shell to its end, beside the start of a bare interpreter."""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.measure import Bench, NotThere, Stuck

WORKFLOW = "name: nothing\nsteps:\n  - job: nothing\n    shell: 'true'\n"
RUN_S_MAX = 60
ROOT = Path(__file__).resolve().parents[2]


def measure_command(bench: Bench) -> None:
    """Run one order of one job in a fresh state folder, from a shell."""
    if importlib.util.find_spec("engine.cli.run") is None:
        raise NotThere("P12 is not measured: there is no engine/cli/run.py")
    bench.progress.say("P12")
    folder = bench.folder("command")
    document = folder / "workflow.yaml"
    document.write_text(WORKFLOW, encoding="utf-8")
    for number in range(bench.plan.commands):
        bench.put("bare interpreter", timed([sys.executable, "-c", "pass"]))
        state = str(folder / f"state-{number}")
        bench.put("P12", timed([sys.executable, "-m", "engine", "run", str(document), "--state", state]))


def timed(argv: Sequence[str]) -> float:
    """Run a command from a shell, as a person does; returns its seconds."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    began = time.perf_counter()
    done = subprocess.run(
        ["/bin/sh", "-c", '"$@"', "sh", *argv],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )
    passed_s = time.perf_counter() - began
    if done.returncode:
        raise Stuck(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return passed_s
