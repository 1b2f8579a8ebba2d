"""The kinds of jobs: what becomes argv and script, and that nothing of an order becomes program text.

Tests: engine/jobs/shell.py, engine/jobs/command.py, engine/jobs/process.py
"""

from typing import Any

import pytest

from engine.jobs.command import CommandJob
from engine.jobs.process import argument_text
from engine.jobs.python import PythonJob
from engine.jobs.shell import ShellJob
from engine.language import standard_language
from engine.model.expression import Template


def test_a_script_is_never_filled_in() -> None:
    job = ShellJob('echo "${name}" {script} $(date)')
    assert job.script_text() == 'echo "${name}" {script} $(date)'
    assert job.templates() == {}
    assert job.argv({"name": "; rm -rf /"}) == ("/bin/sh", "-e", "{script}")
    assert ShellJob("print(1)", ("python3", "-I")).argv({}) == ("python3", "-I", "{script}")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("; rm -rf / #", "; rm -rf / #"),
        ("a b\n'\"", "a b\n'\""),
        ("", ""),
        ("${other}", "${other}"),
        (1, "1"),
        (1.5, "1.5"),
        (True, "true"),
        (None, ""),
        ([1, "x"], '[1,"x"]'),
        ({"a": None}, '{"a":null}'),
    ],
)
def test_an_argument_stays_one_argument(value: Any, text: str) -> None:
    assert argument_text(value).replace(" ", "") == text.replace(" ", "")
    job = CommandJob((Template("echo"), Template("${value}")))
    arguments = {name: one.evaluate({"value": value}) for name, one in job.templates().items()}
    assert job.argv(arguments) == ("echo", argument_text(value))
    assert job.script_text() is None


def test_arguments_keep_their_order_beyond_ten() -> None:
    job = CommandJob(tuple(Template(f"w{number}") for number in range(25)))
    arguments = {name: one.evaluate({}) for name, one in reversed(list(job.templates().items()))}
    assert job.argv(arguments) == tuple(f"w{number}" for number in range(25))


def test_kinds_are_known_by_their_keyword_and_say_whether_they_outlive_us() -> None:
    found = {leaf.keyword: leaf.outlives for leaf in standard_language().jobs}
    assert found == {"shell": True, "command": True, "python": False}
    assert PythonJob("m:f", {"a": Template("1")}).templates() == {"a": Template("1")}
