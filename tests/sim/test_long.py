"""Long runs: what they count, and that they say what is wrong.

Tests: tests/sim/long.py, tests/sim/__main__.py
"""

import json
import subprocess
import sys
import time
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from tests.sim import long
from tests.sim.long import DIGEST_BITS, Account, Distinct, summary, work
from tests.sim.runs import Report

ROOT = Path(__file__).parents[2]


def digest(number: int) -> int:
    return int.from_bytes(blake2b(b"%d" % number, digest_size=8).digest()) >> (64 - DIGEST_BITS)


@pytest.mark.parametrize("count", [0, 1, 300, 20_000, 200_000])
def test_distinct_states_are_counted_nearly(count: int) -> None:
    one, other = Distinct(), Distinct()
    for number in range(count):
        (one if number % 2 else other).add(digest(number))
        one.add(digest(number // 2))  # known before
    one.merge(bytes(other.ranks))
    assert abs(len(one) - count) <= max(1, count * 0.03)


def test_accounts_are_added_up_and_tell_of_breaches() -> None:
    total, account = Account(), Account(cpu_s=2.0)
    account.add(Report(7, messages=100, virtual_s=7_200, injected={"cut": 2}, met={"a": 3}, has_sql=True), "pairs")
    account.add(Report(8, breaches=["S1: two"] * 9), "single")
    total.merge(account)
    figures = summary(total, Distinct(), 3.0, ["b"])
    assert (figures["seeds"], figures["messages"], figures["messages_per_cpu_s"], figures["faults"]) == (2, 100, 50, 2)
    assert figures["cluster_hours_per_cpu_hour"] == 3_600
    assert figures["breaches"] == [{"seed": 8, "kind": "single", "breaches": ["S1: two"] * 6}]


class Told(list[Any]):
    put = list.append


@pytest.mark.timeout(60)
def test_a_worker_runs_the_kinds_in_turn_and_says_when_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[int, int]] = []
    clock = iter(range(10))

    def run_seed(seed: int, plan: Any, *, watch: Any) -> Report:
        ran.append((seed, plan.controllers))
        return Report(seed, messages=1)

    monkeypatch.setattr(long, "run_seed", run_seed)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    told = Told()
    work(5, 2, ("single", "pairs"), 4, told)
    assert ran == [(5, 1), (7, 2), (9, 1), (11, 2)]
    assert [one and one.messages for one in told] == [1, 1, 1, 1, None]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_short_run_prints_its_figures() -> None:
    argv = [sys.executable, "-m", "tests.sim", "--seconds", "1", "--processes", "1", "--kind", "single"]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True, timeout=100)
    figures = json.loads(ended.stdout.splitlines()[-1])
    assert figures["seeds"] >= 1
    assert figures["messages"] > 0
    assert figures["distinct_states"] > 10
    assert figures["breaches"] == []
