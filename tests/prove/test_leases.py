"""The search of leases finds nothing, is about something, and finds what is one tick too short.

Tests: engine/rules/leases.py
"""

import msgspec
import pytest

from engine.rules import leases
from engine.rules.leases import Leases, director_ms_min
from tests.prove.leases import TIMES, search

pytestmark = pytest.mark.timeout(300)


def test_no_process_runs_when_its_director_begins_the_next() -> None:
    found = search()
    assert found.story is None, "\n".join(found.story)
    assert {"begins", "renews", "grants", "expires", "restarts:"} <= found.met
    assert found.places > 10_000


def test_one_tick_less_for_the_director_is_too_little() -> None:
    assert TIMES.director_ms == director_ms_min(TIMES)
    found = search(msgspec.structs.replace(TIMES, director_ms=TIMES.director_ms - 1))
    assert found.story is not None
    assert found.story[-1] == "expires at the director"


@pytest.mark.parametrize("factor", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_lease_that_counts_from_its_grant_breaks_however_long_the_director_waits(
    factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "lease_end", lambda _asked, granted, span: granted + span)
    times = msgspec.structs.replace(TIMES, director_ms=factor * TIMES.director_ms)
    assert search(times, steps_max=40).story is not None


def test_a_new_director_that_waits_for_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def note(self: Leases, key: str, subagent: str, now_ms: int, _director_ms: int) -> None:
        self._leases[key] = leases.Lease(subagent, now_ms)  # type: ignore[arg-type]

    monkeypatch.setattr(Leases, "note", note)
    found = search()
    assert found.story is not None
    assert any("new director" in what for what in found.story)


def test_an_expiry_that_a_late_grant_does_not_raise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "expiry", lambda expires, now, span: expires or now + span)
    assert search().story is not None
