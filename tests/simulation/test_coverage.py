"""The catalogue of conditions that a batch of seeds must meet."""

import pytest

from engine.simulation.coverage import CATALOGUE, Coverage, Sometimes, check_name


def test_conditions_are_counted_by_run() -> None:
    first, second = Sometimes(), Sometimes()
    for _ in range(5):
        first("disk: fault")
    first("disk: tail lost", [])
    second("disk: fault", True)
    second("node: paused", 1)
    assert first.met == {"disk: fault": 5}
    coverage = Coverage()
    coverage.add(first.met)
    coverage.add(second.met)
    assert coverage.counts == {"disk: fault": 2, "node: paused": 1}
    assert coverage.table() == ["     1 of 2  node: paused", "     2 of 2  disk: fault"]


def test_what_was_never_met_is_said_in_a_sentence() -> None:
    coverage = Coverage()
    coverage.add(CATALOGUE)
    assert coverage.missing() == []
    del coverage.counts["disk: fault"]
    assert coverage.missing() == ["disk: fault: never an fsync failed and ended its node"]
    assert coverage.missing(["node: paused"]) == []
    assert coverage.missing(["my own"]) == ["my own: never met"]


def test_batches_of_other_processes_are_added_up() -> None:
    coverage = Coverage()
    coverage.merge(10, {"disk: fault": 3})
    coverage.merge(5, {"disk: fault": 1, "node: paused": 2})
    assert (coverage.runs, coverage.counts) == (15, {"disk: fault": 4, "node: paused": 2})


def test_a_name_that_is_not_in_the_catalogue_is_told() -> None:
    assert check_name("disk: fault") == "disk: fault"
    with pytest.raises(KeyError, match="catalogue"):
        check_name("disk: falt")
