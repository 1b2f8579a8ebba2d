"""Planted mistakes: with one rule of the kernel removed some seed must notice, or the simulation proves nothing."""

import pytest

from tests.sim.mutants import MUTANTS, PLANS, run_mutant_seed

pytestmark = pytest.mark.timeout(300)

SEEDS_MAX = 30


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch.setattr)
    if not any(run_mutant_seed(name, seed).breaches for seed in range(SEEDS_MAX)):
        raise AssertionError(f"{name}: {SEEDS_MAX} seeds noticed nothing ({MUTANTS[name].__doc__})")


@pytest.mark.parametrize("name", PLANS)
def test_without_the_mistake_its_plan_does_no_harm(name: str) -> None:
    for seed in range(5):
        assert run_mutant_seed(name, seed).breaches == []


def test_every_plan_is_for_a_mistake() -> None:
    assert set(PLANS) <= set(MUTANTS)
