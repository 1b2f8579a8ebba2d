"""Made-up instructions and job kinds: documents know them by their classes alone.

Tests: engine/documents/convert_forms.py
"""

import enum
from typing import Annotated, Any, ClassVar, Literal, NewType

import msgspec
import pytest

from engine.base.codec import Value
from engine.documents.convert import workflow_from_text
from engine.documents.convert_forms import Leaf, Shapes, form_of
from engine.documents.node import DocumentError
from engine.documents.printer import workflow_yaml
from engine.jobs.process import ProcessJob
from engine.language import make_language
from engine.model.expression import Expression, Template
from engine.model.fields import Size, Span
from engine.model.instruction import Instruction
from engine.model.job import Job
from engine.rules.instructions.fail import Fail
from engine.rules.instructions.job import Execute
from engine.rules.instructions.sleep import Sleep
from engine.rules.statement import Statement

Colour = NewType("Colour", str)


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


class Point(msgspec.Struct, frozen=True):
    x: float
    y: float = 0.0


class Paint(
    msgspec.Struct, Statement, frozen=True, array_like=True, tag="paint", rename={"every_ms": "every", "from_": "from"}
):
    """Every type that a field may have."""

    keyword: ClassVar[str] = "paint"

    paint: Colour
    steps: tuple[Instruction, ...] = ()
    ways: dict[Colour, tuple[Instruction, ...]] = {}
    from_: Point | None = None
    points: tuple[Point, ...] = ()
    pair: tuple[int, str] = (0, "")
    level: Level = Level.LOW
    mode: Literal["fast", "slow"] = "fast"
    every_ms: Span | None = None
    size: Size = Size(0)
    until: Expression | None = None
    notes: dict[str, Template] = {}
    words: list[str] = []
    either: int | str = 0
    any_number: int | float = 0
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    anything: Value = None
    sure: bool = True

    def blocks(self) -> list[tuple[str, tuple[Instruction, ...]]]:
        return [("steps", self.steps), *self.ways.items()]


class Stop(msgspec.Struct, Statement, frozen=True, array_like=True, tag="stop"):
    """It takes nothing."""

    keyword: ClassVar[str] = "stop"


class Plain(msgspec.Struct, Statement, frozen=True, array_like=True):
    """What instructions made on the spot are made of."""


class Watched(msgspec.Struct, Statement, frozen=True, array_like=True, tag="watched"):
    """It carries a job, and has a field that is called like another instruction."""

    keyword: ClassVar[str] = "watched"

    watched: str
    what: Job
    fail: Template | None = None


class SqlJob(msgspec.Struct, ProcessJob, frozen=True, array_like=True, tag="sql"):
    keyword: ClassVar[str] = "sql"

    sql: Template
    database: str
    rows_max: int = 1_000

    def __post_init__(self) -> None:
        if self.rows_max < 1:
            raise ValueError("rows_max is at least 1")


class NapJob(msgspec.Struct, ProcessJob, frozen=True, array_like=True, tag="nap"):
    """It takes nothing."""

    keyword: ClassVar[str] = "nap"


LANGUAGE = make_language([Paint, Stop, Watched], [SqlJob, NapJob])

DOCUMENT = """
name: made-up
steps:
  - paint: red
    steps:
      - stop:
    ways:
      a:
        - sleep: 1s
    from: {x: 1}
    points: [{x: 0.5, y: 2}]
    pair: [1, b]
    level: high
    mode: slow
    every: 1m
    size: 5kB
    until: n > 5
    notes: {a: "${n}"}
    words: [a, b]
    either: text
    any_number: 5
    share: 1
    anything: {a: [1, null]}
    sure: false
  - job: load
    sql: select ${n}
    database: main
    timeout: 5s
  - watched: x
    nap:
    fail: oh
"""


def test_a_made_up_instruction_and_job_kind_are_read() -> None:
    workflow = workflow_from_text(DOCUMENT, LANGUAGE)
    paint, load, watched = workflow.steps
    assert paint == Paint(
        Colour("red"),
        (Stop(),),
        {Colour("a"): (Sleep(Template("1s")),)},
        Point(1.0),
        (Point(0.5, 2.0),),
        (1, "b"),
        Level.HIGH,
        "slow",
        Span(60_000),
        Size(5_000),
        Expression("n > 5"),
        {"a": Template("${n}")},
        ["a", "b"],
        "text",
        5,
        1.0,
        {"a": [1, None]},
        sure=False,
    )
    assert load == Execute("load", SqlJob(Template("select ${n}"), "main"), timeout_ms=Span(5_000))
    assert watched == Watched("x", NapJob(), Template("oh"))


def test_a_made_up_instruction_and_job_kind_are_printed() -> None:
    workflow = workflow_from_text(DOCUMENT, LANGUAGE)
    printed = workflow_yaml(workflow, LANGUAGE)
    assert workflow_from_text(printed, LANGUAGE) == workflow
    assert "rows_max" not in printed


def test_a_made_up_instruction_has_the_same_faults_as_any() -> None:
    text = """
name: w
steps:
  - paint: red
    size: 5
    steps:
      - stop: now
    share: 7
    pair: [1]
    either: [1]
    any_number: x
    level: middle
    form: {x: 1}
    points: [{y: 1}]
  - {job: a, sql: x, database: d, rows_max: 0}
  - {job: a, sql: x}
  - {watched: x, fail: y}
  - stop
"""
    with pytest.raises(DocumentError) as caught:
        workflow_from_text(text, LANGUAGE)
    assert [f"{fault.mark.line}:{fault.mark.column}: {fault.sentence}" for fault in caught.value.faults] == [
        "5:11: The number '5' needs its unit here: write it as in 10MB.",
        "7:15: This must be nothing, not the text 'now'.",
        "8:12: Expected `float` <= 1.0.",
        "9:11: This must be a list of 2 values, not of 1.",
        "10:13: This must be a whole number or a text, not a list.",
        "11:17: This must be a whole number or a number, not the text 'x'.",
        "12:12: This must be one of low, high, not 'middle'.",
        "13:5: There is no key 'form' in a paint step: did you mean 'from'?",
        "14:14: The key 'x' is missing: this mapping needs it.",
        "15:5: rows_max is at least 1.",
        "16:5: The key 'database' is missing: a job step needs it.",
        "17:5: What to run is missing: a watched step needs one of the keys command, python, shell, sql, nap.",
        "18:5: A step is a mapping such as 'job: name', not the text 'stop': write 'stop:'.",
    ]


def test_a_keyword_may_be_a_field_of_another_instruction() -> None:
    workflow = workflow_from_text("name: w\nsteps: [{fail: a, watched: b, nap: }, {fail: a}]", LANGUAGE)
    assert workflow.steps == (Watched("b", NapJob(), Template("a")), Fail(Template("a")))


def test_a_default_is_the_same_value_of_the_same_type() -> None:
    fields = Shapes(LANGUAGE).step("paint").fields
    assert fields["any_number"].is_default(0)
    assert not fields["any_number"].is_default(0.0)
    assert not fields["any_number"].is_default(False)
    assert fields["notes"].is_default({})
    assert not fields["paint"].is_default("")


# --- mistakes of whoever writes a class ---------------------------------------------------------------------------


def leaf(name: str, **annotations: Any) -> type[Any]:
    """Define an instruction with these fields."""
    return msgspec.defstruct(name, list(annotations.items()), bases=(Plain,), namespace={"keyword": name}, frozen=True)


@pytest.mark.parametrize(
    ("annotation", "sentence"),
    [
        (set[str], "which no document can write"),
        (complex, "which no document can write"),
        (dict[int, str], "which no document can write"),
        (Sleep, "takes one certain instruction"),
        (Point | str, "that a document can not tell apart"),
        (Job | None, "a document can not leave a job out"),
        (tuple[Literal[1], ...], "which no document can write"),
    ],
)
def test_a_type_no_document_can_write_is_told_to_its_author(annotation: Any, sentence: str) -> None:
    with pytest.raises(TypeError, match=f"odd.field .*{sentence}"):
        form_of(annotation, "odd.field")


def test_a_class_with_two_jobs_is_told_to_its_author() -> None:
    language = make_language([leaf("odd", one=Job, two=Job)])
    with pytest.raises(TypeError, match="odd has two jobs, one and two"):
        workflow_from_text("name: w\nsteps: [{odd: , nap: }]", language)


def test_a_job_kind_and_an_instruction_with_one_key_are_told_to_their_author() -> None:
    class SlowJob(msgspec.Struct, ProcessJob, frozen=True, array_like=True, tag="slow"):
        keyword: ClassVar[str] = "slow"
        slow: str
        timeout: Span | None = None

    with pytest.raises(ValueError, match="SlowJob and Execute both have the key 'timeout'"):
        workflow_from_text("name: w\nsteps: [{job: a, slow: x}]", make_language(jobs=[SlowJob]))


def test_a_class_that_is_no_struct_is_told_to_its_author() -> None:
    class Odd(Statement):
        keyword: ClassVar[str] = "odd"

    with pytest.raises(TypeError, match="Odd is no msgspec struct"):
        Shapes(make_language([Odd])).step("odd")


def test_every_leaf_of_the_standard_language_has_a_shape() -> None:
    shapes = Shapes(LANGUAGE)
    for keyword in shapes.steps:
        assert Leaf.JOB not in [field.form for field in shapes.step(keyword).fields.values()]
    assert shapes.step("job").job == "run"
    assert set(shapes.step("if").fields) == {"if", "then", "else"}
