"""Forms: what a document may write for a struct, read from the struct's own annotations. Floor 5.

* Instructions and job kinds are known by nothing but their classes: a new one needs no change here.
* A field of type `Job` has no key of its own: the keys of the job's kind stand beside those of the struct.
* A mistake in a class (a type no document can write, two fields with one key) is a TypeError or ValueError, and tells
  the author of the class; it never depends on a document.
"""

import enum
import types
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import msgspec

from engine.model.expression import Expression, Template
from engine.model.fields import Size, Span
from engine.model.instruction import Instruction
from engine.model.job import Job
from engine.model.language import Language
from engine.model.workflow import Parameter


@enum.unique
class Leaf(enum.Enum):
    """A form without parts; the value is how a sentence calls it."""

    STEP = "a step"
    JOB = "a job"
    PARAMETER = "a parameter"
    TEMPLATE = "a text, a number, true or false"
    EXPRESSION = "an expression"
    SPAN = "a duration such as 30s or 1h 30m"
    SIZE = "a size such as 10MB"
    TEXT = "a text"
    INTEGER = "a whole number"
    NUMBER = "a number"
    FLAG = "true or false"
    NOTHING = "nothing"
    ANYTHING = "a value"


class Choice(NamedTuple):
    """One of some texts, and the value each stands for."""

    values: Mapping[str, Any]


class Many(NamedTuple):
    """A list of any length, kept as a tuple unless `as_list`."""

    item: "Form"
    as_list: bool


class Fixed(NamedTuple):
    """A list with a form for each place."""

    items: "tuple[Form, ...]"


class Named(NamedTuple):
    """A mapping from any text to one form."""

    item: "Form"


class Record(NamedTuple):
    """A mapping with the keys of a struct."""

    cls: type


class Maybe(NamedTuple):
    """A form, or null."""

    item: "Form"


class OneOf(NamedTuple):
    """The first of several forms that fits."""

    items: "tuple[Form, ...]"


class Bounded(NamedTuple):
    """A form whose value msgspec checks against the bounds of an `Annotated`."""

    item: "Form"
    annotation: Any


Form: TypeAlias = Leaf | Choice | Many | Fixed | Named | Record | Maybe | OneOf | Bounded


class Field(NamedTuple):
    """A field of a struct: its name there, its form, and whether a document must write it."""

    name: str
    form: Form
    required: bool
    default: Any
    default_factory: Any

    def is_default(self, value: Any) -> bool:
        """Tell whether leaving the field out gives this very value: 1, 1.0 and true are not the same."""
        if self.required:
            return False
        default = self.default if self.default_factory is msgspec.NODEFAULT else self.default_factory()
        return type(value) is type(default) and bool(value == default)


class Shape(NamedTuple):
    """A struct as a document writes it: fields by key, and the name of the field that takes the job, if it has one."""

    cls: type
    fields: Mapping[str, Field]
    job: str | None


class Shapes:
    """The shapes of one language, made once for each conversion."""

    def __init__(self, language: Language) -> None:
        self.steps = {keyword: language.instructions.get(keyword) for keyword in language.instructions.keywords}
        self.jobs = {keyword: language.jobs.get(keyword) for keyword in language.jobs.keywords}
        self._known: dict[type, Shape] = {}

    def step(self, keyword: str) -> Shape:
        """Return the shape of the instruction with this keyword, which is known."""
        cls = self.steps[keyword]
        assert cls is not None
        return self.of(cls)

    def job(self, keyword: str) -> Shape:
        """Return the shape of the job kind with this keyword, which is known."""
        cls = self.jobs[keyword]
        assert cls is not None
        return self.of(cls)

    def of(self, cls: type) -> Shape:
        """Return the shape of a struct; raises TypeError or ValueError for one that no document can write."""
        known = self._known.get(cls)
        if known is None:
            known = self._known[cls] = shape_of(cls)
            if known.job is not None:
                self._refuse_shared_keys(known)
        return known

    def _refuse_shared_keys(self, shape: Shape) -> None:
        """Refuse a job kind whose keys can not stand beside those of the struct that carries the job."""
        for keyword in self.jobs:
            kind = self.job(keyword)
            shared = [key for key in (keyword, *kind.fields) if key in shape.fields]
            if shared:
                raise ValueError(
                    f"{kind.cls.__name__} and {shape.cls.__name__} both have the key {shared[0]!r}, and a document "
                    "writes them in one mapping; rename one"
                )


def shape_of(cls: type) -> Shape:
    """Read a struct's shape from its annotations."""
    if not issubclass(cls, msgspec.Struct):
        raise TypeError(f"{cls.__name__} is no msgspec struct, so no document can write it")
    fields: dict[str, Field] = {}
    job = None
    for field in msgspec.structs.fields(cls):
        form = form_of(field.type, f"{cls.__name__}.{field.name}")
        if form is Leaf.JOB:
            if job is not None:
                raise TypeError(f"{cls.__name__} has two jobs, {job} and {field.name}; a document can write one")
            job = field.name
            continue
        fields[field.encode_name] = Field(field.name, form, field.required, field.default, field.default_factory)
    return Shape(cls, fields, job)


_LEAVES: dict[Any, Leaf] = {
    Expression: Leaf.EXPRESSION,
    Template: Leaf.TEMPLATE,
    Span: Leaf.SPAN,
    Size: Leaf.SIZE,
    Instruction: Leaf.STEP,
    Job: Leaf.JOB,
    Parameter: Leaf.PARAMETER,
    str: Leaf.TEXT,
    bool: Leaf.FLAG,
    int: Leaf.INTEGER,
    float: Leaf.NUMBER,
    type(None): Leaf.NOTHING,
    None: Leaf.NOTHING,
    Any: Leaf.ANYTHING,
    object: Leaf.ANYTHING,
}
_WITHIN_ONE_OF = (Leaf.TEXT, Leaf.INTEGER, Leaf.NUMBER, Leaf.FLAG)


def form_of(annotation: Any, place: str) -> Form:
    """Read an annotation; `place` names it in the TypeError for a type that no document can write."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return Bounded(form_of(arguments[0], place), annotation)
    leaf = _LEAVES.get(annotation)
    if leaf is not None:
        return leaf
    if isinstance(annotation, typing.NewType):
        return form_of(annotation.__supertype__, place)
    if origin in (typing.Union, types.UnionType):
        return _union(arguments, place)
    if origin is typing.Literal and all(isinstance(one, str) for one in arguments):
        return Choice({one: one for one in arguments})
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return Many(form_of(arguments[0], place), as_list=False)
    if origin is tuple and arguments:
        return Fixed(tuple(form_of(one, place) for one in arguments))
    if origin is list:
        return Many(form_of(arguments[0], place), as_list=True)
    if origin is dict and form_of(arguments[0], place) is Leaf.TEXT:
        return Named(form_of(arguments[1], place))
    if isinstance(annotation, type):
        if issubclass(annotation, enum.Enum):
            return Choice({str(member.value): member for member in annotation})
        if issubclass(annotation, Instruction):
            raise TypeError(f"{place} takes one certain instruction; write Instruction, of which documents know all")
        if issubclass(annotation, msgspec.Struct):
            return Record(annotation)
    raise TypeError(f"{place} is a {annotation}, which no document can write")


def _union(arguments: tuple[Any, ...], place: str) -> Form:
    rest = [form_of(one, place) for one in arguments if one is not type(None)]
    if len(rest) == 1:
        form = rest[0]
    elif all(one in _WITHIN_ONE_OF for one in rest):
        form = OneOf(tuple(rest))
    else:
        raise TypeError(f"{place} takes several types that a document can not tell apart")
    if len(rest) == len(arguments):
        return form
    if form is Leaf.JOB:
        raise TypeError(f"{place} is a job that may be missing; a document can not leave a job out")
    return Maybe(form)


def wanted(form: Form) -> str:
    """Say what a form takes, as the end of `this must be …`."""
    match form:
        case Choice(values=values):
            return f"one of {', '.join(values)}"
        case Many(item=Leaf.STEP):
            return "a list of steps"
        case Many():
            return "a list"
        case Fixed(items=items):
            return f"a list of {len(items)} values"
        case Named() | Record():
            return "a mapping"
        case Maybe(item=item) | Bounded(item=item):
            return wanted(item)
        case OneOf(items=items):
            return " or ".join(dict.fromkeys(wanted(item) for item in items))
    return form.value
