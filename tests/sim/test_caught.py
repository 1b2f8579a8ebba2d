"""Each rule of the pair has a place where its removal is noticed, and each of these places exists.

Tests: tests/sim/caught.py
"""

from pathlib import Path

import pytest

from tests.prove.planted import FAULTS
from tests.sim.caught import RULES, Caught
from tests.sim.pair_mutants import PAIR_MUTANTS

ROOT = Path(__file__).parents[2]
SQL_OR_BOTH = {"nobody_is_waited_for", "damage_is_not_looked_for", "sqlite_does_not_sync"}  # no rules of the pair's own


@pytest.mark.parametrize("one", RULES, ids=lambda one: one.rule)
def test_the_removal_of_a_rule_is_noticed_somewhere(one: Caught) -> None:
    path, name = one.tested
    assert one.simulated or one.searched or name
    assert not one.simulated or one.simulated in PAIR_MUTANTS
    assert not one.searched or one.searched in FAULTS
    assert not name or f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")
    assert bool(one.why) == (not one.simulated and "lease_runs" not in path), "say why the running system shows nothing"


def test_no_rule_and_no_planted_mistake_is_forgotten() -> None:
    assert len({one.rule for one in RULES}) == 25
    assert {one.simulated for one in RULES} - {""} == set(PAIR_MUTANTS) - SQL_OR_BOTH
