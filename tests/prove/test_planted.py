"""Each rule is needed: switched off, something goes wrong, and the search says what.

Tests: engine/rules/pair/lease.py, engine/rules/pair/ownership.py, engine/rules/pair/replication.py
"""

import pytest

from tests.prove.explore import Report, explore
from tests.prove.planted import DOUBLES, FAULTS, planted
from tests.prove.transcript import tell

CLEAN_STATES_MAX = 6_000  # what the same bounds are searched for without the fault; test_explore.py searches wholly
DOUBLE_STATES_MAX = 12_000


def lines(report: Report) -> str:
    return "\n".join([report.breach, *tell(report.bounds, report.path)])


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_rule_switched_off_is_found(name: str) -> None:
    with planted(name) as fault:
        found = explore(fault.bounds, fault.prefix)
        assert found.breach, f"{fault.rule}: {found.states} states, and nothing is wrong"
        assert len(list(tell(found.bounds, found.path))) > len(found.path)
    with planted(name, only_under=True) as fault:
        clean = explore(fault.bounds, fault.prefix, states_max=min(2 * found.states, CLEAN_STATES_MAX))
        assert not clean.breach, lines(clean)


@pytest.mark.slow
@pytest.mark.parametrize("name", DOUBLES)
def test_what_another_rule_masks_does_no_harm_alone(name: str) -> None:
    with planted(name) as double:
        report = explore(double.bounds, double.prefix, states_max=DOUBLE_STATES_MAX)
    assert not report.breach, f"{name} is no double of `{double.masked_by}`\n{lines(report)}"
    assert double.masked_by


def test_a_fault_is_gone_after_its_context() -> None:
    with planted("activates_at_once") as fault:
        assert explore(fault.bounds).breach
    assert not explore(fault.bounds).breach
