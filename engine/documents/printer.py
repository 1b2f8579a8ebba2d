"""Printer: a workflow becomes the document a person would write: plain values, or YAML. Floor 5.

* Reading what was printed gives an equal workflow, version and all (a version that is the content's own is left out).
* What no document can say is a ValueError with one sentence, never a document that says something else.
"""

import enum
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import yaml

from engine.base.clock import parse_span, span_text
from engine.base.codec import value_fault
from engine.documents.convert_faults import text_of
from engine.documents.convert_forms import (
    Bounded,
    Choice,
    Fixed,
    Form,
    Leaf,
    Many,
    Maybe,
    Named,
    OneOf,
    Record,
    Shape,
    Shapes,
)
from engine.documents.node import EXCERPT_CHARS_MAX, printable
from engine.documents.scalars import ScalarError, core_value, sound
from engine.documents.tree import KEY_CHARS_MAX, NESTING_LEVELS_MAX, TEXT_CHARS_MAX, is_control
from engine.model.expression import Template
from engine.model.fields import parse_size
from engine.model.instruction import Instruction
from engine.model.language import Language
from engine.model.workflow import Parameter, Workflow

LINE_CHARS_MAX = 1 << 20  # never reached: a long line is not broken, so that it stays readable as one command
MEASURE_MAX = 1 << 52  # durations and sizes beyond it have no exact text

_LITERAL = re.compile(r"\$\{([-+.\w]+)\}")
_UNITS = (("GiB", 1 << 30), ("GB", 10**9), ("MiB", 1 << 20), ("MB", 10**6), ("KiB", 1 << 10), ("kB", 10**3), ("B", 1))
_ORDER = ("name", "version", "description", "agent", "parameters", "results", "steps")


def workflow_document(workflow: Workflow, language: Language) -> dict[str, Any]:
    """Return the document of a workflow as plain values: dicts, lists, texts, numbers, true, false and null.

    Fields that hold their default are left out. Raises ValueError for what no document can say: an instruction that the
    language does not know, a size beyond its bound, steps nested deeper than the loader reads.
    """
    printer = _Printer(Shapes(language))
    fields = printer.shapes.of(Workflow).fields
    document: dict[str, Any] = {}
    for key in _ORDER:
        field, value = fields[key], getattr(workflow, fields[key].name)
        if not field.is_default(value):
            document[key] = printer.write(field.form, value, 1)
    content = msgspec.structs.replace(workflow, version="")
    if workflow.version in ("", language.versioned(content).version):
        del document["version"]
    return document


def workflow_yaml(workflow: Workflow, language: Language) -> str:
    """Return the document of a workflow as YAML text; raises ValueError as `workflow_document` does."""
    return document_yaml(workflow_document(workflow, language))


def document_yaml(document: Mapping[str, Any]) -> str:
    """Write plain values as YAML that the strict loader reads as the same values; scripts stand as blocks of lines."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=LINE_CHARS_MAX)


class _Printer:
    """Writes values by form. `level` is how many lists and mappings are open around a value."""

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes

    def write(self, form: Form, value: Any, level: int) -> Any:
        match form:
            case Leaf():
                return self._leaf(form, value, level)
            case Maybe(item=item):
                return None if value is None else self.write(item, value, level)
            case Bounded(item=item):
                return self.write(item, value, level)
            case Many(item=item):
                below = _below(level)
                return [self.write(item, inner, below) for inner in value]
            case Fixed(items=items):
                below = _below(level)
                return [self.write(item, inner, below) for item, inner in zip(items, value, strict=True)]
            case Named(item=item):
                below = _below(level)
                return {_key(key): self.write(item, inner, below) for key, inner in value.items()}
            case Record(cls=cls):
                return self._struct(self.shapes.of(cls), value, _below(level))
            case Choice():
                return str(value.value) if isinstance(value, enum.Enum) else str(value)
            case OneOf():
                return _text(value) if isinstance(value, str) else value

    def _leaf(self, form: Leaf, value: Any, level: int) -> Any:
        match form:
            case Leaf.STEP:
                return self._step(value, _below(level))
            case Leaf.PARAMETER:
                return self._parameter(value, _below(level))
            case Leaf.TEMPLATE:
                return _template(value)
            case Leaf.EXPRESSION:
                return _text(value.source)
            case Leaf.SPAN:
                return _measure(value, span_text(value), parse_span)
            case Leaf.SIZE:
                return _measure(value, _size_text(value), parse_size)
            case Leaf.TEXT:
                return _text(value)
            case Leaf.ANYTHING:
                return _plain(value, level)
        return value

    def _step(self, step: Instruction, level: int) -> dict[str, Any]:
        keyword = step.keyword
        if self.shapes.steps.get(keyword) is not type(step):
            raise ValueError(f"{type(step).__name__} is no instruction of this language")
        shape = self.shapes.step(keyword)
        written = self._struct(shape, step, level)
        first = {keyword: written.pop(keyword, None)}
        if shape.job is not None:
            kind = getattr(step, shape.job).keyword
            first[kind] = written.pop(kind)
        return {**first, **written}

    def _struct(self, shape: Shape, value: Any, level: int) -> dict[str, Any]:
        """Write the fields of a struct, and those of its job among them, that do not hold their defaults."""
        written: dict[str, Any] = {}
        if shape.job is not None:
            job = getattr(value, shape.job)
            keyword = getattr(job, "keyword", "")
            if self.shapes.jobs.get(keyword) is not type(job):
                raise ValueError(f"{type(job).__name__} is no kind of job of this language")
            written = {keyword: None, **self._struct(self.shapes.job(keyword), job, level)}
        for key, field in shape.fields.items():
            inner = getattr(value, field.name)
            if not field.is_default(inner):
                written[key] = self.write(field.form, inner, level)
        return written

    def _parameter(self, parameter: Parameter, level: int) -> Any:
        written = self._struct(self.shapes.of(Parameter), parameter, level)
        if parameter.default is not None:
            if parameter.required:
                raise ValueError("a parameter is required and has a default, and a document can not say both")
            del written["required"]  # having a default says it
        return written["type"] if list(written) == ["type"] else written


def _below(level: int) -> int:
    """Return the level inside one more list or mapping."""
    if level >= NESTING_LEVELS_MAX:
        raise ValueError(f"the workflow nests lists and mappings more than {NESTING_LEVELS_MAX} levels deep")
    return level + 1


def _template(template: Template) -> Any:
    """Write a template: a lone number, true or false as such, everything else as its text."""
    found = _LITERAL.fullmatch(template.source)
    if found is not None and _is_sound(found[1]):
        value = core_value(found[1])
        if isinstance(value, bool | int | float) and text_of(value) == found[1]:
            return value
    return _text(template.source)


def _measure(value: int, text: str, parse: Callable[[str], int]) -> str:
    """Return the text of a duration or a size if it is read as the same value."""
    if 0 <= value <= MEASURE_MAX and parse(text) == value:
        return text
    raise ValueError(f"{value} is out of the range of what a document can say here")


def _size_text(size: int) -> str:
    unit, count = next((one for one in _UNITS if size and size % one[1] == 0), _UNITS[-1])
    return f"{size // count}{unit}"


def _text(text: str) -> str:
    if len(text) > TEXT_CHARS_MAX:
        raise ValueError(f"a text has {len(text)} characters; a document may have {TEXT_CHARS_MAX} in one")
    try:
        return str(sound(text))
    except ScalarError as error:
        raise ValueError(str(error)) from None


def _key(key: str) -> str:
    if len(key) > KEY_CHARS_MAX or any(is_control(char) for char in key):
        raise ValueError(f"{printable(key, EXCERPT_CHARS_MAX)!r} is too long for a key of a document, or no plain text")
    return _text(key)


def _plain(value: Any, level: int) -> Any:
    """Return a value with lists and dicts of its own, so that nobody changes the workflow through its document."""
    if isinstance(value, Mapping):
        below = _below(level)
        return {_key(key): _plain(inner, below) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        below = _below(level)
        return [_plain(inner, below) for inner in value]
    fault = value_fault(value)
    if fault is not None:
        raise ValueError(fault)
    return _text(value) if isinstance(value, str) else value


def _is_sound(text: str) -> bool:
    """Tell whether the loader reads a text as the value it looks like; one with an exponent looks different in YAML."""
    try:
        core_value(text)
    except ScalarError:
        return False
    return "e" not in text or text in ("true", "false")


class _Dumper(yaml.SafeDumper):
    """Writes YAML for readers of 1.1 and of 1.2 alike: what either takes for a number or a word stands in quotes."""

    def ignore_aliases(self, value: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        return super().increase_indent(flow, indentless=False)  # a list stands indented below its key


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Choose how a text stands: lines as a block where they can, in quotes where it would be read as something else."""
    style = None
    if not all(char.isprintable() or char == "\n" for char in text):
        style = '"'
    elif "\n" in text:
        style = (
            "|"  # the emitter takes quotes where a block could not hold the text, as with blanks before a line's end
        )
    elif not _is_text(text):
        style = "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _is_text(text: str) -> bool:
    """Tell whether the loader takes a text without quotes for a text."""
    try:
        return isinstance(core_value(text), str)
    except ScalarError:
        return False


_Dumper.add_representer(str, _represent_text)
