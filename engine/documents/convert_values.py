"""Values: one node of a document read as what a form wants, or a fault that says why it is not. Floor 5.

* A value that is refused becomes BAD, and reading goes on beside it, so that all faults are found at once.
* Nothing is guessed: a number or true/false stands for a text only where it is written as it is read (2015, not 1.10).
* In a template such a number keeps its type: `5` is `${5}`, which is 5 for a callable and "5" in an environment.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from engine.base.clock import parse_span
from engine.base.codec import INTEGER_MAX, INTEGER_MIN, value_fault
from engine.documents.convert_faults import (
    Faults,
    Path,
    meant,
    same_scalar,
    sentence_of,
    text_of,
    what,
)
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
    wanted,
)
from engine.documents.node import Mapping, Mark, Node, Scalar, Sequence, plain, quoted
from engine.model.expression import Expression, ExpressionError, Template
from engine.model.fields import parse_size

MEASURE_CHARS_MAX = 100  # of a duration or a size


class _Bad:
    """What a refused value becomes."""


BAD: Final[Any] = _Bad()


class Values:
    """Reads nodes by form. What stands for steps and structs is read by `step` and `record`, which a subclass gives."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._leaves: dict[Leaf, Callable[[Node, Path], Any]] = {
            Leaf.STEP: self.step,
            Leaf.PARAMETER: self.parameter,
            Leaf.TEMPLATE: self._template,
            Leaf.EXPRESSION: self._expression,
            Leaf.SPAN: self._span,
            Leaf.SIZE: self._size,
            Leaf.TEXT: self._text,
            Leaf.INTEGER: self._integer,
            Leaf.NUMBER: self._number,
            Leaf.FLAG: self._flag,
            Leaf.NOTHING: self._nothing,
            Leaf.ANYTHING: self._anything,
        }

    def step(self, node: Node, path: Path) -> Any:
        """Read a step."""
        raise NotImplementedError

    def record(self, cls: type, node: Mapping, path: Path) -> Any:
        """Read a struct that is no step."""
        raise NotImplementedError

    def parameter(self, node: Node, path: Path) -> Any:
        """Read the declaration of a parameter."""
        raise NotImplementedError

    def read(self, form: Form, node: Node, path: Path) -> Any:
        """Return the value of a node, or BAD after telling the fault."""
        match form:
            case Leaf():
                return self._leaves[form](node, path)
            case Maybe(item=item):
                return None if isinstance(node, Scalar) and node.value is None else self.read(item, node, path)
            case Many() | Fixed():
                return self._list(form, node, path)
            case Named(item=item):
                return self._mapping(item, node, path)
            case Record(cls=cls):
                return self.record(cls, node, path) if isinstance(node, Mapping) else self.refuse(form, node, path)
            case Choice(values=values):
                return self._choice(form, values, node, path)
            case OneOf(items=items):
                return self._one_of(form, items, node, path)
            case Bounded():
                return self._bounded(form, node, path)

    def build(self, shape: Shape, values: dict[str, Any], mark: Mark, path: Path) -> Any:
        """Make the struct from the values of its fields; what it says against them itself is a fault at its place."""
        if any(value is BAD for value in values.values()):
            return BAD
        try:
            return shape.cls(**values)
        except (ValueError, TypeError) as error:
            return self.bad(mark, path, sentence_of(str(error)))

    def refuse(self, form: Form, node: Node, path: Path, hint: str = "") -> Any:
        """Tell that a node is not what the form wants."""
        if form == Many(Leaf.STEP, as_list=False) and isinstance(node, Mapping):
            hint = ": begin each step with '- '"
        return self.bad(node.mark, path, f"This must be {wanted(form)}, not {what(node)}{hint}.")

    def bad(self, mark: Mark, path: Path, sentence: str) -> Any:
        """Tell a fault and give BAD."""
        self.faults.add(mark, path, sentence)
        return BAD

    # --- lists, mappings, choices -------------------------------------------------------------------------------------

    def _list(self, form: Many | Fixed, node: Node, path: Path) -> Any:
        if not isinstance(node, Sequence):
            return self.refuse(form, node, path)
        if isinstance(form, Fixed):
            if len(node.value) != len(form.items):
                return self.bad(node.mark, path, f"This must be {wanted(form)}, not of {len(node.value)}.")
            forms: tuple[Form, ...] = form.items
        else:
            forms = (form.item,) * len(node.value)
        pairs = zip(forms, node.value, strict=True)
        items = [self.read(one, item, (path, number)) for number, (one, item) in enumerate(pairs)]
        if any(item is BAD for item in items):
            return BAD
        return items if isinstance(form, Many) and form.as_list else tuple(items)

    def _mapping(self, item: Form, node: Node, path: Path) -> Any:
        if not isinstance(node, Mapping):
            return self.refuse(Named(item), node, path)
        values = {key: self.read(item, inner, (path, key)) for key, inner in node.value.items()}
        return BAD if any(value is BAD for value in values.values()) else values

    def _choice(self, form: Form, values: Any, node: Node, path: Path) -> Any:
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            return self.refuse(form, node, path)
        if node.value in values:
            return values[node.value]
        sentence = f"This must be {wanted(form)}, not {quoted(node.value)}{meant(node.value, values)}"
        return self.bad(node.mark, path, sentence)

    def _one_of(self, form: Form, items: tuple[Form, ...], node: Node, path: Path) -> Any:
        types = {Leaf.TEXT: str, Leaf.INTEGER: int, Leaf.NUMBER: float, Leaf.FLAG: bool}
        for item in items:
            if isinstance(node, Scalar) and isinstance(item, Leaf) and type(node.value) is types[item]:
                return self.read(item, node, path)
        is_whole = isinstance(node, Scalar) and type(node.value) is int
        if is_whole and Leaf.NUMBER in items:
            return self.read(Leaf.NUMBER, node, path)
        return self.refuse(form, node, path)

    def _bounded(self, form: Bounded, node: Node, path: Path) -> Any:
        value = self.read(form.item, node, path)
        if value is BAD:
            return BAD
        try:
            msgspec.convert(value, form.annotation)
        except msgspec.ValidationError as error:
            return self.bad(node.mark, path, sentence_of(str(error)))
        return value

    # --- single values ------------------------------------------------------------------------------------------------

    def _text(self, node: Node, path: Path) -> Any:
        if isinstance(node, Scalar) and node.value is not None:
            return node.value if isinstance(node.value, str) else self._as_written(node, path)
        return self.refuse(Leaf.TEXT, node, path)

    def _template(self, node: Node, path: Path) -> Any:
        if not isinstance(node, Scalar) or node.value is None:
            hint = ": for an empty text write '', for null ${null}" if isinstance(node, Scalar) else ""
            hint = hint or ": write it as an expression in quotes, such as '${[1, 2]}'"
            return self.refuse(Leaf.TEMPLATE, node, path, hint)
        source = node.value
        if not isinstance(source, str):
            if (source := self._as_written(node, path)) is BAD:
                return BAD
            source = f"${{{source}}}"
        try:
            return Template(source)
        except ExpressionError as error:
            return self._no_expression(node, path, error)

    def _expression(self, node: Node, path: Path) -> Any:
        if not isinstance(node, Scalar) or node.value is None:
            hint = "" if isinstance(node, Scalar) else ": write it in quotes, such as '[1, 2]'"
            return self.refuse(Leaf.EXPRESSION, node, path, hint)
        source = node.value if isinstance(node.value, str) else text_of(node.value)
        try:
            return Expression(source)
        except ExpressionError as error:
            return self._no_expression(node, path, error)

    def _no_expression(self, node: Scalar, path: Path, error: ExpressionError) -> Any:
        self.faults.add_expression(node, path, error)
        return BAD

    def _span(self, node: Node, path: Path) -> Any:
        return self._measure(Leaf.SPAN, parse_span, "30s", node, path)

    def _size(self, node: Node, path: Path) -> Any:
        return self._measure(Leaf.SIZE, parse_size, "10MB", node, path)

    def _measure(self, form: Leaf, parse: Callable[[str], int], example: str, node: Node, path: Path) -> Any:
        """Read a number with its unit, which is part of it: a bare number would leave people guessing."""
        if not isinstance(node, Scalar) or node.value is None or isinstance(node.value, bool):
            return self.refuse(form, node, path)
        text = str(node.value).strip()
        if not isinstance(node.value, str) or text.isdecimal():
            sentence = f"The number {quoted(text)} needs its unit here: write it as in {example}."
            return self.bad(node.mark, path, sentence)
        if len(text) > MEASURE_CHARS_MAX:
            return self.refuse(form, node, path)
        try:
            return parse(text)
        except (ValueError, OverflowError) as error:
            return self.bad(node.mark, path, sentence_of(str(error)))

    def _integer(self, node: Node, path: Path) -> Any:
        if not isinstance(node, Scalar) or isinstance(node.value, bool) or not isinstance(node.value, int):
            is_quoted = isinstance(node, Scalar) and isinstance(node.value, str) and node.value.isdecimal()
            return self.refuse(Leaf.INTEGER, node, path, ": remove the quotes" if is_quoted else "")
        if not INTEGER_MIN <= node.value <= INTEGER_MAX:
            return self.bad(node.mark, path, f"The number {node.value} does not fit into 64 bits with sign.")
        return node.value

    def _number(self, node: Node, path: Path) -> Any:
        if isinstance(node, Scalar) and type(node.value) in (int, float):
            return float(node.value)  # type: ignore[arg-type]  # narrowed by the line above
        return self.refuse(Leaf.NUMBER, node, path)

    def _flag(self, node: Node, path: Path) -> Any:
        is_flag = isinstance(node, Scalar) and isinstance(node.value, bool)
        return node.value if is_flag else self.refuse(Leaf.FLAG, node, path)

    def _nothing(self, node: Node, path: Path) -> Any:
        is_null = isinstance(node, Scalar) and node.value is None
        return None if is_null else self.refuse(Leaf.NOTHING, node, path)

    def _anything(self, node: Node, path: Path) -> Any:
        value = plain(node)
        fault = value_fault(value)
        return value if fault is None else self.bad(node.mark, path, sentence_of(fault))

    def _as_written(self, node: Scalar, path: Path) -> Any:
        """Return the text of a number or true/false that stands in a text's place.

        Refused where it is written otherwise than it is read, because then one of the two would be lost: `010` is ten,
        `1.10` is 1.1.
        """
        assert node.value is not None
        read = text_of(node.value)
        written = self.faults.source.word_at(node.mark)
        if written is None or written == read or not same_scalar(written, node.value):
            return read
        sentence = f"This is written {quoted(written)} and read as {quoted(read)}: write it so, or in quotes as a text."
        return self.bad(node.mark, path, sentence)
