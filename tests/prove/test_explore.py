"""Every world within small bounds: the rules hold in all of them, and the worlds that matter are among them.

Tests: engine/rules/pair/lease.py, engine/rules/pair/ownership.py, engine/rules/pair/replication.py
Tests: engine/rules/pair/machine.py
"""

import msgspec
import pytest

from tests.prove import moments
from tests.prove.__main__ import LARGE, QUICK, main
from tests.prove.explore import explore, follow
from tests.prove.planted import planted
from tests.prove.steps import step
from tests.prove.transcript import sentence_of, tell
from tests.prove.world import Bounds, first_world


def name_of(bounds: Bounds) -> str:
    return "-".join(f"{name}{int(count)}" for name, count in msgspec.structs.asdict(bounds).items() if count)


@pytest.mark.slow
@pytest.mark.parametrize("bounds", QUICK, ids=name_of)
def test_every_world_within_bounds(bounds: Bounds) -> None:
    report = explore(bounds, reached=moments.reached)
    assert not report.breach, "\n".join([report.breach, *tell(bounds, report.path)])
    assert report.is_whole
    assert moments.expected(bounds) <= set(report.reached)


def test_the_quick_bounds_together_meet_every_moment() -> None:
    every = moments.expected(
        Bounds(
            epochs=3, events=2, crashes=1, yields=1, wipes=1, snapshots=1, keeps=1, commands=2, forces=1, rollbacks=1
        )
    )
    assert frozenset().union(*(moments.expected(bounds) for bounds in QUICK)) == every
    assert frozenset().union(*(moments.expected(bounds) for bounds in LARGE)) == every


def test_a_breach_is_told_as_people_read_it() -> None:
    with planted("activates_at_once") as fault:
        report = explore(fault.bounds)
        lines = list(tell(fault.bounds, report.path))
    assert report.breach == "S1: both act"
    assert lines == [
        "      A#1 fenced, knows e1, log of e1 (), acknowledged 0",
        "      B#1 standby, knows e1, log of e1 (), acknowledged 0",
        "      register e1 A#1 { a0 b0 }",
        "      told: nothing",
        "   1  A beats, the other hears it, and the answer comes",
        "        A#1 coupled, acts, knows e1, log of e1 (), acknowledged 0",
        "   2  B misses beats and wants to take over",
        "   3  the register gets the question to change e1 A#1 { a0 b0 } to e2 B#1 { b0 }",
        "        register e2 B#1 { b0 }",
        "   4  B gets the register's answer: e2 B#1 { b0 }",
        "        B#1 pending, knows e2, log of e1 (), acknowledged 0",
        "   5  B owns the register, has waited, and begins to act",
        "        B#1 solo, acts, knows e2, log of e2 (), acknowledged 0",
    ]


def test_the_path_of_a_breach_leads_there_again() -> None:
    with planted("couples_too_early") as fault:
        first, second = explore(fault.bounds), explore(fault.bounds)
        assert (first.breach, first.path, first.states) == (second.breach, second.path, second.states)
        sentences, world = [], first_world(fault.bounds)
        for label in first.path:
            sentences.append(sentence_of(world, label))
            after = step(world, label)
            assert after is not None
            world = after
        path, before_last = follow(first_world(fault.bounds), sentences[:-1])
        assert path == first.path[:-1]
        assert step(before_last, first.path[-1]) is not None
        with pytest.raises(ValueError, match="is a breach already"):
            follow(first_world(fault.bounds), sentences)


def test_a_beginning_that_cannot_happen_is_told() -> None:
    with pytest.raises(ValueError, match="step 1 can not happen: B writes a record"):
        explore(Bounds(), ["B writes a record"])


def test_a_search_that_is_cut_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert not explore(Bounds(epochs=2, events=1), states_max=200).is_whole
    assert main(["--epochs", "2", "--events", "2", "--seconds", "0.01"]) == 0
    assert "CUT: not all of them" in capsys.readouterr().out


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--epochs", "2", "--events", "0", "--crashes", "0"]) == 0
    assert "states (all of them)" in capsys.readouterr().out
    with planted("acts_without_a_lease"):
        assert main(["--epochs", "2", "--events", "0", "--crashes", "0"]) == 1
    assert "BREACH S1: both act" in capsys.readouterr().out
    assert main(["--planted", "activates_at_once"]) == 0
    assert "S1: both act" in capsys.readouterr().out
