"""What is printed is read back as the same workflow.

Tests: engine/documents/printer.py
"""

import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.documents.convert import workflow_from_text
from engine.documents.loader import load_text
from engine.documents.node import DocumentError, plain
from engine.documents.printer import document_yaml, workflow_document, workflow_yaml
from engine.documents.tree import NESTING_LEVELS_MAX
from engine.jobs.shell import ShellJob
from engine.language import make_language, standard_language
from engine.model.expression import Expression, Template
from engine.model.fields import Size, Span
from engine.model.instruction import Instruction
from engine.model.order import OrderState
from engine.model.outcome import SUCCEEDED, Outcome, failed
from engine.model.workflow import Parameter, ParameterType, Workflow
from engine.rules.check import workflow_faults
from engine.rules.commands.deploy_workflow import DeployWorkflow
from engine.rules.instructions.if_ import If
from engine.rules.instructions.job import Execute
from engine.rules.instructions.sleep import Sleep
from engine.rules.instructions.try_ import Try
from tests.support.pure import PureCluster
from tests.support.workflows import WILD, WILD_OPTIONS, Options, random_workflow, workflows

LANGUAGE = standard_language()
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)


@settings(max_examples=250, deadline=None, suppress_health_check=SLOW)
@given(workflows(WILD_OPTIONS))
def test_a_printed_workflow_is_read_back_as_the_same(workflow: Workflow) -> None:
    assert not workflow_faults(workflow)
    document = workflow_document(workflow, LANGUAGE)
    for kind, text in (("yaml", workflow_yaml(workflow, LANGUAGE)), ("json", json.dumps(document))):
        again = workflow_from_text(text, LANGUAGE, kind=kind)  # type: ignore[arg-type]
        assert again == workflow, text
        assert LANGUAGE.encode(again) == LANGUAGE.encode(workflow), "the order of branches and names is kept too"


@settings(max_examples=200, deadline=None)
@given(st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.lists(st.sampled_from(WILD)).map("".join),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.lists(st.sampled_from([one for one in WILD if one.isprintable()])).map("".join), inner),
    max_leaves=10,
))  # fmt: skip
def test_yaml_holds_every_value(value: object) -> None:
    document = {"value": value}
    assert plain(load_text(document_yaml(document))) == document


def test_a_document_is_what_a_person_would_write() -> None:
    workflow = Workflow(
        name="w",
        version="",
        steps=(
            Execute("a", ShellJob("echo $N\nexit 0\n"), {"N": Template("${5}"), "T": Template("5")}),
            If(Expression("n > 1"), (), (Sleep(Template("1h")),)),
        ),
        parameters={"n": Parameter(ParameterType.INTEGER), "m": Parameter(ParameterType.DATE, False, "2015-01-01")},
    )
    assert workflow_yaml(workflow, LANGUAGE) == (
        "name: w\n"
        "parameters:\n"
        "  n: integer\n"
        "  m:\n"
        "    type: date\n"
        "    default: '2015-01-01'\n"
        "steps:\n"
        "  - job: a\n"
        "    shell: |\n"
        "      echo $N\n"
        "      exit 0\n"
        "    environment:\n"
        "      N: 5\n"
        "      T: '5'\n"
        "  - if: n > 1\n"
        "    then: []\n"
        "    else:\n"
        "      - sleep: 1h\n"
    )


def test_a_number_with_an_exponent_is_printed_as_the_template_it_is() -> None:
    workflow = LANGUAGE.versioned(
        Workflow("w", "", tuple(Sleep(Template(f"${{{one}}}")) for one in ("1e+20", "0.5", ".5")))
    )
    assert [step["sleep"] for step in workflow_document(workflow, LANGUAGE)["steps"]] == ["${1e+20}", 0.5, "${.5}"]
    assert workflow_from_text(workflow_yaml(workflow, LANGUAGE), LANGUAGE) == workflow


def test_a_version_is_printed_unless_it_is_the_contents_own() -> None:
    named = Workflow("w", "7", ())
    assert workflow_document(named, LANGUAGE)["version"] == "7"
    assert "version" not in workflow_document(LANGUAGE.versioned(Workflow("w", "", ())), LANGUAGE)


def test_the_document_is_nobody_elses() -> None:
    default: dict[str, Any] = {"a": [1]}
    workflow = Workflow("w", "1", (), {"p": Parameter(ParameterType.OBJECT, False, default)})
    workflow_document(workflow, LANGUAGE)["parameters"]["p"]["default"]["a"].append(2)
    assert default == {"a": [1]}


def nested(depth: int) -> Workflow:
    step: Instruction = Sleep(Template("1s"))
    for _ in range(depth - 1):
        step = Try((step,))
    return Workflow("w", "1", (step,))


def test_the_deepest_workflow_that_can_be_read_can_be_printed() -> None:
    depth = NESTING_LEVELS_MAX // 2 - 1
    assert workflow_from_text(workflow_yaml(nested(depth), LANGUAGE), LANGUAGE) == nested(depth)
    with pytest.raises(ValueError, match="more than 64 levels deep"):
        workflow_document(nested(depth + 1), LANGUAGE)
    with pytest.raises(ValueError, match="more than 64 levels deep"):
        workflow_document(nested(5_000), LANGUAGE)


class Odd(Sleep, frozen=True, tag="odd"):
    keyword = "odd"


@pytest.mark.parametrize(
    ("workflow", "sentence"),
    [
        (Workflow("w", "1", (Odd(Template("1s")),)), "Odd is no instruction of this language"),
        (Workflow("w", "1", (Execute("a", ShellJob("x"), timeout_ms=Span(-1)),)), "-1 is out of the range"),
        (Workflow("w", "1", (Execute("a", ShellJob("x"), timeout_ms=Span(10**16)),)), "out of the range|hundred years"),
        (Workflow("w", "1", (Execute("a", ShellJob("x"), output_bytes_max=Size(1 << 60)),)), "is out of the range"),
        (Workflow("w", "1", (Execute("a", ShellJob("\0")),)), "NUL"),
        (Workflow("w", "1", (Execute("a", ShellJob("x" * 300_000)),)), "300000 characters"),
        (Workflow("w", "1", (Execute("a", ShellJob("x"), {"a\nb": Template("")}),)), "for a key"),
        (Workflow("w", "1", (), {"p": Parameter(ParameterType.INTEGER, True, 5)}), "required and has a default"),
        (Workflow("w", "1", (), {"p": Parameter(ParameterType.NUMBER, False, 1e999)}), "not a finite number"),
    ],
)
def test_what_no_document_can_say_is_refused(workflow: Workflow, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        workflow_document(workflow, LANGUAGE)


def test_a_kind_of_job_that_the_language_does_not_know_is_refused() -> None:
    class OddJob(ShellJob, frozen=True, tag="odd"):
        keyword = "odd"

    workflow = Workflow("w", "1", (Execute("a", OddJob("x")),))
    with pytest.raises(ValueError, match="OddJob is no kind of job of this language"):
        workflow_document(workflow, LANGUAGE)
    assert workflow_document(workflow, make_language(jobs=[OddJob]))["steps"] == [
        {"job": "a", "odd": None, "shell": "x"}
    ]


# --- the random workflows themselves -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_a_random_workflow_runs_to_its_end(seed: int) -> None:
    draw = random.Random(seed)

    def script(_start: object) -> Outcome:
        return failed("as drawn") if draw.random() < 0.3 else SUCCEEDED

    cluster = PureCluster(agents=("local", "berlin"), script=script)
    workflow = random_workflow(draw, Options(agents=("local", "berlin")))
    assert cluster.command(DeployWorkflow(workflow)) is None
    assert cluster.add("o", workflow.name) is None
    while cluster.alarms:
        cluster.pass_time(cluster.now_ms + 3_600_000)
    order = cluster.order()
    assert order.is_terminal or order.state is OrderState.FORKED, "a failed branch may stay, nothing else may"
    assert "column" not in str(order.outcome), "no expression of it is without a value"


def test_random_workflows_are_bounded_and_repeat() -> None:
    options = Options(steps_max=5, depth_max=1, nests=("fork",), leaves=("job",))
    drawn = [random_workflow(random.Random(seed), options) for seed in range(50)]
    assert drawn == [random_workflow(random.Random(seed), options) for seed in range(50)]
    for workflow in drawn:
        steps = list(workflow.instructions())
        assert 1 <= len(steps) <= 5
        assert {step.keyword for _, step in steps} <= {"fork", "job"}
        assert max(len(position) for position, _ in steps) <= 3
    assert len({workflow.version for workflow in drawn}) > 10


def test_wild_texts_are_what_breaks_a_careless_writer() -> None:
    """The strategy must be able to fail: plain text between quotes is not enough for it."""
    broken = 0
    for seed in range(100):
        description = random_workflow(random.Random(seed), WILD_OPTIONS).description
        try:
            again = workflow_from_text(f"name: w\nsteps: []\ndescription: '{description}'", LANGUAGE)
            broken += again.description != description
        except DocumentError:
            broken += 1
    assert broken > 20
