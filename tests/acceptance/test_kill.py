"""kill -9 at random moments under load: nothing accepted is lost, no attempt runs twice, all orders end.

Tests: engine/embed.py, engine/boot.py, engine/real.py, actors/controller.py, actors/agent.py, actors/director.py,
actors/subagent.py
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]

LOAD = Path(__file__).with_name("load.py")
ORDERS_PER_ROUND = 8
LEDGER_LINES_PER_ORDER = 4  # first, left, right, last


def start(state: Path, ledger: Path, count: int) -> "subprocess.Popen[str]":
    argv = [sys.executable, str(LOAD), str(state), str(ledger), "0", str(count)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()})


def killed_round(state: Path, ledger: Path, count: int, moment_s: float) -> list[str]:
    """Run the load, kill it `moment_s` after it was ready, and return the ids it had acknowledged."""
    running = start(state, ledger, count)
    assert running.stdout is not None
    try:
        lines = [running.stdout.readline()]
        assert lines[0] == "ready\n", lines
        time.sleep(moment_s)
    finally:
        running.send_signal(signal.SIGKILL)
        rest, _ = running.communicate()
    return [line.split()[1] for line in rest.splitlines() if line.startswith("accepted ") and len(line.split()) == 2]


def kill_and_look(state: Path, ledger: Path, rounds: int, seed: int) -> None:
    moments = random.Random(seed)
    accepted: dict[str, None] = {}
    for number in range(rounds):
        count = min((number + 1) * ORDERS_PER_ROUND, 200)
        accepted.update(dict.fromkeys(killed_round(state, ledger, count, moments.uniform(0, 0.5))))
    count = max(1 + int(one.rpartition("-")[2]) for one in accepted)
    running = start(state, ledger, count)
    out, _ = running.communicate(timeout=240)
    assert running.returncode == 0, out
    ended = {line.split()[1]: line.split()[2:] for line in out.splitlines() if line.startswith("ended ")}
    for order in accepted:
        assert ended[order] == ["finished", str(2 * int(order.rpartition("-")[2]))], f"{order}: {ended.get(order)}"
    written = Counter(ledger.read_text().splitlines())
    twice = {line: times for line, times in written.items() if times > 1}
    assert not twice, f"attempts that ran twice: {twice}"
    per_order = Counter(line.split()[0].partition("|")[0] for line in written)
    assert set(per_order.values()) == {LEDGER_LINES_PER_ORDER}, per_order


def test_kill_at_random_moments_under_load(short_tmp: Path) -> None:
    rounds = int(os.environ.get("UNDERSTUDY_KILLS", "50"))
    kill_and_look(short_tmp / "state", short_tmp / "ledger", rounds, seed=int(os.environ.get("UNDERSTUDY_SEED", "1")))
