"""Steps, the jobs they carry, and definitions under `jobs`.

Tests: engine/documents/convert_steps.py
"""

import pytest

from engine.documents.convert import workflow_from_text
from engine.documents.node import DocumentError
from engine.jobs.python import PythonJob
from engine.language import standard_language
from engine.model.expression import Template
from engine.model.job import OnLost
from engine.rules.instructions.job import Execute
from tests.support.tables import agrees, cases

LANGUAGE = standard_language()


def faults(text: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        workflow_from_text(text, LANGUAGE)
    return [f"{fault.mark.line}:{fault.mark.column}: {fault.path}: {fault.sentence}" for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("step", "expected"),
    cases("""
fail
  2:9: steps[0]: A step is a mapping such as 'job: name', not the text 'fail': write 'fail:'.

5
  2:9: steps[0]: A step is a mapping such as 'job: name', not the number 5.

[]
  2:9: steps[0]: A step is a mapping such as 'job: name', not an empty list.

{}
  2:9: steps[0]: This step names no instruction: one of its keys must be case, fail, finish, …

{nothing: 1}
  2:9: steps[0]: This step names no instruction: one of its keys must be case, fail, finish, …

{Sleep: 1s}
  2:10: steps[0]: There is no instruction 'Sleep': did you mean 'sleep'?

{fork-list: a}
  2:10: steps[0]: There is no instruction 'fork-list': did you mean 'fork_list'?

{python: 'a:b'}
  2:9: steps[0]: A python job needs a name: write 'job: NAME' beside 'python'.

{sleep: 1s, fail: x}
  2:21: steps[0]: This step holds several instructions, 'sleep', 'fail': write each as a step of its own.

{if: a}
  2:9: steps[0]: The key 'then' is missing: an if step needs it.

{if: a, then: [], catch: []}
  2:27: steps[0].catch: There is no key 'catch' in an if step: it belongs to try steps.

{retry: 2, steps: [], delay: [1s]}
  2:31: steps[0].delay: There is no key 'delay' in a retry step: did you mean 'delays'?

{retry: 2, steps: [], x: 1}
  2:31: steps[0].x: There is no key 'x' in a retry step; known are retry, steps, delays.

{retry: 0, steps: []}
  2:9: steps[0]: Retry takes the number of rounds, 1 to 1000, not 0.

{fork: {x: {sleep: 1s}}}
  2:20: steps[0].fork.x: This must be a list of steps, not a mapping: begin each step with '- '.

{case: [{when: a, then: [], else: []}]}
  2:37: steps[0].case[0].else: There is no key 'else' here: it belongs to case and if steps.

{case: [a]}
  2:17: steps[0].case[0]: This must be a mapping, not the text 'a'.

{case: [{then: []}]}
  2:17: steps[0].case[0]: The key 'when' is missing: this mapping needs it.
"""),
)
def test_a_step_that_is_refused(step: str, expected: str) -> None:
    (fault,) = faults(f"name: w\nsteps: [{step}]")
    assert agrees(fault, expected), fault


@pytest.mark.parametrize(
    ("step", "expected"),
    cases("""
{job: a}
  2:9: steps[0]: What to run is missing: a job step needs one of the keys command, python, shell.

{job: a, arguments: {}}
  2:9: steps[0]: What to run is missing: a job step needs one of the keys command, python, shell.

{job: a, shell: x, command: [x]}
  2:28: steps[0]: A job is of one kind, and here are several: 'shell', 'command'.

{job: a, shell: x, arguments: {}}
  2:28: steps[0].arguments: There is no key 'arguments' in a job step: it belongs to python jobs, not to shell.

{job: a, shell: x, shel: y}
  2:28: steps[0].shel: There is no key 'shel' in a job step: did you mean 'shell'?

{job: a, shell: x, joinIfFailed: true}
  2:28: steps[0].joinIfFailed: There is no key 'joinIfFailed' in a job step; known are job, environment, agent,
  bundle, directory, timeout, kill_delay, limit, on_lost, output_limit, on_partition, shell, interpreter.

{job: a, shell: x, on-lost: hold}
  2:28: steps[0].on-lost: There is no key 'on-lost' in a job step: did you mean 'on_lost'?

{job: a, shell: x, killDelay: 1s}
  2:28: steps[0].killDelay: There is no key 'killDelay' in a job step: did you mean 'kill_delay'?

{job: a, run: x}
  2:9: steps[0]: What to run is missing: a job step needs one of the keys command, python, shell. 2:18:
  steps[0].run: There is no key 'run' in a job step; known are job, environment, …

{job: a, command: x}
  2:27: steps[0].command: This must be a list, not the text 'x'.

{job: , shell: x}
  2:15: steps[0].job: This must be a text, not empty.
"""),
)
def test_a_job_that_is_refused(step: str, expected: str) -> None:
    found = " ".join(faults(f"name: w\nsteps: [{step}]"))
    assert agrees(found, expected), found


# --- definitions --------------------------------------------------------------------------------------------------

DEFINED = """
name: w
jobs:
  fetch:
    python: mod:fn
    arguments: {a: x, b: y}
    environment: {A: '1', B: '2'}
    timeout: 30s
    on_lost: rerun
steps:
"""


def test_a_step_takes_from_a_definition_what_it_does_not_write() -> None:
    text = DEFINED + "  - job: fetch\n  - {job: fetch, timeout: 1m, environment: {B: '3', C: '4'}, arguments: {b: z}}"
    first, second = workflow_from_text(text, LANGUAGE).steps
    assert first == Execute(
        "fetch",
        PythonJob("mod:fn", {"a": Template("x"), "b": Template("y")}),
        {"A": Template("1"), "B": Template("2")},
        timeout_ms=30_000,  # type: ignore[arg-type]
        on_lost=OnLost.RERUN,
    )
    assert second == Execute(
        "fetch",
        PythonJob("mod:fn", {"a": Template("x"), "b": Template("z")}),
        {"A": Template("1"), "B": Template("3"), "C": Template("4")},
        timeout_ms=60_000,  # type: ignore[arg-type]
        on_lost=OnLost.RERUN,
    )


def test_a_step_of_another_name_needs_no_definition() -> None:
    workflow = workflow_from_text(DEFINED + "  - {job: other, shell: x}", LANGUAGE)
    assert workflow.steps == workflow_from_text("name: w\nsteps: [{job: other, shell: x}]", LANGUAGE).steps


@pytest.mark.parametrize(
    ("step", "expected"),
    cases("""
{job: fetsh}
  11:11: steps[0].job: There is no 'fetsh' under 'jobs': did you mean 'fetch'?

{job: other}
  11:11: steps[0].job: There is no 'other' under 'jobs'; write command, python, shell beside it, or define it
  there.

{job: fetch, shell: x}
  11:18: steps[0].shell: The job 'fetch' is defined under 'jobs': remove 'shell' or rename this step.

{job: fetch, interpreter: [x]}
  11:18: steps[0].interpreter: There is no key 'interpreter' in a job step: it belongs to shell jobs, not to
  python.
"""),
)
def test_a_step_that_does_not_fit_its_definition(step: str, expected: str) -> None:
    assert faults(f"{DEFINED}  - {step}") == [expected]


def test_faults_of_a_definition_are_told_once_and_there() -> None:
    text = """
name: w
jobs:
  none: {timeout: 30}
  both: {shell: x, command: [x]}
  text: ./run.sh
  named: {job: x, shell: x, limit: x}
steps:
  - job: none
    timeout: 3s
  - job: both
  - {job: text, arguments: {}}
  - job: named
  - job: named
"""
    assert faults(text) == [
        "4:9: jobs.none: What to run is missing: this job needs one of the keys command, python, shell.",
        "4:19: jobs.none.timeout: The number '30' needs its unit here: write it as in 30s.",
        "5:20: jobs.both: A job is of one kind, and here are several: 'shell', 'command'.",
        "6:9: jobs.text: A job is defined by a mapping such as 'shell: …', not by the text './run.sh'.",
        "7:11: jobs.named.job: There is no key 'job' in a job's definition: it belongs to job steps.",
        "7:36: jobs.named.limit: This must be a whole number, not the text 'x'.",
    ]


def test_a_definition_nobody_uses_is_read_all_the_same() -> None:
    assert len(faults("name: w\njobs: {a: {shell: [x]}}\nsteps: []")) == 1
    assert workflow_from_text("name: w\njobs: {a: {shell: x}}\nsteps: []", LANGUAGE).steps == ()
