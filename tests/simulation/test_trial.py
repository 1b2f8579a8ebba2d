"""A trial of a workflow without a test: its agents and bundles are there, its orders come to their end."""

from pathlib import Path

import pytest

from engine import Workflow, fork, job
from engine.documents.node import DocumentError
from engine.language import standard_language
from engine.simulation.modelled_jobs import Duration
from engine.simulation.seeds import Simulated, run_one
from engine.simulation.settings import Cluster
from engine.simulation.trial import Trial, agents_named, bundles_named, workflow_file

WORK = standard_language().versioned(
    Workflow(
        "work",
        fork(
            a=[job("one", shell="work", agent="north", on_lost="rerun")],
            b=[job("two", shell="work", agent="south", bundle="big", on_lost="rerun")],
        ),
        job("three", shell="work", on_lost="rerun"),
        parameters={"n": "integer"},
    )
)
CLUSTER = Cluster(agents={"local": 1, "north": 1, "south": 3})


def trial(**fields: object) -> Simulated:
    plain = {"workflow": WORK, "cluster": CLUSTER, "orders": 3, "arguments": {"n": 5}, "seconds": 8.0}
    return Trial(**(plain | fields)).simulated(Path("work.yaml"))  # type: ignore[arg-type]


def test_agents_and_bundles_are_those_that_the_workflow_names() -> None:
    assert agents_named(WORK) == ["local", "north", "south"]
    (bundle,) = bundles_named(WORK, CLUSTER)
    assert (bundle.id, bundle.agent, list(bundle.priorities)) == ("big", "south", ["south-1", "south-2", "south-3"])


def test_every_order_comes_to_its_end_through_faults() -> None:
    one = trial()
    done = run_one(1, one.test, one.settings)
    assert done.report.found == []
    assert done.report.endings == {"finished": 3}
    assert sum(done.report.faults.values()) > 0
    assert done.simulation is not None
    assert {group.label for group in done.simulation.processes()} == {"one", "two", "three"}


def test_no_seconds_are_no_faults_and_a_failed_order_is_a_result() -> None:
    one = trial(seconds=0.0, jobs={"three": Duration(fail_rate=1, return_code=9)})
    done = run_one(1, one.test, one.settings)
    assert (done.report.found, done.report.faults) == ([], {})
    assert done.report.endings == {"failed with return code 9": 3}


def test_orders_and_arguments_are_part_of_what_a_seed_means() -> None:
    digests = [
        one.settings.digest() for one in (trial(), trial(orders=4), trial(arguments={"n": 6}), trial(seconds=9.0))
    ]
    assert len(set(digests)) == 4
    assert trial(seeds=99).settings.digest() == digests[0]


def test_a_document_is_read_for_a_test(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text("name: w\nsteps:\n  - job: one\n    shell: 'true'\n")
    assert workflow_file(path).name == "w"
    assert workflow_file(str(path)).version
    path.write_text("name: w\nsteps:\n  - jib: one\n")
    with pytest.raises(DocumentError, match=r"w\.yaml:3"):
        workflow_file(path)
