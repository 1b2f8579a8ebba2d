"""Workflows written in Python are those that documents give; mistakes are one sentence.

Tests: engine/documents/builder.py
Tests: engine/documents/builder_callables.py
"""

import functools
import json
import operator
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from engine.documents import builder
from engine.documents.builder import (
    Workflow,
    callables_of,
    case,
    fail,
    finish,
    fork,
    fork_list,
    if_,
    job,
    parameter,
    retry,
    sleep,
    try_,
    workflow,
)
from engine.documents.convert import workflow_from_text
from engine.documents.printer import workflow_yaml
from engine.jobs.python import PythonJob, find_callable
from engine.jobs.shell import ShellJob
from engine.language import standard_language
from engine.model import workflow as model
from engine.model.expression import Expression, Template
from engine.model.instruction import Instruction
from engine.rules.instructions.job import Execute

LANGUAGE = standard_language()

DOCUMENT = """
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
    shell: echo
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
    python: json:dumps
    arguments: {a: "${year}", b: 5}
  - fork:
      x: [{finish: early}]
      y-2: []
    join_if_failed: false
    collect: [rows]
  - fork_list: items
    as: item
    steps: [{sleep: 30s}]
    collect: [rows]
  - fork_list: '[1, "b", {"c": null}]'
    as: item
    steps: [{sleep: "${item}"}]
  - if: rows > 5
    then: [{fail: "too many: ${rows}"}]
    else: [{sleep: 5}, {sleep: 1500ms}]
  - case:
      - when: true
        then: []
      - when: rows == 1
        then: [{sleep: 1s}]
    else: [{finish: ''}]
  - try: [{fail: x}]
    catch: [{sleep: 5}]
  - retry: 3
    delays: [1s, 1m]
    steps: [{sleep: 1s}]
"""


def test_the_builder_and_a_document_give_the_same_workflow() -> None:
    built = Workflow(
        "everything",
        job(
            "a",
            shell="echo",
            interpreter=["/bin/bash", "-eu"],
            environment={"YEAR": "${year}", "N": 7, "FLAG": True},
            directory="/srv/${year}",
            timeout=timedelta(minutes=90),
            kill_delay="500ms",
            limit=2,
            on_lost="rerun",
            output_limit="10MB",
        ),
        job("b", command=["echo", "${year}", 3, -0.5], agent="local", bundle="many"),
        [
            job("c", python=json.dumps, arguments={"a": Template("${year}"), "b": 5}),
            fork({"x": finish("early"), "y-2": []}, join_if_failed=False, collect=["rows"]),
        ],
        fork_list("items", "item", sleep("30s"), collect=("rows",)),
        fork_list([1, "b", {"c": None}], as_="item", steps=[sleep("${item}")]),
        if_(Expression("rows > 5"), then=fail("too many: ${rows}"), else_=[sleep(5), sleep(timedelta(seconds=1.5))]),
        case((True, []), ("rows == 1", sleep("1s")), else_=finish()),
        try_(fail("x"), catch=sleep(5)),
        retry(sleep("1s"), delays=["1s", timedelta(minutes=1)]),
        parameters={
            "year": "integer",
            "day": parameter("date", default="2015-02-28", final=True, description="The day"),
            "note": parameter("string", required=False),
        },
        results={"rows": "${rows}", "count": 5},
        agent="berlin",
        version="1.10",
        description="Each instruction once.",
    )
    read = workflow_from_text(DOCUMENT, LANGUAGE)
    assert built.steps == read.steps
    assert built == read
    assert LANGUAGE.encode(built) == LANGUAGE.encode(read)


def test_a_workflow_without_a_version_gets_the_documents_digest() -> None:
    built = LANGUAGE.versioned(Workflow("w", sleep("1s")))
    assert built == workflow_from_text("name: w\nsteps: [{sleep: 1s}]", LANGUAGE)


def test_branches_are_arguments_or_a_mapping_or_both() -> None:
    assert list(fork({"a-b": []}, collect=[], x=[], y=[]).fork) == ["a-b", "x", "y"]
    assert list(fork({"collect": []}, collect=["n"]).fork) == ["collect"]


def test_the_class_stands_for_every_workflow() -> None:
    assert type(Workflow("w")) is model.Workflow
    assert isinstance(workflow_from_text("name: w\nsteps: []", LANGUAGE), Workflow)
    assert not isinstance("w", Workflow)
    assert workflow("w") == Workflow("w")


def test_a_job_of_any_kind_may_be_given() -> None:
    assert job("a", run=ShellJob("x")) == job("a", shell="x")


# --- callables ----------------------------------------------------------------------------------------------------


def visible(a: int) -> int:
    return a


class Machine:
    def __call__(self) -> int:
        return 1

    def method(self) -> int:
        return 2

    @classmethod
    def made(cls) -> int:
        return 3


def path_of(step: Execute) -> str:
    assert isinstance(step.run, PythonJob)
    return step.run.python


@pytest.mark.parametrize(
    ("function", "path"),
    [(operator.add, "_operator:add"), (json.dumps, "json:dumps"), (dict, "builtins:dict"), (print, "builtins:print")],
)
def test_what_can_be_imported_is_named_by_module_and_name(function: Callable[..., Any], path: str) -> None:
    built = Workflow("w", job("a", python=function))
    step = built.steps[0]
    assert isinstance(step, Execute)
    assert path_of(step) == path
    assert callables_of(built) == {}
    assert find_callable(path, {}) is function


def test_a_function_of_a_module_and_a_class_method_can_be_imported() -> None:
    module = sys.modules[__name__]
    built = Workflow("w", job("a", python=visible), job("b", python=Machine.made))
    assert callables_of(built) == {}
    paths = [path_of(step) for step in built.steps if isinstance(step, Execute)]
    assert paths == [f"{module.__name__}:visible", f"{module.__name__}:Machine.made"]


def local_callables() -> dict[str, Callable[..., Any]]:
    def nested() -> int:
        return 4

    @functools.wraps(visible)
    def wrapped(a: int) -> int:
        return a + 1

    main = {"__name__": "__main__"}
    exec("def job(): return 5", main)
    return {
        "nested": nested,
        "lambda": lambda: 6,
        "partial": functools.partial(visible, 7),
        "instance": Machine(),
        "method": Machine().method,
        "wrapped": wrapped,
        "main": main["job"],  # type: ignore[dict-item]
    }


@pytest.mark.parametrize("kind", local_callables())
def test_what_can_not_be_imported_is_carried_beside_the_workflow(kind: str) -> None:
    function = local_callables()[kind]
    steps: Instruction = job("inner", python=function)
    for nest in (lambda step: fork(x=step), lambda step: if_("true", [], [step]), lambda step: case(("true", step))):
        steps = nest(steps)
    built = Workflow("w", sleep("1s"), steps)
    ((name, found),) = callables_of(built).items()
    assert found is function
    assert find_callable(name, callables_of(built)) is function
    assert type(name) is str
    # The workflow itself holds the name alone: it is encoded, printed and compared like any other.
    assert LANGUAGE.encode(built)
    read = workflow_from_text(workflow_yaml(built, LANGUAGE), LANGUAGE)
    assert read == LANGUAGE.versioned(built)
    assert callables_of(read) == {}


def test_a_function_of_the_running_program_is_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program is `__main__` after a restart, so its name alone would find something else, or nothing."""

    def load() -> int:
        return 1

    load.__module__, load.__qualname__ = "__main__", "load"
    monkeypatch.setattr(sys.modules["__main__"], "load", load, raising=False)
    assert callables_of(Workflow("w", job("a", python=load))) == {"__main__:load#a": load}


def test_the_name_of_a_local_callable_is_the_same_in_the_next_process() -> None:
    assert list(callables_of(Workflow("w", job("a", python=local_callables()["lambda"])))) == [
        f"{__name__}:local_callables.<locals>.<lambda>#a"
    ]


def test_one_name_for_two_callables_is_refused() -> None:
    first, second = local_callables()["lambda"], local_callables()["lambda"]
    assert len(callables_of(Workflow("w", job("a", python=first), job("b", python=second)))) == 2
    assert len(callables_of(Workflow("w", job("a", python=first), job("a", python=first)))) == 1
    with pytest.raises(ValueError, match=r"two different callables are called .*#a'"):
        Workflow("w", job("a", python=first), job("a", python=second))


def test_the_callables_given_out_are_a_copy() -> None:
    built = Workflow("w", job("a", python=lambda: 1))
    callables_of(built).clear()
    assert len(callables_of(built)) == 1


# --- mistakes -----------------------------------------------------------------------------------------------------

MISTAKES: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: job("a"), ValueError, "job 'a' needs exactly one of shell, command, python, run, and has none"),
    (lambda: job("a", shell="x", python="a:b"), ValueError, "and has shell, python"),
    (lambda: job("a", shell="x", arguments={}), ValueError, "job 'a' is given arguments, which belongs to python jobs"),
    (lambda: job("a", python="a:b", interpreter=[]), ValueError, "given interpreter, which belongs to shell jobs"),
    (lambda: job("a", command="ls -l"), TypeError, "the command of job 'a' is a list"),
    (lambda: job("a", command=["ls", None]), TypeError, "the command of job 'a' holds a NoneType"),  # type: ignore[list-item]
    (lambda: job("a", shell="x", interpreter="bash"), TypeError, "the interpreter of job 'a' is a list of words"),
    (lambda: job("a", run="ls"), TypeError, "run of job 'a' is a str, not a kind of job"),  # type: ignore[arg-type]
    (lambda: job("a", python=5), TypeError, "python of job 'a' is a int, which can not be called"),  # type: ignore[arg-type]
    (lambda: job(5, shell="x"), TypeError, "the name of a job is a text, not 5"),  # type: ignore[arg-type]
    (lambda: job("a", shell="x", timeout="30"), ValueError, "the timeout of job 'a': '30' is not a duration"),
    (lambda: job("a", shell="x", timeout=30), TypeError, "the timeout of job 'a' needs its unit"),  # type: ignore[arg-type]
    (lambda: job("a", shell="x", timeout=timedelta(-1)), ValueError, "the timeout of job 'a' is negative"),
    (lambda: job("a", shell="x", output_limit="5"), TypeError, "the output_limit of job 'a' needs its unit"),
    (lambda: job("a", shell="x", output_limit="5 kg"), ValueError, "the output_limit of job 'a': '5 kg' is not a size"),
    (lambda: job("a", shell="x", output_limit="9" * 400 + "B"), ValueError, "the output_limit of job 'a'"),
    (lambda: job("a", shell="x", limit="3"), TypeError, "the limit of job 'a' is a whole number, not '3'"),  # type: ignore[arg-type]
    (
        lambda: job("a", shell="x", on_partition="hold"),
        ValueError,
        "on_partition of job 'a' is one of continue, stop, not 'hold'",
    ),
    (lambda: job("a", shell="x", on_lost="retry"), ValueError, "on_lost of job 'a' is one of hold, rerun, fail"),
    (lambda: job("a", shell="x", environment={"A": "${"}), ValueError, "the environment of job 'a': column"),
    (lambda: job("a", shell="x", environment={"A": [1]}), TypeError, "the environment of job 'a' holds a list"),  # type: ignore[dict-item]
    (lambda: job("a", shell="x", environment={"A": 1e999}), ValueError, "holds inf, which is no finite number"),
    (lambda: job("a", shell="x", environment={"A": 1 << 70}), ValueError, "the environment of job 'a': column"),
    (lambda: job("a", shell="x", environment={5: "a"}), TypeError, "a name in the environment"),  # type: ignore[dict-item]
    (lambda: fork({"x": []}, x=[]), ValueError, "the branch 'x' of a fork is given twice"),
    (lambda: fork(x=[], collect="rows"), TypeError, r"collect of a fork is a list of names, as in \['rows'\]"),
    (lambda: fork(x="job"), TypeError, "branch 'x' of a fork holds 'job', which is no step"),  # type: ignore[arg-type]
    (lambda: fork(x=[5]), TypeError, "branch 'x' of a fork holds a int, which is no step"),  # type: ignore[list-item]
    (lambda: fork_list("a b", "x", []), ValueError, "the list of a fork_list: column 3"),
    (lambda: fork_list([object()], "x", []), ValueError, "the list of a fork_list can not be kept"),  # type: ignore[list-item]
    (lambda: if_("a >", []), ValueError, "the condition of an if: column"),
    (lambda: if_(5, []), TypeError, "the condition of an if is a int; write an expression as text"),  # type: ignore[arg-type]
    (lambda: case("a", []), TypeError, "way 1 of a case is a condition and its steps"),  # type: ignore[arg-type]
    (lambda: case(("a >", [])), ValueError, "condition 1 of a case: column"),
    (lambda: retry([]), ValueError, "a retry needs times or delays"),
    (lambda: retry([], 0), ValueError, "not 0"),
    (lambda: retry([], times="3"), TypeError, "the times of a retry is a whole number"),  # type: ignore[arg-type]
    (lambda: retry([], delays="1s"), TypeError, r"the delays of a retry are a list, as in \['1s'\]"),
    (lambda: fail("${a"), ValueError, "the message of a fail: column"),
    (lambda: sleep("soon"), ValueError, "the duration of a sleep: 'soon' is not a duration"),
    (lambda: sleep("5"), ValueError, "the duration of a sleep: '5' is not a duration"),
    (lambda: parameter("int"), ValueError, "'int' is no type of a parameter; it is one of string, integer"),
    (lambda: parameter("integer", default=5, required=True), ValueError, "with a default is not required"),
    (lambda: parameter("object", default={1: 2}), ValueError, "the default of a parameter can not be kept"),  # type: ignore[dict-item]
    (lambda: Workflow("a b"), ValueError, "'a b' can not be a workflow's name"),
    (lambda: Workflow(5), TypeError, "the name of a workflow is a text, not 5"),  # type: ignore[arg-type]
    (lambda: Workflow("w", "job"), TypeError, "a workflow holds 'job', which is no step"),  # type: ignore[arg-type]
    (lambda: Workflow("w", parameters={"n": 5}), TypeError, "parameter 'n' is declared by a type or by parameter"),  # type: ignore[dict-item]
    (
        lambda: Workflow("w", parameters={"n": parameter("integer", default="x")}),
        ValueError,
        "the default of parameter",
    ),
    (lambda: Workflow("w", job("a b", shell="x")), ValueError, "step 0: 'a b' can not be a job's name"),
]


@pytest.mark.parametrize(("call", "kind", "sentence"), MISTAKES)
def test_a_mistake_is_one_sentence(call: Callable[[], object], kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence) as caught:
        call()
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


def test_steps_nested_too_deep_for_a_document_are_refused() -> None:
    step: Instruction = sleep("1s")
    for _ in range(builder.NESTING_STEPS_MAX - 1):
        step = try_(step)
    assert workflow_from_text(workflow_yaml(Workflow("w", step), LANGUAGE), LANGUAGE).steps == (step,)
    with pytest.raises(ValueError, match="more than 31 deep"):
        Workflow("w", try_(step))
    for _ in range(5_000):
        step = try_(step)
    with pytest.raises(ValueError, match="more than 31 deep"):
        Workflow("w", step)
