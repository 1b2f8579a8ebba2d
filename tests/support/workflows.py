"""Random valid workflows over all instructions, drawn from one source of choices: hypothesis or a seed.

* `workflows()` is a strategy, whose failures shrink; `random_workflow(random.Random(seed))` is for simulated seeds.
* Every workflow passes the check, has defaults for all its parameters, and evaluates without a mistake of its own:
  what fails in it is a `fail` step or a job that the caller lets fail.
* It ends: sleeps and delays are at most `Options.wait_ms_max` each, rounds and branches are few.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from engine.base.clock import span_text
from engine.base.ids import AgentId, BundleId
from engine.jobs.command import CommandJob
from engine.jobs.python import PythonJob
from engine.jobs.shell import ShellJob
from engine.language import standard_language
from engine.model.expression import Expression, ExpressionError, Template
from engine.model.fields import Size, Span
from engine.model.instruction import Instruction
from engine.model.job import Job, OnLost
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

Draw = random.Random

PARAMETERS = {
    "n": Parameter(ParameterType.INTEGER, required=False, default=3),
    "flag": Parameter(ParameterType.BOOLEAN, required=False, default=True),
    "items": Parameter(ParameterType.LIST, required=False, default=["a", "b", "c"]),
    "text": Parameter(ParameterType.STRING, required=False, default="some text"),
}
"""What every workflow declares, so that its expressions have something to read."""

CONDITIONS = ("flag", "!flag", "n > 2", "n == 0", "size(items) == 3", "text.startsWith('some')", "true")
LISTS = ("items", "[1, 2]", "[]", "items + ['d']", "[n]")
TEXTS = ("done", "${n} of ${size(items)}", "$${n}", "${text}", "a: b # c", "", " ", "010", "true", "${5}", "${true}")

WILD = (
    *"a ' \" \\ - ~ null on NO 12:30 010 0o17 1_0 1e3 .5 +1 2015-01-01 << = | > &a *a !t % @ ` { } [ ] , ?".split(" "),
    *"--- ... é 😀 $ ${n} $${ #!/bin/sh true 1.10 0x1F".split(" "),
    *(" ", "\n", "\t", "\r", ": ", " #", "- ", "\u2028", "\x85", "\xa0", "\ufeff", "\ufffe", "\x7f", "\x01"),
)
"""Pieces of texts on which writers and readers of documents stumble."""


def pick_job(draw: Draw) -> Job:
    """A job of any kind that ships; what it would run is harmless."""
    kind = draw.choice(("shell", "command", "python"))
    if kind == "shell":
        return ShellJob(draw.choice(("true", "echo hello\n", "exit 0 # well")))
    if kind == "command":
        return CommandJob(tuple(Template(one) for one in ("echo", *draw.choices(TEXTS, k=draw.randint(0, 2)))))
    return PythonJob("operator:add", {"a": Template("${n}"), "b": Template(draw.choice(TEXTS))})


@dataclass(frozen=True)
class Options:
    """How large and of what a workflow is. `leaves` and `nests` are the keywords to choose from."""

    steps_max: int = 12  # in all blocks together
    depth_max: int = 3  # of nested blocks
    agents: Sequence[str] = ("local",)
    bundles: Sequence[str] = ()
    job: Callable[[Draw], Job] = pick_job
    leaves: Sequence[str] = ("job", "job", "job", "sleep", "fail", "finish")
    nests: Sequence[str] = ("if", "case", "fork", "fork_list", "try", "retry")
    on_lost: Sequence[OnLost] = tuple(OnLost)
    wait_ms_max: int = 60_000
    with_limits: bool = True  # job limits, timeouts, kill delays
    wild: bool = False  # texts and settings that only matter to documents; such a workflow need not run well


WILD_OPTIONS = Options(agents=("local", "berlin", "a.b-c"), bundles=("many",), wild=True)


def random_workflow(draw: Draw, options: Options = Options(), name: str = "random") -> Workflow:
    """Draw a workflow; the same seed and options give the same one."""
    return _Builder(draw, options).workflow(name)


def workflows(options: Options = Options()) -> st.SearchStrategy[Workflow]:
    """Draw workflows as a hypothesis strategy."""
    return st.randoms(use_true_random=False).map(lambda draw: random_workflow(draw, options))


@dataclass
class _Builder:
    draw: Draw
    options: Options
    left: int = field(init=False)
    jobs: int = 0

    def __post_init__(self) -> None:
        self.left = self.draw.randint(1, self.options.steps_max)

    def workflow(self, name: str) -> Workflow:
        steps: list[Instruction] = []
        while self.left:
            steps += self.block(0)
        wild = self.options.wild
        made = Workflow(
            name=name,
            version="v" + self.wild() if wild and self.chance() else "",
            steps=tuple(steps),
            parameters={**PARAMETERS, **(self.parameters() if wild else {})},
            results={"n": Template("${n}"), "text": Template(self.text())} if self.chance() else {},
            agent=AgentId(self.draw.choice(self.options.agents)),
            description=self.wild() if wild else "",
        )
        return standard_language().versioned(made)

    def block(self, depth: int) -> tuple[Instruction, ...]:
        wanted = self.draw.randint(1, 3)
        steps: list[Instruction] = []
        while self.left and len(steps) < wanted:
            self.left -= 1
            steps.append(self.step(depth))
        return tuple(steps)

    def step(self, depth: int) -> Instruction:
        nests = self.options.nests if self.left and depth < self.options.depth_max else ()
        keyword = self.draw.choice(nests) if nests and self.chance() else self.draw.choice(self.options.leaves)
        match keyword:
            case "job":
                return self.job()
            case "sleep":
                return Sleep(Template(self.draw.choice((span_text(self.wait_ms()), "${n}ms"))))
            case "fail":
                return Fail(Template(self.text()))
            case "finish":
                return Finish(Template(self.text()))
            case "if":
                return If(self.condition(), self.block(depth + 1), self.maybe_block(depth + 1))
            case "case":
                ways = tuple(When(self.condition(), self.block(depth + 1)) for _ in range(self.draw.randint(1, 2)))
                return Case(ways, self.maybe_block(depth + 1))
            case "try":
                return Try(self.block(depth + 1), self.maybe_block(depth + 1))
            case "retry":
                delays = tuple(Span(self.wait_ms()) for _ in range(self.draw.randint(0, 2)))
                return Retry(self.draw.randint(1, 3), self.block(depth + 1), delays)
        return self.fork(keyword, depth + 1)

    def fork(self, keyword: str, depth: int) -> Instruction:
        joined = {"join_if_failed": self.chance(3), "collect": ("n", "text")[: self.draw.randint(0, 2)]}
        if keyword == "fork_list":
            return ForkList(Expression(self.draw.choice(LISTS)), "item", self.block(depth), **joined)  # type: ignore[arg-type]
        assert keyword == "fork", keyword
        names = ("x", "y-2", "z.3")[: self.draw.randint(1, 3)]
        return Fork({name: self.block(depth) for name in names}, **joined)  # type: ignore[arg-type]

    def job(self) -> Execute:
        self.jobs += 1
        options, settings = self.options, dict[str, Any]()
        if options.with_limits and self.chance():
            settings["limit"] = self.draw.randint(1, 3)
            settings["timeout_ms"] = Span(self.draw.choice((60_000, 3_600_000, 5_400_500)))
        if len(options.agents) > 1 and self.chance():
            settings["agent"] = AgentId(self.draw.choice(options.agents))
        if options.bundles and self.chance():
            settings["bundle"] = BundleId(self.draw.choice(options.bundles))
        if self.chance():
            settings["environment"] = {"N": Template("${n}"), "TEXT": Template(self.text())}
        settings["on_lost"] = self.draw.choice(options.on_lost)
        run = options.job(self.draw)
        if options.wild and self.chance():
            names = [self.wild_key().replace("=", "") or "k" for _ in range(2)]
            settings["environment"] = {name: Template(self.text()) for name in names}
            settings["directory"] = Template(self.text())
            settings["kill_delay_ms"] = Span(self.draw.randint(0, 10**9))
            settings["output_bytes_max"] = Size(self.draw.choice((0, 500, 10**6, 1 << 30, 3 << 19, 2**50)))
            run = ShellJob(self.wild(), tuple(self.wild() for _ in range(self.draw.randint(0, 2))))
        return Execute(f"job{self.jobs}", run, **settings)

    def parameters(self) -> dict[str, Parameter]:
        kinds = {
            name: ParameterType(one) for name, one in zip("slox", ("string", "list", "object", "number"), strict=True)
        }
        values: dict[str, Any] = {
            "s": self.wild(),
            "l": [self.wild(), None, {self.wild_key(): [1.5, -2, True]}],
            "o": {self.wild_key(): self.wild()},
            "x": self.draw.choice((0.1, 1e20, -1e-7, 5, 2**63 - 1, -0.0)),
        }
        return {
            name: Parameter(
                kinds[name], required=False, default=values[name], final=self.chance(), description=self.wild()
            )
            if self.chance()
            else Parameter(kinds[name], required=self.chance(), description=self.wild())
            for name in kinds
        }

    def condition(self) -> Expression:
        return Expression(self.draw.choice(CONDITIONS))

    def maybe_block(self, depth: int) -> tuple[Instruction, ...]:
        return self.block(depth) if self.chance() else ()

    def text(self) -> str:
        """The text of a template that has a value."""
        if not self.options.wild or self.chance():
            return self.draw.choice(TEXTS)
        text = self.wild()
        try:
            Template(text)
        except ExpressionError:
            return text.replace("$", "")
        return text

    def wild(self) -> str:
        return "".join(self.draw.choices(WILD, k=self.draw.randint(0, 5)))

    def wild_key(self) -> str:
        return "".join(char for char in self.wild() if char.isprintable()) or "k"

    def wait_ms(self) -> int:
        return self.draw.randint(0, self.options.wait_ms_max)

    def chance(self, ways: int = 2) -> bool:
        """True in all but one of so many ways."""
        return self.draw.randint(1, ways) > 1
