"""Planted mistakes: with one rule of the kernel removed some seed must notice, or the simulation proves nothing."""

import pytest

from tests.sim.mutants import FAULTS_FOR, MUTANTS
from tests.sim.runs import run_seed

pytestmark = pytest.mark.timeout(300)

SEEDS_MAX = 60


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch.setattr)
    for seed in range(SEEDS_MAX):
        if run_seed(seed, faults=FAULTS_FOR.get(name)).breaches:
            return
    raise AssertionError(f"{name}: {SEEDS_MAX} seeds noticed nothing ({MUTANTS[name].__doc__})")


@pytest.mark.parametrize("name", FAULTS_FOR)
def test_without_the_mistake_those_faults_do_no_harm(name: str) -> None:
    for seed in range(5):
        assert run_seed(seed, faults=FAULTS_FOR[name]).breaches == []
