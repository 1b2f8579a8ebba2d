"""A document becomes a workflow, or all its faults with their places.

Tests: engine/documents/convert.py
"""

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.documents.convert import workflow_from_file, workflow_from_node, workflow_from_text
from engine.documents.loader import load_text
from engine.documents.node import NOWHERE, DocumentError, Mark
from engine.documents.printer import workflow_document
from engine.documents.tree import FAULTS_MAX
from engine.jobs.command import CommandJob
from engine.jobs.python import PythonJob
from engine.jobs.shell import ShellJob
from engine.language import standard_language
from engine.model.expression import Expression, Template
from engine.model.fields import Size, Span
from engine.model.job import OnLost
from engine.model.workflow import Parameter, ParameterType, Workflow
from engine.rules.instructions.case import Case, When
from engine.rules.instructions.fail import Fail
from engine.rules.instructions.finish import Finish
from engine.rules.instructions.fork import Fork
from engine.rules.instructions.fork_list import ForkList
from engine.rules.instructions.if_ import If
from engine.rules.instructions.job import Execute
from engine.rules.instructions.retry import Retry
from engine.rules.instructions.sleep import Sleep
from engine.rules.instructions.try_ import Try
from tests.support.workflows import WILD, WILD_OPTIONS, random_workflow

LANGUAGE = standard_language()
KEYS = ("name", "version", "description", "agent", "parameters", "jobs", "results", "steps")


def read(text: str, file: str = "w.yaml") -> Workflow:
    return workflow_from_text(text, LANGUAGE, file=file)


def faults(text: str, file: str = "w.yaml") -> list[str]:
    with pytest.raises(DocumentError) as caught:
        read(text, file)
    return [str(fault).removeprefix(f"{file}:") for fault in caught.value.faults]


EVERYTHING = """
name: everything
version: "1.10"
description: Each instruction once.
agent: berlin
parameters:
  year: integer
  day: {type: date, default: 2015-02-28, final: true, description: The day}
  note: {type: string, required: false}
results: {rows: "${rows}", count: 5}
steps:
  - job: a
    shell: |
      echo "$YEAR"
    interpreter: [/bin/bash, -eu]
    environment: {YEAR: "${year}", N: 7, FLAG: true}
    directory: /srv/${year}
    timeout: 1h 30m
    kill_delay: 500ms
    limit: 2
    on_lost: rerun
    output_limit: 10MB
  - job: b
    command: [echo, "${year}", 3, -0.5]
    agent: local
    bundle: many
  - job: c
    python: mod:fn
    arguments: {year: "${year}", n: 5}
  - fork:
      x:
        - finish: early
      y: []
    join_if_failed: false
    collect: [rows]
  - fork_list: "[1, 2]"
    as: number
    steps:
      - sleep: ${number}
  - if: rows > 5
    then: [{fail: "too many: ${rows}"}]
    else: [{sleep: 30s}]
  - case:
      - when: true
        then: []
    else:
      - finish: ''
  - try:
      - fail: x
    catch:
      - sleep: 5
  - retry: 3
    delays: [1s, 1m]
    steps: []
"""


def test_every_instruction_with_every_key() -> None:
    rows = Expression("rows > 5")
    shell = ShellJob('echo "$YEAR"\n', ("/bin/bash", "-eu"))
    environment = {"YEAR": Template("${year}"), "N": Template("${7}"), "FLAG": Template("${true}")}
    assert read(EVERYTHING) == Workflow(
        name="everything",
        version="1.10",
        description="Each instruction once.",
        agent="berlin",  # type: ignore[arg-type]
        parameters={
            "year": Parameter(ParameterType.INTEGER),
            "day": Parameter(ParameterType.DATE, False, "2015-02-28", True, "The day"),
            "note": Parameter(ParameterType.STRING, required=False),
        },
        results={"rows": Template("${rows}"), "count": Template("${5}")},
        steps=(
            Execute(
                "a",
                shell,
                environment,
                directory=Template("/srv/${year}"),
                timeout_ms=Span(5_400_000),
                kill_delay_ms=Span(500),
                limit=2,
                on_lost=OnLost.RERUN,
                output_bytes_max=Size(10_000_000),
            ),
            Execute(
                "b",
                CommandJob((Template("echo"), Template("${year}"), Template("${3}"), Template("${-0.5}"))),
                agent="local",  # type: ignore[arg-type]
                bundle="many",  # type: ignore[arg-type]
            ),
            Execute("c", PythonJob("mod:fn", {"year": Template("${year}"), "n": Template("${5}")})),
            Fork({"x": (Finish(Template("early")),), "y": ()}, False, ("rows",)),
            ForkList(Expression("[1, 2]"), "number", (Sleep(Template("${number}")),)),
            If(rows, (Fail(Template("too many: ${rows}")),), (Sleep(Template("30s")),)),
            Case((When(Expression("true"), ()),), (Finish(Template("")),)),
            Try((Fail(Template("x")),), (Sleep(Template("${5}")),)),
            Retry(3, (), (Span(1_000), Span(60_000))),
        ),
    )


def test_yaml_and_json_give_the_same_workflow() -> None:
    workflow = read(EVERYTHING)
    text = json.dumps(workflow_document(workflow, LANGUAGE))
    assert workflow_from_text(text, LANGUAGE, kind="json") == workflow


def test_a_workflow_without_a_version_gets_its_contents_digest() -> None:
    one, same, other = (read(f"name: w\nsteps: [{{sleep: {span}}}]") for span in ("1s", "'1s'", "2s"))
    assert one.version == same.version != other.version
    assert len(one.version) == 10


def test_an_empty_list_of_steps_is_a_workflow() -> None:
    assert read("name: w\nsteps: []").steps == ()


# --- the document itself -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", ["1:1: A workflow is a mapping with the keys name and steps, not an empty list."]),
        ("just text", ["1:1: A workflow is a mapping with the keys name and steps, not the text 'just text'."]),
        (
            "{}",
            [
                "1:1: The key 'name' is missing: a workflow needs it.",
                "1:1: The key 'steps' is missing: a workflow needs it.",
            ],
        ),
        (
            "name: w\nstep: []\nsteps: []",
            ["2:1: step: There is no key 'step' in a workflow: did you mean 'steps'?"],
        ),
        (
            "name: w\nsteps: []\nowner: me",
            [
                "3:1: owner: There is no key 'owner' in a workflow; known are " + ", ".join(KEYS) + ".",
            ],
        ),
        (
            "name: w\nsteps: {sleep: 1s}",
            ["2:8: steps: This must be a list of steps, not a mapping: begin each step with '- '."],
        ),
        ("name: w\nsteps:", ["2:7: steps: This must be a list of steps, not empty."]),
        (
            "name: w\nversion: {}\nsteps: []",
            ["2:10: version: This must be a text, not an empty mapping."],
        ),
        ("name: w\nresults: [a]\nsteps: []", ["2:10: results: This must be a mapping, not a list."]),
        ("name: w\njobs: [a]\nsteps: []", ["2:7: jobs: This must be a mapping from names to jobs, not a list."]),
    ],
)  # fmt: skip
def test_what_is_wrong_at_the_top(text: str, expected: list[str]) -> None:
    assert faults(text) == expected


def test_all_faults_are_told_at_once_in_the_order_of_the_text() -> None:
    text = """
name: a b
parameters:
  x: {type: integer, default: abc}
  y: intger
steps:
  - job: j
    shell: x
    colour: red
  - if: rows >
    then:
      - sleep: [1]
      - job: "c d"
        shell: x
"""
    marks = [line.partition(": ")[0] for line in faults(text)]
    assert marks == ["2:7", "4:3", "5:6", "9:5", "10:15", "12:16", "13:9"]


def test_the_rules_own_faults_stand_where_they_belong() -> None:
    text = """
name: a b
agent: a b
parameters:
  ok: integer
  x: {type: integer, default: abc}
  order: string
steps:
  - fork:
      'b: d':
        - case:
            - when: 'true'
              then:
                - job: -x
                  shell: 'true'
"""
    assert faults(text) == [
        "2:7: name: 'a b' can not be a workflow's name (letters, digits, _ . -).",
        "3:8: agent: 'a b' can not be an agent's name (letters, digits, _ . -).",
        "6:3: parameters.x: The default of parameter 'x' must be integer: it is text.",
        "7:3: parameters.order: The parameter's name 'order' is the engine's own; choose another.",
        "9:5: steps[0]: 'b: d' can not be a branch's name (letters, digits, _ . -).",
        "14:19: steps[0].fork[\"b: d\"][0].case[0].then[0]: '-x' can not be a job's name (letters, digits, _ . -).",
    ]


def test_a_refused_step_does_not_hide_what_the_rules_say_of_its_nested_steps() -> None:
    text = """
name: w
steps:
  - if: rows >
    then:
      - fork:
          x:
            - job: a b
              shell: x
"""
    assert faults(text) == [
        "4:15: steps[0].if: The expression can not be read: expected a value, found the end.",
        "8:15: steps[0].then[0].fork.x[0]: 'a b' can not be a job's name (letters, digits, _ . -).",
    ]


def test_faults_are_bounded() -> None:
    text = "name: w\nsteps:\n" + "  - sleep: []\n" * 1_000
    found = faults(text)
    assert len(found) == FAULTS_MAX + 1
    assert found[-1].endswith(f"Reading ended here, after {FAULTS_MAX} faults.")
    bad_names = "name: w\nsteps:\n" + "  - {job: a b, shell: x}\n" * 1_000
    assert len(faults(bad_names)) == FAULTS_MAX + 1


def test_the_deepest_document_that_loads_is_converted() -> None:
    depth = 31
    text = '{"name": "w", "steps": [' + '{"try": [' * (depth - 1) + '{"sleep": "1s"}' + "]}" * (depth - 1) + "]}"
    assert len(list(workflow_from_text(text, LANGUAGE, kind="json").instructions())) == depth
    with pytest.raises(DocumentError, match="64 levels"):
        workflow_from_text(
            text.replace('{"sleep"', '{"try": [{"sleep"').replace('1s"}', '1s"}]}'), LANGUAGE, kind="json"
        )


# --- files --------------------------------------------------------------------------------------------------------


def test_a_file_is_read_with_exact_places(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text("name: w\nsteps:\n  - if: rows > > 5\n    then: []\n  - job: a\n    command: [zip, 01234]\n")
    with pytest.raises(DocumentError) as caught:
        workflow_from_file(path, LANGUAGE)
    assert [fault.mark for fault in caught.value.faults] == [Mark(3, 16), Mark(6, 20)]
    assert {fault.file for fault in caught.value.faults} == {str(path)}
    path.write_text(EVERYTHING)
    assert workflow_from_file(path, LANGUAGE) == read(EVERYTHING)


def test_a_file_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        workflow_from_file(tmp_path / "none.yaml", LANGUAGE)
    assert caught.value.faults[0].mark == NOWHERE


def test_a_tree_without_its_text_is_read_too_and_less_exactly() -> None:
    node = load_text("name: w\nversion: 2\nsteps:\n  - if: ' rows > > 5'\n    then: []\n")
    with pytest.raises(DocumentError) as caught:
        workflow_from_node(node, LANGUAGE, file="w.yaml")
    expected = "w.yaml:4:9: steps[0].if: The expression can not be read: column 9: expected a value, found '>'."
    assert str(caught.value) == expected


# --- properties ---------------------------------------------------------------------------------------------------

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(WILD),
    st.lists(st.sampled_from(["a", 1, None, {"job": "x"}, []]), max_size=2),
    st.dictionaries(st.sampled_from(["job", "shell", "steps", "type", "when", "zz"]), st.sampled_from(["a", 1, []])),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a document as container and key, outer ones first."""
    found: list[tuple[Any, Any]] = []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        found.append((value, key))
        found += places(below)
    return found


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.randoms(use_true_random=False), st.lists(JUNK, min_size=1, max_size=3))
def test_a_spoiled_document_is_a_workflow_or_a_document_error(seed: int, draw: random.Random, junk: list[Any]) -> None:
    document = workflow_document(random_workflow(random.Random(seed), WILD_OPTIONS), LANGUAGE)
    document = copy.deepcopy(document)
    for value in junk:
        container, key = draw.choice(places(document))
        container[key] = copy.deepcopy(value)
    text = json.dumps(document, indent=1)
    try:
        workflow = workflow_from_text(text, LANGUAGE, kind="json")
    except DocumentError as error:
        lines = text.split("\n")
        for fault in error.faults:
            assert 1 <= fault.mark.line <= len(lines), fault
            assert 1 <= fault.mark.column <= len(lines[fault.mark.line - 1]), fault
            assert fault.sentence[0].isupper() or fault.sentence[0] in "'\"", fault
            assert fault.sentence.endswith((".", "?")), fault
            assert fault.sentence.isprintable(), fault
    else:
        assert LANGUAGE.encode(workflow)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_a_key_too_many_is_never_passed_over(seed: int, draw: random.Random) -> None:
    document = workflow_document(random_workflow(random.Random(seed), WILD_OPTIONS), LANGUAGE)
    document = copy.deepcopy(document)
    mappings: list[dict[str, Any]] = [document]
    mappings += [way for _, way in _values(document) if isinstance(way, dict) and ("when" in way or "type" in way)]
    mappings += [step for _, step in _values(document) if isinstance(step, dict) and _is_step(step)]
    draw.choice(mappings)["surplus"] = 1
    with pytest.raises(DocumentError, match="There is no key 'surplus'"):
        workflow_from_text(json.dumps(document), LANGUAGE, kind="json")


def _values(document: dict[str, Any]) -> list[tuple[Any, Any]]:
    steps = {"steps": document["steps"], "parameters": document["parameters"]}
    return [(key, container[key]) for container, key in places(steps)]


def _is_step(value: dict[str, Any]) -> bool:
    first = next(iter(value), "")
    return first in LANGUAGE.instructions.keywords and "when" not in value
