"""What `sim` is about: the simulated tests of a Python file, or a trial made of a workflow document. Floor 11."""

import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import yaml

from engine.cli.document import read_workflow
from engine.cli.exits import Ended, ExitCode
from engine.cli.values import complete_values, given_values
from engine.documents.node import printable, quoted
from engine.language import standard_language
from engine.model.workflow import Workflow
from engine.rules.instructions.job import Execute
from engine.simulation.modelled_jobs import DEFAULT, Duration, JobModel
from engine.simulation.seeds import Simulated
from engine.simulation.settings import Cluster
from engine.simulation.trial import ORDERS, SECONDS, Trial, agents_named

PYTHON = ".py"
JOBS_BYTES_MAX = 1_000_000


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says of a trial, None where it says nothing, and which test of a Python file is meant."""

    controllers: int | None = None
    agents: str | None = None
    orders: int | None = None
    arguments: tuple[str, ...] = ()
    seconds: float | None = None
    jobs: Path | None = None
    test: str | None = None

    def words(self) -> str:
        """Write it as it was given, to be given again."""
        found = []
        for name, value in msgspec.structs.asdict(self).items():
            values = value if isinstance(value, tuple) else () if value is None else (value,)
            found += [f"--{name} {_shell(f'{one:g}' if isinstance(one, float) else str(one))}" for one in values]
        return "".join(f" {one}" for one in found)


def tests_in(file: Path, asked: Asked) -> list[Simulated]:
    """Return the tests that a file means; raises Ended with a sentence for a file or an option that is wrong."""
    if file.suffix == PYTHON:
        return _of_python(file, asked)
    if asked.test is not None:
        raise Ended(ExitCode.USAGE, f"--test chooses a test of a Python file, and {file} is a workflow document.")
    return [_of_document(file, asked)]


def one_test_in(file: Path, asked: Asked) -> Simulated:
    """Return the one test that a seed is about; raises Ended where there are several."""
    found = tests_in(file, asked)
    if len(found) > 1:
        names = ", ".join(one.name for one in found)
        raise Ended(ExitCode.USAGE, f"{file} has several simulated tests, {names}: choose one with --test NAME.")
    return found[0]


# --- workflow documents -----------------------------------------------------------------------------------------------


def _of_document(file: Path, asked: Asked) -> Simulated:
    workflow = read_workflow(file, standard_language())
    given = given_values(workflow, asked.arguments)
    complete_values(workflow, given)
    agents: dict[str, int] = dict.fromkeys(agents_named(workflow), 2)
    agents |= _agents(asked.agents) if asked.agents is not None else {}
    folder = str(file.absolute().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # as `run` does, so that a callable beside the document is found
    try:
        cluster = Cluster(controllers=asked.controllers or 1, agents=agents)
    except ValueError as error:
        raise Ended(ExitCode.USAGE, f"This cluster can not be simulated: {error}.") from None
    trial = Trial(
        workflow=workflow,
        cluster=cluster,
        orders=asked.orders or ORDERS,
        arguments=given,
        seconds=SECONDS if asked.seconds is None else asked.seconds,
        jobs={} if asked.jobs is None else _jobs_of(workflow, asked.jobs),
    )
    return trial.simulated(file)


def _agents(text: str) -> dict[str, int]:
    """Read `a=2,b=1`; a name alone has one subagent."""
    found: dict[str, int] = {}
    for word in text.split(","):
        name, equals, count = word.strip().partition("=")
        if not name or (equals and not (count.isascii() and count.isdigit() and len(count) < 4)) or name in found:
            raise Ended(
                ExitCode.USAGE, f"--agents takes name=number of subagents, such as a=2,b=1, not {quoted(text)}."
            )
        found[name] = int(count) if equals else 1
    return found


def _jobs_of(workflow: Workflow, file: Path) -> dict[str, JobModel]:
    """Read the models of a workflow's jobs; a name that is none of theirs would be a model that nobody meets."""
    jobs = read_jobs(file)
    there = list(dict.fromkeys(str(step.job) for _, step in workflow.instructions() if isinstance(step, Execute)))
    if strange := [one for one in jobs if one not in (DEFAULT, *there)]:
        raise Ended(ExitCode.DOCUMENT, f"{file} models job {quoted(strange[0])}; there are {', '.join(there)}.")
    return jobs


def read_jobs(file: Path) -> dict[str, JobModel]:
    """Read what the processes of jobs do from a YAML or JSON file: label → fields of `Duration`; raises Ended."""
    try:
        with file.open("rb") as stream:
            source = yaml.safe_load(stream.read(JOBS_BYTES_MAX))
        if not isinstance(source, Mapping):
            raise ValueError("it is not a mapping of jobs")
        known = {field.name for field in msgspec.structs.fields(Duration)}
        for label, fields in source.items():
            if not isinstance(fields, Mapping | None):
                raise ValueError(f"job {label} has {fields!r} where the fields of a Duration are due")
            if unknown := [one for one in fields or {} if one not in known]:
                raise ValueError(f"job {label} has {unknown[0]!r}; there are {', '.join(sorted(known))}")
        return {str(label): msgspec.convert(fields or {}, Duration) for label, fields in source.items()}
    except OSError as error:
        raise Ended(ExitCode.STATE, f"{file} can not be read: {error.strerror or error}.") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise Ended(
            ExitCode.DOCUMENT, f"{file} does not say what jobs do: {printable(' '.join(str(error).split()))}"
        ) from None


# --- Python files -----------------------------------------------------------------------------------------------------


def _of_python(file: Path, asked: Asked) -> list[Simulated]:
    for name in ("controllers", "agents", "orders", "arguments", "seconds", "jobs"):
        if getattr(asked, name) not in (None, ()):
            raise Ended(ExitCode.USAGE, f"--{name} is for workflow documents; a test in a Python file says it itself.")
    found: dict[str, Simulated] = {}
    left_out = []
    for name, value in vars(_loaded(file)).items():
        one = getattr(value, "simulated", None)
        if isinstance(one, Simulated) and one.name not in found:
            needed = [each.name for each in inspect.signature(value).parameters.values() if each.default is each.empty]
            if needed:
                left_out.append(f"{name} takes {', '.join(needed)}")
            else:
                found[one.name] = one
    if asked.test is not None and asked.test in found:
        return [found[asked.test]]
    there = f"there are {', '.join(found)}" if found else "there is none that can be run here"
    others = f" ({'; '.join(left_out)}: run such tests by pytest)" if left_out else ""
    if asked.test is not None:
        raise Ended(ExitCode.USAGE, f"{file} has no simulated test {quoted(asked.test)}; {there}{others}.")
    if not found:
        raise Ended(ExitCode.USAGE, f"Of tests with @simulate in {file} {there}{others}.")
    return list(found.values())


def _loaded(file: Path) -> Any:
    """Import a file as pytest would; raises Ended with the place of what is wrong in it."""
    if not os.access(file, os.R_OK) or not file.is_file():
        raise Ended(
            ExitCode.STATE, f"{file} can not be read: {'no access' if file.exists() else 'there is no such file'}."
        )
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    folder = str(file.absolute().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    sys.modules.setdefault(file.stem, module)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a person's file does while it is imported
        _refuse(file, error)
    return module


def _refuse(file: Path, error: BaseException) -> NoReturn:
    frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename == os.path.abspath(file)]
    line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else None
    place = f"{file}:{line}" if line else str(file)
    text = printable(" ".join(str(error).split()))
    raise Ended(ExitCode.DOCUMENT, f"{place}: the file can not be loaded: {type(error).__name__}: {text}") from None


def _shell(word: str) -> str:
    import shlex

    return shlex.quote(word)
