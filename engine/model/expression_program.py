"""Nodes become closures, which one call evaluates. Floor 2.

* A Program is made once per text and holds no state: evaluations may nest and run side by side.
* Steps: a program costs its nodes once, at the start; a loop costs the nodes of its body for each item; functions and
  operators cost what they read or build. So the cost of a text is the same on every machine.
* `&&`, `||`, all() and exists() drop a Refusal when the other side decides; Exhausted passes through everything.
* Every Halt leaves its closure with a column.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from engine.model import expression_operators as operators
from engine.model.expression_functions import FUNCTIONS, Function
from engine.model.expression_loops import LOOPS
from engine.model.expression_syntax import MACROS, Node, parse
from engine.model.expression_values import (
    EvaluationError,
    ExpressionError,
    Frame,
    Halt,
    Refusal,
    Run,
    Value,
    admit,
    suggestion,
    weigh,
    word,
)

_BUILDING_KINDS: Final = frozenset({"list", "map", "arithmetic"})
_BUILDING_NAMES: Final = frozenset({"filter", "map", "split"})


class Program(NamedTuple):
    """A compiled expression. `builds` tells whether it can give a list or map that is no part of a variable."""

    source: str
    names: frozenset[str]
    run: Run
    size: int
    slots: int
    builds: bool

    def evaluate(self, names: Mapping[str, Value], steps: int) -> tuple[Value, int]:
        """Give the value and the steps left; raises EvaluationError."""
        frame = Frame(names, [None] * self.slots, steps)
        try:
            frame.spend(self.size)
            value = self.run(frame)
            if self.builds and (type(value) is list or type(value) is dict):
                weigh(value)
        except Halt as halt:
            sentence = halt.sentence + suggestion(halt.wanted, halt.known)
            raise EvaluationError(sentence, halt.column or 1, self.source) from None
        return value, frame.steps


def compile_program(source: str) -> Program:
    """Parse a text and bind its names and functions; raises ExpressionError."""
    node = parse(source)
    scope = Scope(source)
    run = scope.compile(node)
    return Program(source, frozenset(scope.free), run, node.size, scope.slots, scope.builds)


class Scope:
    """What is known while one tree is compiled: which names are loop variables here, which were found to be free."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.bound: dict[str, int] = {}
        self.free: dict[str, None] = {}
        self.level = 0
        self.slots = 0
        self.builds = False

    def compile(self, node: Node) -> Run:
        """Make the closure of a node and of those below it."""
        if node.kind in _BUILDING_KINDS or node.text in _BUILDING_NAMES:
            self.builds = True
        return _COMPILE[node.kind](self, node)

    def enter(self, name: str) -> tuple[int, dict[str, int]]:
        """Bind a loop variable; gives its slot and what to hand to `leave`."""
        before = self.bound
        slot = self.level
        self.bound = {**before, name: slot}
        self.level += 1
        self.slots = max(self.slots, self.level)
        return slot, before

    def leave(self, before: dict[str, int]) -> None:
        """Forget the loop variable bound last."""
        self.bound = before
        self.level -= 1

    def function(self, node: Node) -> Function:
        """Look up what a call or method means, and check how it is written; raises ExpressionError."""
        name, count = node.text, len(node.parts)
        function = FUNCTIONS.get(name)
        if name == "matches":
            raise self.wrong("matches() is left out, because nothing bounds the time of a pattern", node.column)
        if name in MACROS:
            raise self.wrong(f"{name}() is written behind a list or map, as in rows.{name}(row, …)", node.column)
        if function is None:
            sentence = f"there is no {'function' if node.kind == 'call' else 'method'} {name}()"
            raise self.wrong(sentence + suggestion(name, [*FUNCTIONS, *MACROS, "has"]), node.column)
        if function.style not in ("either", node.kind):
            shape = f"{name}(value)" if function.style == "call" else f"text.{name}(…)"
            raise self.wrong(f"{name}() is written {shape}", node.column)
        least, most = function.arguments_min, function.arguments_max
        if not least <= count <= most:
            outside = 1 if node.kind == "method" else 0
            range_ = f"{least - outside}" if least == most else f"{least - outside} or {most - outside}"
            noun = "argument" if range_ == "1" else "arguments"
            raise self.wrong(f"{name}() takes {range_} {noun}, not {count - outside}", node.column)
        return function

    def wrong(self, message: str, column: int) -> ExpressionError:
        """Make the error about a text that parses and still cannot be compiled."""
        return ExpressionError(message, column, self.source)


def _part(value: Value, column: int) -> Value:
    """Admit what was taken out of a variable."""
    try:
        return admit(value)
    except Halt as halt:
        raise halt.at(column) from None


def _constant(_scope: Scope, node: Node) -> Run:
    value = node.constant
    return lambda frame: value


def _name(scope: Scope, node: Node) -> Run:
    name, column = node.text, node.column
    if name in scope.bound:
        slot = scope.bound[name]
        return lambda frame: frame.slots[slot]
    scope.free[name] = None

    def run(frame: Frame) -> Value:
        try:
            value = frame.names[name]
        except KeyError:
            raise Refusal(f"there is no variable {name!r}", column, name, frame.names) from None
        return _part(value, column)

    return run


def _list(scope: Scope, node: Node) -> Run:
    parts = [scope.compile(part) for part in node.parts]
    return lambda frame: [part(frame) for part in parts]


def _map(scope: Scope, node: Node) -> Run:
    pairs = [
        (scope.compile(key), key.column, scope.compile(value))
        for key, value in zip(node.parts[::2], node.parts[1::2], strict=True)
    ]

    def run(frame: Frame) -> Value:
        made: dict[str, Value] = {}
        for get_key, column, get_value in pairs:
            key = get_key(frame)
            if type(key) is not str:
                raise Refusal(f"the key of a map is a string, not {word(key)}", column)
            if key in made:
                raise Refusal("the map has this key twice", column)
            made[key] = get_value(frame)
        return made

    return run


def _field(scope: Scope, node: Node) -> Run:
    target, name, column = scope.compile(node.parts[0]), node.text, node.column

    def run(frame: Frame) -> Value:
        whole = target(frame)
        if type(whole) is not dict:
            raise Refusal(f"only a map has fields, this is {word(whole)}", column)
        if name not in whole:
            raise Refusal(f"the map has no key {name!r}", column, name, whole)
        return _part(whole[name], column)

    return run


def _has(scope: Scope, node: Node) -> Run:
    target, name, column = scope.compile(node.parts[0]), node.text, node.column

    def run(frame: Frame) -> Value:
        whole = target(frame)
        if type(whole) is not dict:
            raise Refusal(f"has() looks into a map, this is {word(whole)}", column)
        return name in whole

    return run


def _index(scope: Scope, node: Node) -> Run:
    target, index, column = scope.compile(node.parts[0]), scope.compile(node.parts[1]), node.column
    literal = node.parts[1].kind == "constant"

    def run(frame: Frame) -> Value:
        whole, at = target(frame), index(frame)
        if type(whole) is list:
            place = int(at) if type(at) is float and at.is_integer() else at
            if type(place) is not int:
                raise Refusal(f"the index of a list is an int, not {word(at)}", column)
            if not 0 <= place < len(whole):
                raise Refusal(f"the index {place} is outside a list of {len(whole)}", column)
            return _part(whole[place], column)
        if type(whole) is not dict:
            raise Refusal(f"only a list or a map has an index, this is {word(whole)}", column)
        if type(at) is not str:
            raise Refusal(f"the key of a map is a string, not {word(at)}", column)
        if at in whole:
            return _part(whole[at], column)
        if literal:
            raise Refusal(f"the map has no key {at!r}", column, at, whole)
        raise Refusal("the map has no such key", column)  # a computed key may be a secret

    return run


def _call(scope: Scope, node: Node) -> Run:
    column = node.column
    apply = scope.function(node).apply
    parts = [scope.compile(part) for part in node.parts]
    first = parts[0]

    def run_one(frame: Frame) -> Value:
        try:
            return apply(frame, first(frame))
        except Halt as halt:
            raise halt.at(column) from None

    def run_many(frame: Frame) -> Value:
        try:
            return apply(frame, *[part(frame) for part in parts])
        except Halt as halt:
            raise halt.at(column) from None

    return run_one if len(parts) == 1 else run_many


def _not(scope: Scope, node: Node) -> Run:
    operand, column = scope.compile(node.parts[0]), node.column

    def run(frame: Frame) -> Value:
        value = operand(frame)
        if type(value) is not bool:
            raise Refusal(f"'!' needs a bool, not {word(value)}", column)
        return not value

    return run


def _negate(scope: Scope, node: Node) -> Run:
    operand, column = scope.compile(node.parts[0]), node.column

    def run(frame: Frame) -> Value:
        try:
            return operators.negate(operand(frame))
        except Halt as halt:
            raise halt.at(column) from None

    return run


def _arithmetic(scope: Scope, node: Node) -> Run:
    first = scope.compile(node.parts[0])
    rest = [
        (operators.ARITHMETIC[symbol], scope.compile(part), column)
        for symbol, part, column in zip(node.text, node.parts[1:], node.columns, strict=True)
    ]

    def run(frame: Frame) -> Value:
        value = first(frame)
        for operate, part, column in rest:
            other = part(frame)
            try:
                value = operate(frame, value, other)
            except Halt as halt:
                raise halt.at(column) from None
        return value

    return run


def _relation(scope: Scope, node: Node) -> Run:
    left, right = scope.compile(node.parts[0]), scope.compile(node.parts[1])
    operate, column = operators.RELATIONS[node.text], node.column

    def run(frame: Frame) -> Value:
        try:
            return operate(frame, left(frame), right(frame))
        except Halt as halt:
            raise halt.at(column) from None

    return run


def _logic(scope: Scope, node: Node) -> Run:
    """`||` is decided by one true, `&&` by one false; only without either does an error on any side count."""
    decisive = node.kind == "or"
    symbol = "||" if decisive else "&&"
    parts = [(scope.compile(part), part.column) for part in node.parts]

    def run(frame: Frame) -> Value:
        failure: Refusal | None = None
        for part, column in parts:
            try:
                value = part(frame)
            except Refusal as refusal:
                failure = failure or refusal
                continue
            if value is decisive:
                return decisive
            if type(value) is not bool and failure is None:
                failure = Refusal(f"'{symbol}' needs bools, not {word(value)}", column)
        if failure is not None:
            raise failure
        return not decisive

    return run


def _choice(scope: Scope, node: Node) -> Run:
    condition, one, other = (scope.compile(part) for part in node.parts)
    column = node.column

    def run(frame: Frame) -> Value:
        value = condition(frame)
        if type(value) is not bool:
            raise Refusal(f"the condition before '?' is {word(value)}, not a bool", column)
        return one(frame) if value else other(frame)

    return run


def _macro(scope: Scope, node: Node) -> Run:
    target = scope.compile(node.parts[0])
    slot, before = scope.enter(node.bound)
    bodies = [scope.compile(part) for part in node.parts[1:]]
    scope.leave(before)
    cost = sum(part.size for part in node.parts[1:])
    loop = LOOPS[node.text](slot, bodies, [part.column for part in node.parts[1:]])
    column = node.column

    def items(frame: Frame, whole: Value) -> Iterator[None]:
        """Set the loop variable to one item after the other, each paid for."""
        if type(whole) is not list and type(whole) is not dict:
            raise Refusal(f"{node.text}() needs a list or a map, not {word(whole)}", column)
        for item in whole:
            frame.spend(cost)
            frame.slots[slot] = admit(item)
            yield

    def run(frame: Frame) -> Value:
        whole = target(frame)
        try:
            return loop(frame, items(frame, whole))
        except Halt as halt:
            raise halt.at(column) from None

    return run


_COMPILE: Final[dict[str, Callable[[Scope, Node], Run]]] = {
    "constant": _constant,
    "name": _name,
    "list": _list,
    "map": _map,
    "field": _field,
    "has": _has,
    "index": _index,
    "call": _call,
    "method": _call,
    "macro": _macro,
    "not": _not,
    "negate": _negate,
    "arithmetic": _arithmetic,
    "relation": _relation,
    "and": _logic,
    "or": _logic,
    "choice": _choice,
}
