"""Steps: a mapping with one instruction's keyword, its fields, and the keys of the job it carries. Floor 5.

* Every key is read or is a fault; one that another step or kind of job would take is told so.
* A step that is refused leaves a place holder with its nested steps, so that what is wrong with those is found too.
* A definition under `jobs` gives a step what the step does not write itself; mappings (environment, arguments) are
  joined entry by entry.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from engine.documents.convert_faults import Faults, Path, meant, suggestion, text_of, what
from engine.documents.convert_forms import Form, Leaf, Shape, Shapes
from engine.documents.convert_values import BAD, Values
from engine.documents.node import Mapping, Mark, Node, Scalar, quoted
from engine.model.instruction import Instruction
from engine.model.workflow import Parameter
from engine.rules.statement import Statement

JOB_KEYWORD = "job"  # the instruction that definitions under `jobs` are for


class Place(NamedTuple):
    """Where a step stands in the document."""

    mark: Mark
    path: Path


class Unread(Statement):
    """What stands for a step that was refused, with the blocks that were found in it."""

    def __init__(self, nested: Iterable[tuple[Instruction, ...]]) -> None:
        self._nested = tuple(nested)

    def blocks(self) -> list[tuple[str, tuple[Instruction, ...]]]:
        return [(f"block{number}", steps) for number, steps in enumerate(self._nested)]


class Definition(NamedTuple):
    """A job as `jobs` defines it: its kind, the fields of the step, and those of the kind."""

    kind: Shape
    own: dict[str, Any]
    ran: dict[str, Any]


class Steps(Values):
    """Reads steps. `places` tells where each stands, by the identity of the instruction (`_kept` keeps it alive)."""

    def __init__(self, shapes: Shapes, faults: Faults) -> None:
        super().__init__(faults)
        self.shapes = shapes
        self.places: dict[int, Place] = {}
        self.definitions: dict[str, Definition | None] = {}  # None: refused
        self._kept: list[Instruction] = []
        self._blocks: list[tuple[Instruction, ...]] = []

    def read(self, form: Form, node: Node, path: Path) -> Any:
        value = super().read(form, node, path)
        if isinstance(value, tuple) and value and isinstance(value[0], Instruction):
            self._blocks.append(value)
        return value

    def step(self, node: Node, path: Path) -> Instruction:
        """Read one step; a refused one becomes a place holder."""
        outer, self._blocks = self._blocks, []
        step = self._step(node, path)
        if step is BAD:
            step = Unread(self._blocks)
        self._blocks = outer
        self.places[id(step)] = Place(node.mark, path)
        self._kept.append(step)
        return step  # type: ignore[no-any-return]  # BAD is gone

    def record(self, cls: type, node: Mapping, path: Path) -> Any:
        shape = self.shapes.of(cls)
        title = "this mapping"
        kind = self._kind(shape, node, path, title) if shape.job else None
        own, ran = self._fields(shape, kind, node, path, "here")
        return self._finish(shape, kind, own, ran, Place(node.mark, path), title)

    def parameter(self, node: Node, path: Path) -> Any:
        """Read a parameter: the name of its type, or a mapping; with a default it need not be given."""
        shape = self.shapes.of(Parameter)
        if isinstance(node, Scalar) and isinstance(node.value, str):
            kind = self.read(shape.fields["type"].form, node, path)
            return BAD if kind is BAD else Parameter(kind)
        if not isinstance(node, Mapping):
            return self.bad(node.mark, path, _parameter_sentence(node))
        own, _ = self._fields(shape, None, node, path, "in a parameter")
        if "default" in node.value and own.setdefault("required", False) is True:
            mark = node.keys["required"]
            own["required"] = self.bad(mark, (path, "required"), "What has a default is not required: remove one.")
        return self._finish(shape, None, own, {}, Place(node.mark, path), "a parameter")

    def define(self, node: Node, path: Path) -> None:
        """Read the definitions under `jobs`; a refused one stays known by its name, so that steps may refer to it."""
        if not isinstance(node, Mapping):
            self.bad(node.mark, path, f"This must be a mapping from names to jobs, not {what(node)}.")
            return
        for name, inner in node.value.items():
            self.definitions[name] = self._definition(inner, (path, name))

    def _definition(self, node: Node, path: Path) -> Definition | None:
        if not isinstance(node, Mapping):
            self.bad(node.mark, path, f"A job is defined by a mapping such as 'shell: …', not by {what(node)}.")
            return None
        shape = self.shapes.step(JOB_KEYWORD)
        fields = {key: field for key, field in shape.fields.items() if key != JOB_KEYWORD}
        kind = self._kind(shape, node, path, "this job")
        own, ran = self._fields(shape._replace(fields=fields), kind, node, path, "in a job's definition")
        is_bad = not isinstance(kind, Shape) or any(value is BAD for value in (*own.values(), *ran.values()))
        return None if is_bad else Definition(kind, own, ran)

    # --- one step -----------------------------------------------------------------------------------------------------

    def _step(self, node: Node, path: Path) -> Any:
        if not isinstance(node, Mapping):
            is_word = isinstance(node, Scalar) and isinstance(node.value, str) and node.value in self.shapes.steps
            hint = f": write '{node.value}:'" if is_word else ""
            return self.bad(node.mark, path, f"A step is a mapping such as 'job: name', not {what(node)}{hint}.")
        keyword = self._keyword(node, path)
        if keyword is None:
            return BAD
        shape = self.shapes.step(keyword)
        title = f"{'an' if keyword[0] in 'aeiou' else 'a'} {keyword} step"
        definition, kind = None, None
        if shape.job is not None:
            definition = self._defined(keyword, node, path)
            kind = definition.kind if isinstance(definition, Definition) else definition
            kind = kind or self._kind(shape, node, path, title)
        own, ran = self._fields(shape, kind, node, path, f"in {title}", keyword)
        if isinstance(definition, Definition):
            own, ran = _joined(definition.own, own), _joined(definition.ran, ran)
        return self._finish(shape, kind, own, ran, Place(node.mark, path), title)

    def _keyword(self, node: Mapping, path: Path) -> str | None:
        """Return the keyword of the instruction that a step is, or tell why there is none."""
        found = [key for key in node.value if key in self.shapes.steps]
        if len(found) > 1:  # one may be a field of another
            found = [key for key in found if self._keys_of(key).issuperset(found)] or found
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(quoted(key) for key in found)
            sentence = f"This step holds several instructions, {names}: write each as a step of its own."
            self.bad(node.keys[found[1]], path, sentence)
            return None
        kinds = [key for key in node.value if key in self.shapes.jobs]
        if kinds:
            self.bad(node.mark, path, f"A {kinds[0]} job needs a name: write 'job: NAME' beside {quoted(kinds[0])}.")
            return None
        for key in node.value:
            if close := suggestion(key, self.shapes.steps):
                self.bad(node.keys[key], path, f"There is no instruction {quoted(key)}: did you mean {quoted(close)}?")
                return None
        known = ", ".join(self.shapes.steps)
        self.bad(node.mark, path, f"This step names no instruction: one of its keys must be {known}.")
        return None

    def _keys_of(self, keyword: str) -> set[str]:
        """Return all keys that may stand in a step of an instruction, for the test of membership only."""
        shape = self.shapes.step(keyword)
        keys = {keyword, *shape.fields}
        if shape.job is not None:
            keys.update(key for kind in self.shapes.jobs for key in (kind, *self.shapes.job(kind).fields))
        return keys

    def _defined(self, keyword: str, node: Mapping, path: Path) -> Any:
        """Return the definition a step refers to by its name, BAD for a refused one, None when it refers to none."""
        name = node.value[keyword]
        if keyword != JOB_KEYWORD or not isinstance(name, Scalar) or not isinstance(name.value, str):
            return None
        kind = next((key for key in node.value if key in self.shapes.jobs), None)
        if name.value in self.definitions:
            if kind is None:
                return self.definitions[name.value] or BAD
            sentence = (
                f"The job {quoted(name.value)} is defined under 'jobs': remove {quoted(kind)} or rename this step."
            )
            return self.bad(node.keys[kind], (path, kind), sentence)
        if kind is None and self.definitions:
            kinds = ", ".join(self.shapes.jobs)
            hint = meant(name.value, self.definitions, f"; write {kinds} beside it, or define it there")
            return self.bad(name.mark, (path, keyword), f"There is no {quoted(name.value)} under 'jobs'{hint}")
        return None

    def _kind(self, shape: Shape, node: Mapping, path: Path, title: str) -> Any:
        """Return the shape of the job's kind whose keyword stands among the keys, or BAD."""
        kinds = [key for key in node.value if key in self.shapes.jobs]
        if len(kinds) == 1:
            return self.shapes.job(kinds[0])
        if kinds:
            names = ", ".join(quoted(key) for key in kinds)
            return self.bad(node.keys[kinds[1]], path, f"A job is of one kind, and here are several: {names}.")
        known = [key for key in self.shapes.jobs if key not in shape.fields]
        sentence = f"What to run is missing: {title} needs one of the keys {', '.join(known)}."
        return self.bad(node.mark, path, sentence)

    def _fields(
        self, shape: Shape, kind: Any, node: Mapping, path: Path, where: str, keyword: str = ""
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the values of a mapping's keys by field name: those of the struct, and those of its job's kind.

        `kind` is BAD where it is not known: then what may be meant for it is passed over, one fault being told already.
        """
        own: dict[str, Any] = {}
        ran: dict[str, Any] = {}
        for key, inner in node.value.items():
            if (field := shape.fields.get(key)) is not None:
                own[field.name] = self.read(field.form, inner, (path, key))
            elif isinstance(kind, Shape) and (field := kind.fields.get(key)) is not None:
                ran[field.name] = self.read(field.form, inner, (path, key))
            elif key == keyword or (isinstance(kind, Shape) and key == _keyword_of(kind)):  # it takes nothing: `stop:`
                if self.read(Leaf.NOTHING, inner, (path, key)) is BAD:
                    own[key] = BAD
            elif kind is not BAD or not self._kinds_with(key):
                own[key] = self.bad(node.keys[key], (path, key), self._unknown(key, shape, kind, where))
        return own, ran

    def _finish(
        self, shape: Shape, kind: Any, own: dict[str, Any], ran: dict[str, Any], place: Place, title: str
    ) -> Any:
        """Make the struct, with its job, once its keys are read."""
        if shape.job is not None:
            own[shape.job] = self._made(kind, ran, place, title) if isinstance(kind, Shape) else BAD
        return self._made(shape, own, place, title)

    def _made(self, shape: Shape, values: dict[str, Any], place: Place, title: str) -> Any:
        missing = [key for key, field in shape.fields.items() if field.required and field.name not in values]
        for key in missing:
            self.bad(place.mark, place.path, f"The key {quoted(key)} is missing: {title} needs it.")
        return BAD if missing else self.build(shape, values, place.mark, place.path)

    def _unknown(self, key: str, shape: Shape, kind: Any, where: str) -> str:
        """Say that a key is not known, and which one may be meant or where it belongs."""
        start = f"There is no key {quoted(key)} {where}"
        keys = [*shape.fields, *(kind.fields if isinstance(kind, Shape) else ())]
        if isinstance(kind, Shape) and (kinds := self._kinds_with(key)):
            return f"{start}: it belongs to {_and(kinds)} jobs, not to {_keyword_of(kind)}."
        owners = [name for name in self.shapes.steps if key in self.shapes.step(name).fields]
        if owners:
            return f"{start}: it belongs to {_and(owners)} steps."
        return start + meant(key, keys, f"; known are {', '.join(keys)}")

    def _kinds_with(self, key: str) -> list[str]:
        return [name for name in self.shapes.jobs if key == name or key in self.shapes.job(name).fields]


def _keyword_of(shape: Shape) -> str:
    return str(getattr(shape.cls, "keyword", ""))


def _joined(defined: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Lay a step's own values over those of its definition; mappings are joined, the step's entries win."""
    joined = dict(defined)
    for name, value in given.items():
        below = joined.get(name)
        joined[name] = {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value
    return joined


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _parameter_sentence(node: Node) -> str:
    """Say what a parameter is, to somebody who wrote its default alone."""
    sentence = f"A parameter is the name of its type or a mapping, not {what(node)}"
    if isinstance(node, Scalar) and node.value is not None:
        kind = {bool: "boolean", int: "integer"}.get(type(node.value), "number")
        return f"{sentence}: write {{type: {kind}, default: {text_of(node.value)}}}."
    return f"{sentence}: write string, integer or another type."
