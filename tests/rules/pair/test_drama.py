"""The golden transcripts of the failure table, with real times; written anew with UNDERSTUDY_REWRITE=1.

Tests: engine/rules/pair/machine.py, engine/rules/pair/lease.py, engine/rules/pair/ownership.py
Tests: engine/rules/pair/replication.py
"""

import difflib
import os
from pathlib import Path

import pytest

from engine.rules.pair import lease
from tests.rules.pair import drama

FLOWS = sorted(Path(__file__).parents[2].joinpath("flows", "pair").glob("*.txt"))
REWRITE = bool(os.environ.get("UNDERSTUDY_REWRITE"))


@pytest.mark.parametrize("path", FLOWS, ids=[path.stem for path in FLOWS])
def test_failure(path: Path) -> None:
    known = path.read_text()
    found = drama.play(known)
    if found == known:
        return
    if REWRITE:
        path.write_text(found)
        return
    changes = difflib.unified_diff(known.splitlines(), found.splitlines(), path.name, "as it would be", lineterm="")
    pytest.fail("\n".join(changes) + "\nIs this right? Then `make flows-rewrite`, and review the difference.")


OWNER_CRASHES = "{at} crash A\nuntil 12\nexpect {begin} {end} B solo e2\n----\n"


@pytest.mark.parametrize("phase_ms", range(0, 1_000, 90))
def test_the_standby_acts_soon_whenever_the_owner_crashes(phase_ms: int) -> None:
    at = 2 + phase_ms / 1_000
    drama.play(OWNER_CRASHES.format(at=at, begin=at + 2.5, end=at + 4))


def test_what_was_not_expected_is_told() -> None:
    with pytest.raises(AssertionError, match=r"expected expect 1 2 B solo; it happened at \[5\.\d+\]"):
        drama.play("2.3 crash A\nuntil 9\nexpect 1 2 B solo\n----\n")
    with pytest.raises(AssertionError, match="it happened: A down"):
        drama.play("2.3 crash A\nuntil 3\nnever A down\n----\n")


def test_two_that_act_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "may_act", lambda *_: True)
    with pytest.raises(AssertionError, match="both act"):
        drama.play("until 1\n----\n")


def test_a_lost_record_is_told() -> None:
    stage = drama.Stage()
    stage.run(drama.RISE_MS)
    stage.do("write")
    stage.run(drama.RISE_MS + 100)
    stage.nodes["B"].records.clear()
    with pytest.raises(AssertionError, match=r"B at \d+ has \[\]; told was \['r1'\]"):
        stage.run(drama.RISE_MS + 200)


def test_every_state_is_shown() -> None:
    texts = "\n".join(path.read_text() for path in FLOWS)
    for state in ("standby", "pending", "coupled", "solo", "joining", "fenced", "yielded", "down"):
        assert f" {state}" in texts
