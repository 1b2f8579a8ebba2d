"""Builder: workflows written in Python, giving the same objects as documents do. Floor 5.

* Each function is one instruction; a block is one step or a list of steps.
* A text may hold `${expressions}`; a number, true or false keeps its type, as in documents.
* A mistake is a ValueError or TypeError with one sentence, at the call that made it; `workflow` asks the rules too.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from engine.base.clock import parse_span
from engine.base.codec import Value, value_fault
from engine.base.ids import AgentId, BundleId
from engine.documents.builder_callables import CALLABLES, callables_of, named, unnamed
from engine.documents.convert_faults import text_of
from engine.jobs.command import CommandJob
from engine.jobs.python import PythonJob
from engine.jobs.shell import ShellJob
from engine.model import workflow as model
from engine.model.expression import Expression, ExpressionError, Template
from engine.model.fields import Size, Span, parse_size
from engine.model.instruction import Instruction
from engine.model.job import Job, OnLost, OnPartition
from engine.model.workflow import DEFAULT_AGENT, Parameter, ParameterType
from engine.rules.check import workflow_faults
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

__all__ = [
    "Workflow",
    "callables_of",
    "case",
    "fail",
    "finish",
    "fork",
    "fork_list",
    "if_",
    "job",
    "parameter",
    "retry",
    "sleep",
    "try_",
    "workflow",
]

Text: TypeAlias = str | int | float | bool | Template
Condition: TypeAlias = str | bool | Expression
Duration: TypeAlias = str | timedelta
Steps: TypeAlias = Instruction | Sequence[Instruction]

NESTING_STEPS_MAX = 31  # steps within steps; a document has no room for more

_NOT_GIVEN: Any = object()


def workflow(
    name: str,
    *steps: Steps,
    parameters: Mapping[str, Parameter | str] | None = None,
    results: Mapping[str, Text] | None = None,
    agent: str = DEFAULT_AGENT,
    version: str = "",
    description: str = "",
) -> model.Workflow:
    """Build a workflow and check it; `Workflow(…)` is the same.

    A parameter is what `parameter` gives, or the name of its type. Without a version the engine takes the content's
    digest. Callables that jobs were given as objects are kept beside the workflow: `callables_of` returns them.
    """
    found: dict[str, Callable[..., Any]] = {}
    block = tuple(step for part in steps for step in _block("a workflow", part))
    if any(len(key) > 2 * (NESTING_STEPS_MAX - 1) for key, _ in model.walk_blocks(block)):
        raise ValueError(f"workflow {name!r} nests steps more than {NESTING_STEPS_MAX} deep")
    built = model.Workflow(
        name=_str("the name of a workflow", name),
        version=_str("a version", version),
        steps=unnamed(block, found),
        parameters={key: _parameter(key, one) for key, one in (parameters or {}).items()},
        results=_templates("results", results),
        agent=AgentId(agent),
        description=description,
    )
    if faults := workflow_faults(built):
        raise ValueError(f"workflow {name!r}: {'; '.join(faults)}")
    if found:
        built.__dict__[CALLABLES] = found
    return built


if TYPE_CHECKING:

    class Workflow(model.Workflow, frozen=True, array_like=True, dict=True):
        """A workflow, for type checkers: the model's own, with the arguments of `workflow`."""

        def __init__(
            self,
            name: str,
            *steps: Steps,
            parameters: Mapping[str, Parameter | str] | None = None,
            results: Mapping[str, Text] | None = None,
            agent: str = DEFAULT_AGENT,
            version: str = "",
            description: str = "",
        ) -> None: ...

else:

    class _Face(type):
        """Calling the class builds a workflow of the model, and every such workflow is an instance of the class."""

        def __call__(cls, *arguments: Any, **named_arguments: Any) -> model.Workflow:
            return workflow(*arguments, **named_arguments)

        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, model.Workflow)

    class Workflow(metaclass=_Face):
        """A workflow. `Workflow("report", job(…), fork(…))` is `workflow("report", …)`: an object of the model."""


def parameter(
    type: ParameterType | str,  # noqa: A002  # the word documents use
    *,
    default: Value = _NOT_GIVEN,
    required: bool | None = None,
    final: bool = False,
    description: str = "",
) -> Parameter:
    """Declare a parameter. It is required unless it has a default or `required=False` says that it may be missing."""
    try:
        kind = ParameterType(type)
    except ValueError:
        raise ValueError(f"{type!r} is no type of a parameter; it is one of {', '.join(ParameterType)}") from None
    if default is _NOT_GIVEN:
        return Parameter(kind, required is not False, None, final, description)
    if required:
        raise ValueError("a parameter with a default is not required; leave one of them out")
    if fault := value_fault(default):
        raise ValueError(f"the default of a parameter can not be kept: {fault}")
    return Parameter(kind, False, default, final, description)


def job(
    name: str,
    *,
    shell: str | None = None,
    command: Sequence[Text] | None = None,
    python: str | Callable[..., Any] | None = None,
    run: Job | None = None,
    interpreter: Sequence[str] | None = None,
    arguments: Mapping[str, Text] | None = None,
    environment: Mapping[str, Text] | None = None,
    directory: Text | None = None,
    agent: str | None = None,
    bundle: str | None = None,
    timeout: Duration | None = None,
    kill_delay: Duration | None = None,
    limit: int | None = None,
    on_lost: OnLost | str = OnLost.HOLD,
    output_limit: str | None = None,
    on_partition: OnPartition | str = OnPartition.CONTINUE,
) -> Execute:
    """Run a job: a `shell` script, a `command` with its arguments, a `python` callable, or `run`, a job of any kind.

    `python` is a callable itself, or its path `module:function`. One that can not be imported (a lambda, a nested
    function, one of `__main__`) gets a name that the workflow carries to the engine; it works in this process only.
    """
    settings: dict[str, Any] = {}
    if timeout is not None:
        settings["timeout_ms"] = _span(f"the timeout of job {name!r}", timeout)
    if kill_delay is not None:
        settings["kill_delay_ms"] = _span(f"the kill_delay of job {name!r}", kill_delay)
    if output_limit is not None:
        settings["output_bytes_max"] = _size(f"the output_limit of job {name!r}", output_limit)
    try:
        lost = OnLost(on_lost)
    except ValueError:
        raise ValueError(f"on_lost of job {name!r} is one of {', '.join(OnLost)}, not {on_lost!r}") from None
    try:
        partition = OnPartition(on_partition)
    except ValueError:
        raise ValueError(
            f"on_partition of job {name!r} is one of {', '.join(OnPartition)}, not {on_partition!r}"
        ) from None
    return Execute(
        job=_str("the name of a job", name),
        run=_kind(name, shell, command, python, run, interpreter, arguments),
        environment=_templates(f"the environment of job {name!r}", environment),
        agent=None if agent is None else AgentId(agent),
        bundle=None if bundle is None else BundleId(bundle),
        directory=None if directory is None else _template(f"the directory of job {name!r}", directory),
        limit=None if limit is None else _int(f"the limit of job {name!r}", limit),
        on_lost=lost,
        on_partition=partition,
        **settings,
    )


def fork(
    branches: Mapping[str, Steps] | None = None,
    /,
    *,
    join_if_failed: bool = True,
    collect: Sequence[str] = (),
    **more: Steps,
) -> Fork:
    """Run branches in parallel and go on when all have ended: `fork(x=[…], y=[…])`, or a mapping by name."""
    both = [name for name in more if name in (branches or {})]
    if both:
        raise ValueError(f"the branch {both[0]!r} of a fork is given twice")
    named_steps = {**(branches or {}), **more}
    blocks = {name: _block(f"branch {name!r} of a fork", steps) for name, steps in named_steps.items()}
    return Fork(blocks, join_if_failed, _names("fork", collect))


def fork_list(
    elements: str | Expression | Sequence[Value],
    as_: str,
    steps: Steps,
    *,
    join_if_failed: bool = True,
    collect: Sequence[str] = (),
) -> ForkList:
    """Run steps in parallel for each element of a list: an expression, or the elements themselves."""
    if isinstance(elements, str | Expression):
        expression = _expression("the list of a fork_list", elements)
    else:
        if fault := value_fault(list(elements)):
            raise ValueError(f"the list of a fork_list can not be kept: {fault}")
        expression = _expression("the list of a fork_list", json.dumps(list(elements), ensure_ascii=False))
    return ForkList(
        expression, _str("as_", as_), _block("a fork_list", steps), join_if_failed, _names("fork_list", collect)
    )


def if_(condition: Condition, then: Steps, else_: Steps = ()) -> If:
    """Take one of two ways."""
    return If(_expression("the condition of an if", condition), _block("then", then), _block("else_", else_))


def case(*ways: tuple[Condition, Steps], else_: Steps = ()) -> Case:
    """Take the first way whose condition holds: `case(("n > 5", […]), ("n > 1", […]), else_=[…])`."""
    whens: list[When] = []
    for number, way in enumerate(ways, 1):
        if not isinstance(way, tuple) or len(way) != 2:
            raise TypeError(f"way {number} of a case is a condition and its steps: ('n > 5', […])")
        condition = _expression(f"condition {number} of a case", way[0])
        whens.append(When(condition, _block(f"way {number} of a case", way[1])))
    return Case(tuple(whens), _block("else_", else_))


def try_(steps: Steps, catch: Steps = ()) -> Try:
    """Go through steps; when one fails, through `catch`, which may read `error`, `outcome` and `return_code`."""
    return Try(_block("a try", steps), _block("catch", catch))


def retry(steps: Steps, times: int | None = None, delays: Sequence[Duration] = ()) -> Retry:
    """Go through steps until they succeed, at most `times` times in all (one more than `delays` if not given)."""
    if isinstance(delays, str | timedelta):
        raise TypeError(f"the delays of a retry are a list, as in [{delays!r}]")
    if times is None:
        if not delays:
            raise ValueError("a retry needs times or delays")
        times = len(delays) + 1
    spans = tuple(_span("a delay of a retry", delay) for delay in delays)
    return Retry(_int("the times of a retry", times), _block("a retry", steps), spans)


def fail(message: Text) -> Fail:
    """End with a failure, unless a try catches it."""
    return Fail(_template("the message of a fail", message))


def finish(message: Text = "") -> Finish:
    """End the order, or the branch, with success."""
    return Finish(_template("the message of a finish", message))


def sleep(duration: Duration | float | Template) -> Sleep:
    """Wait: `"30s"`, a timedelta, a number of seconds, or an expression such as `"${pause}"` giving one of these."""
    if isinstance(duration, timedelta):
        return Sleep(Template(f"{_span('the duration of a sleep', duration)}ms"))
    template = _template("the duration of a sleep", duration)
    if template.is_literal:
        _span("the duration of a sleep", template.source)
    return Sleep(template)


# --- what the functions share -----------------------------------------------------------------------------------------


def _kind(
    name: str,
    shell: str | None,
    command: Sequence[Text] | None,
    python: str | Callable[..., Any] | None,
    run: Job | None,
    interpreter: Sequence[str] | None,
    arguments: Mapping[str, Text] | None,
) -> Job:
    """Return the one kind of job that is given."""
    given = {"shell": shell, "command": command, "python": python, "run": run}
    kinds = [key for key, value in given.items() if value is not None]
    if len(kinds) != 1:
        raise ValueError(f"job {name!r} needs exactly one of {', '.join(given)}, and has {', '.join(kinds) or 'none'}")
    for key, value, owner in (("interpreter", interpreter, "shell"), ("arguments", arguments, "python")):
        if value is not None and kinds[0] != owner:
            raise ValueError(f"job {name!r} is given {key}, which belongs to {owner} jobs")
    if shell is not None:
        script = _str(f"the script of job {name!r}", shell)
        return ShellJob(script) if interpreter is None else ShellJob(script, _words(name, interpreter))
    if command is not None:
        if isinstance(command, str):
            raise TypeError(f"the command of job {name!r} is a list, as in ['echo', 'hello']; a line is for shell")
        return CommandJob(tuple(_template(f"the command of job {name!r}", word) for word in command))
    if python is not None:
        path = python if isinstance(python, str) else named(python, name)
        return PythonJob(path, _templates(f"the arguments of job {name!r}", arguments))
    if not isinstance(run, Job):
        raise TypeError(f"run of job {name!r} is a {type(run).__name__}, not a kind of job")
    return run


def _block(place: str, steps: Steps) -> tuple[Instruction, ...]:
    """Return the steps of a block, given alone or as a list."""
    if isinstance(steps, str | Mapping):
        raise TypeError(f"{place} holds {steps!r}, which is no step")
    block = (steps,) if isinstance(steps, Instruction) else tuple(steps)
    for step in block:
        if not isinstance(step, Instruction):
            raise TypeError(f"{place} holds a {type(step).__name__}, which is no step")
    return block


def _parameter(name: str, declared: Parameter | str) -> Parameter:
    if isinstance(declared, str):
        return parameter(declared)
    if not isinstance(declared, Parameter):
        raise TypeError(f"parameter {name!r} is declared by a type or by parameter(…), not by {declared!r}")
    return declared


def _template(place: str, text: Text) -> Template:
    if isinstance(text, Template):
        return text
    if isinstance(text, float) and not math.isfinite(text):
        raise ValueError(f"{place} holds {text}, which is no finite number")
    if not isinstance(text, str | int | float):
        raise TypeError(f"{place} holds a {type(text).__name__}; write a text, a number, or an expression as '${{…}}'")
    try:
        return Template(text if isinstance(text, str) else f"${{{text_of(text)}}}")
    except ExpressionError as error:
        raise ValueError(f"{place}: {error}") from None


def _templates(place: str, texts: Mapping[str, Text] | None) -> dict[str, Template]:
    return {_str(f"a name in {place}", name): _template(place, text) for name, text in (texts or {}).items()}


def _expression(place: str, text: Condition) -> Expression:
    if isinstance(text, Expression):
        return text
    if not isinstance(text, str | bool):
        raise TypeError(f"{place} is a {type(text).__name__}; write an expression as text")
    try:
        return Expression(text_of(text))
    except ExpressionError as error:
        raise ValueError(f"{place}: {error}") from None


def _span(place: str, duration: Duration) -> Span:
    if isinstance(duration, timedelta):
        if duration < timedelta():
            raise ValueError(f"{place} is negative")
        return Span(round(duration / timedelta(milliseconds=1)))
    if not isinstance(duration, str):
        raise TypeError(f"{place} needs its unit: write it as '30s' or as a timedelta, not {duration!r}")
    try:
        return Span(parse_span(duration))
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _size(place: str, size: str) -> Size:
    if not isinstance(size, str) or size.strip().isdecimal():
        raise TypeError(f"{place} needs its unit: write it as '10MB', not {size!r}")
    try:
        return parse_size(size)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{place}: {error}") from None


def _str(place: str, text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{place} is a text, not {text!r}")
    return text


def _int(place: str, number: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{place} is a whole number, not {number!r}")
    return number


def _words(name: str, words: Sequence[str]) -> tuple[str, ...]:
    if isinstance(words, str):
        raise TypeError(f"the interpreter of job {name!r} is a list of words, as in ['python3', '-u']")
    return tuple(_str(f"the interpreter of job {name!r}", word) for word in words)


def _names(place: str, names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise TypeError(f"collect of a {place} is a list of names, as in [{names!r}]")
    return tuple(_str(f"collect of a {place}", name) for name in names)
