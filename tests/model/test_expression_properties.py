"""What holds for every text and every tree, and agreement with the reference implementation of CEL where it is there.

Tests: engine/model/expression_syntax.py, engine/model/expression_program.py
"""

import functools
import re
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.model.expression import EvaluationError, Expression, ExpressionError, Template, Value
from engine.model.expression_functions import FUNCTIONS
from engine.model.expression_syntax import MACROS, PRECEDENCE, RESERVED, Node, parse

VARIABLES: dict[str, Value] = {
    "a": 3,
    "b": "a,1",
    "c": [1, 2.0, "é", [True]],
    "d": {"k": [0, 1]},
    "e": 0.5,
    "f": False,
    "g": None,
}
NAMES = [*VARIABLES, "unknown", "k"]
FIELDS = ["k", "if", "size"]

# ---------------------------------------------------------------- printing


def printed(node: Node) -> str:
    """Write a tree as text; only what needs parentheses gets them."""
    parts = node.parts
    match node.kind:
        case "constant":
            return literal(node.constant)
        case "name":
            return node.text
        case "list":
            return f"[{', '.join(map(printed, parts))}]"
        case "map":
            pairs = zip(parts[::2], parts[1::2], strict=True)
            return "{" + ", ".join(f"{printed(key)}: {printed(value)}" for key, value in pairs) + "}"
        case "field":
            return f"{tight(parts[0])}.{node.text}"
        case "has":
            return f"has({tight(parts[0])}.{node.text})"
        case "index":
            return f"{tight(parts[0])}[{printed(parts[1])}]"
        case "call":
            return f"{node.text}({', '.join(map(printed, parts))})"
        case "method":
            return f"{tight(parts[0])}.{node.text}({', '.join(map(printed, parts[1:]))})"
        case "macro":
            return f"{tight(parts[0])}.{node.text}({node.bound}, {', '.join(map(printed, parts[1:]))})"
        case "not" | "negate":
            sign = "!" if node.kind == "not" else "-"
            return sign + (printed(parts[0]) if parts[0].kind == node.kind else tight(parts[0]))
        case "choice":
            return f"{lower(parts[0], 1)} ? {lower(parts[1], 1)} : {printed(parts[2])}"
        case _:
            return printed_run(node)


def printed_run(node: Node) -> str:
    """Write operands with the operators between them."""
    own = precedence(node)
    if node.kind == "relation":
        return f"{lower(node.parts[0], own)} {node.text} {lower(node.parts[1], own + 1)}"
    signs = list(node.text) if node.kind == "arithmetic" else ["||" if node.kind == "or" else "&&"] * len(node.parts)
    text = lower(node.parts[0], own + 1)
    for sign, part in zip(signs, node.parts[1:], strict=False):
        text += f" {sign} {lower(part, own + 1)}"
    return text


def precedence(node: Node) -> int:
    """Tell how strongly a node holds together: 0 for a choice, 9 for what never needs parentheses."""
    if node.kind == "choice":
        return 0
    if node.kind in ("or", "and"):
        return PRECEDENCE["||" if node.kind == "or" else "&&"]
    if node.kind in ("relation", "arithmetic"):
        return PRECEDENCE[node.text if node.kind == "relation" else node.text[0]]
    return 8 if node.kind in ("not", "negate") else 9


def lower(node: Node, least: int) -> str:
    """Write a part, in parentheses if it holds together more loosely than its place asks."""
    return printed(node) if precedence(node) >= least else f"({printed(node)})"


def tight(node: Node) -> str:
    """Write a part before a dot or behind a sign; a number would join with the sign or the dot."""
    number = node.kind == "constant" and type(node.constant) in (int, float)
    return f"({printed(node)})" if number else lower(node, 9)


def literal(value: Value) -> str:
    """Write a constant."""
    if type(value) is str:
        escaped = "".join(c if c.isalnum() or c in " ,}{$" else f"\\U{ord(c):08x}" for c in value)
        return f'"{escaped}"'
    return {True: "true", False: "false", None: "null"}[value] if value is None or type(value) is bool else repr(value)


def outline(node: Node) -> Any:
    """Give what two equal trees have in common: all but the columns."""
    return (node.kind, node.text, node.bound, repr(node.constant), [outline(part) for part in node.parts])


# ---------------------------------------------------------------- trees

numbers = st.integers(-3, 12) | st.sampled_from([2**63 - 1, -(2**63), 2**53])
doubles = st.sampled_from([0.5, -1.5, 2.0, 1e300, 3.25])
strings = st.text(alphabet="ab1,é😀}$", max_size=4)
leaves = st.one_of(numbers, doubles, strings, st.booleans(), st.none()).map(
    lambda value: Node("constant", 1, constant=value)
)
leaves = leaves | st.sampled_from(NAMES).map(lambda name: Node("name", 1, text=name))


def arithmetic(pairs: list[tuple[str, Node]]) -> Node:
    """Make a run of `+ -` or of `* / %`, whichever the first sign belongs to."""
    group = "+-" if pairs[1][0] in "+-" else "*/%"
    signs = "".join(sign if sign in group else group[0] for sign, _ in pairs[1:])
    return Node("arithmetic", 1, tuple(part for _, part in pairs), signs, columns=(1,) * len(signs))


def branches(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    """Every kind of node over the given ones."""

    def made(kind: Any, count: int | tuple[int, int], texts: list[str] | None = None) -> st.SearchStrategy[Node]:
        least, most = (count, count) if isinstance(count, int) else count
        nodes = st.lists(inner, min_size=least, max_size=most).map(tuple)
        return st.builds(lambda parts, text: Node(kind, 1, parts, text), nodes, st.sampled_from(texts or [""]))

    def called(name: str) -> st.SearchStrategy[Node]:
        function = FUNCTIONS[name]
        kinds = {"call": ["call"], "method": ["method"], "either": ["call", "method"]}[function.style]
        counts = (function.arguments_min, function.arguments_max)
        return st.one_of([made(kind, counts, [name]) for kind in kinds])

    def looped(name: str) -> st.SearchStrategy[Node]:
        bodies = st.lists(inner, min_size=2, max_size=max(MACROS[name])).map(tuple)
        return st.builds(
            lambda parts, bound: Node("macro", 1, parts, name, bound=bound), bodies, st.sampled_from("akx")
        )

    relations = [sign for sign, level in PRECEDENCE.items() if level == PRECEDENCE["<"]]
    keys = st.lists(strings, unique=True, max_size=1)
    return st.one_of(
        made("list", (0, 3)),
        st.builds(
            lambda names, value: Node(
                "map", 1, tuple(p for n in names for p in (Node("constant", 1, constant=n), value))
            ),
            keys,
            inner,
        ),
        made("field", 1, FIELDS),
        made("has", 1, FIELDS),
        made("index", 2),
        made("not", 1),
        inner.filter(lambda node: not is_number(node)).map(lambda node: Node("negate", 1, (node,))),
        st.lists(st.tuples(st.sampled_from("+-*/%"), inner), min_size=2, max_size=3).map(arithmetic),
        made("relation", 2, relations),
        made("and", (2, 3)),
        made("or", (2, 3)),
        made("choice", 3),
        st.sampled_from(sorted(FUNCTIONS)).flatmap(called),
        st.sampled_from(sorted(MACROS)).flatmap(looped),
    )


def is_number(node: Node) -> bool:
    """Tell whether a sign before this node would be read as part of a number."""
    return node.kind == "constant" and type(node.constant) in (int, float)


trees = st.recursive(leaves, branches, max_leaves=12).filter(lambda node: node.depth <= 20)


def node(kind: Any, text: str, *parts: st.SearchStrategy[Node], bound: str = "") -> st.SearchStrategy[Node]:
    """Make one node over one choice of each part."""
    return st.tuples(*parts).map(lambda made: Node(kind, 1, made, text, bound=bound))


def chain(signs: str, part: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    """Make a short run of operators over parts of one type."""
    pairs = st.lists(st.tuples(st.sampled_from(signs), part), min_size=2, max_size=3)
    return pairs.map(arithmetic)


@functools.cache
def sensible(kind: str, levels: int = 3) -> st.SearchStrategy[Node]:
    """Trees of one type whose parts mostly fit, so that most have a value; loop variables are `a` and `b`."""
    if levels == 0:
        return SIMPLE[kind]
    ints, texts, bools = sensible("int", levels - 1), sensible("string", levels - 1), sensible("bool", levels - 1)
    lists, words = sensible("list", levels - 1), sensible("words", levels - 1)
    anything = st.one_of([sensible(each, levels - 1) for each in ("int", "string", "bool", "list", "double")])
    choices: dict[str, list[st.SearchStrategy[Node]]] = {
        "int": [
            chain("+-", ints), chain("*/%", ints), node("call", "size", anything), node("method", "size", texts),
            node("choice", "", bools, ints, ints), node("index", "", lists, ints), node("call", "int", anything),
            node("field", "k", node("map", "", SIMPLE["key"], ints)),
        ],
        "double": [chain("+-", sensible("double", levels - 1)), node("call", "double", st.one_of(ints, texts))],
        "string": [
            chain("+", texts), node("call", "string", ints), node("method", "join", words, texts),
            node("method", "lowerAscii", texts), node("method", "upperAscii", texts), node("method", "trim", texts),
            node("method", "replace", texts, texts, texts), node("method", "replace", texts, texts, texts, ints),
            node("method", "substring", texts, ints), node("method", "substring", texts, ints, ints),
            node("index", "", words, ints), node("choice", "", bools, texts, texts),
        ],
        "bool": [
            *[node("relation", sign, part, part) for sign in ("==", "!=", "<", "<=", ">", ">=") for part in
              (ints, texts, st.one_of(ints, sensible("double", levels - 1)))],
            node("relation", "==", anything, anything), node("relation", "==", lists, lists),
            node("relation", "in", anything, lists), node("relation", "in", texts, words), node("not", "", bools),
            *[node(sign, "", part, bools, part) for sign in ("and", "or") for part in (bools, anything)],
            *[node("method", name, texts, texts) for name in ("startsWith", "endsWith", "contains")],
            *[node("macro", name, lists, bools, bound="a") for name in ("all", "exists", "exists_one")],
            *[node("macro", name, words, bools, bound="b") for name in ("all", "exists", "exists_one")],
            node("has", "k", node("map", "", SIMPLE["key"], ints)), node("call", "bool", anything),
        ],
        "list": [
            chain("+", lists), node("list", "", ints, ints, ints), node("macro", "map", lists, ints, bound="a"),
            node("macro", "map", lists, bools, ints, bound="a"), node("macro", "filter", lists, bools, bound="a"),
            node("macro", "map", words, ints, bound="b"),
            node("list", "", st.one_of(ints, sensible("double", 0)), ints),
        ],
        "words": [
            node("list", "", texts, texts), node("method", "split", texts, texts),
            node("macro", "map", words, texts, bound="b"), node("method", "split", texts, texts, ints),
            node("macro", "filter", words, bools, bound="b"),
        ],
    }  # fmt: skip
    return st.one_of(SIMPLE[kind], *choices[kind])


def constant(value: Value) -> Node:
    """Make the node of a literal."""
    return Node("constant", 1, constant=value)


def leaf(*sources: str) -> st.SearchStrategy[Node]:
    """Choose one of these small expressions."""
    return st.sampled_from([parse(source) for source in sources])


SIMPLE: dict[str, st.SearchStrategy[Node]] = {
    "int": numbers.map(constant) | leaf("a", "size(c)", "d.k[1]"),
    "double": doubles.map(constant) | leaf("e", "c[1]"),
    "string": strings.map(constant) | leaf("b", "c[2]", "'12'"),
    "bool": leaf("true", "false", "f", "1 / 0 == 1", "unknown", "a > 2"),
    "list": leaf("[0, 1, 2]", "[]", "d.k", "[a, 3]"),
    "words": leaf("['a', 'b1']", "b.split(',')", "[b]", "[]"),
    "key": leaf("'k'", "'if'", "b"),
}
well_formed = st.sampled_from(["int", "double", "string", "bool", "list", "words"]).flatmap(sensible)
any_tree = trees | well_formed
TOKENS = ["a", "c", "d", ".k", "size(", "x", ".map(x,", ".exists(x,", "has(", "(", ")", "[", "]", "{", "}", ",", ":",
          "?", "&&", "||", "!", "-", "+", "*", "/", "%", "<", "==", " in ", "1", "2.5", "'s'", '"', "'", "\\", "null",
          "true", "${", "$${", "\n", "//", "u", "0x", "e", "r'", "'''"]  # fmt: skip
token_texts = st.lists(st.sampled_from(TOKENS), max_size=14).map("".join)


@given(st.one_of(st.text(), st.text(alphabet=st.characters()), token_texts))
@settings(max_examples=600, deadline=None)
def test_any_text_gives_a_value_or_one_of_the_two_errors(source: str) -> None:
    for make in (Expression, Template):
        raised: ExpressionError | EvaluationError | None = None
        try:
            make(source).evaluate(VARIABLES)
        except (ExpressionError, EvaluationError) as error:
            raised = error
        if raised is not None:
            assert raised.source == source
            assert 1 <= raised.column <= len(source) + 1


@given(any_tree)
@settings(max_examples=500, deadline=None)
def test_parse_of_print_is_the_tree(tree: Node) -> None:
    assert outline(parse(printed(tree))) == outline(tree)


@given(any_tree)
@settings(max_examples=500, deadline=None)
def test_any_tree_has_a_value_or_an_evaluation_error(tree: Node) -> None:
    source = printed(tree)
    expression = Expression(source)
    assert expression.names <= set(NAMES)
    first = outcome(expression)
    assert first == outcome(expression)  # nothing is left over from an evaluation
    if expression.names <= set(VARIABLES):
        read = {name: VARIABLES[name] for name in expression.names}
        assert first == outcome(expression, read)  # names is all that it reads


@given(any_tree, st.integers(0, 60))
@settings(max_examples=300, deadline=None)
def test_fewer_steps_give_the_same_or_an_error(tree: Node, steps: int) -> None:
    expression = Expression(printed(tree))
    limited = outcome(expression, steps_max=steps)
    if "too many steps" not in limited[1]:
        assert limited == outcome(expression)


@given(any_tree)
@settings(max_examples=200, deadline=None)
def test_a_template_holds_any_expression(tree: Node) -> None:
    source = printed(tree)
    template = Template("${" + source + "}")
    assert template.names == Expression(source).names
    assert outcome(template)[0] == outcome(Expression(source))[0]
    try:
        text = template.evaluate_text(VARIABLES)
    except EvaluationError:
        return
    assert Template("<${" + source + "}>$${").evaluate(VARIABLES) == f"<{text}>${{"


def outcome(expression: Expression | Template, names: dict[str, Value] = VARIABLES, **bounds: int) -> tuple[str, str]:
    """Give the value with its type, or the error's sentence."""
    try:
        return "value", repr(expression.evaluate(names, **bounds))
    except EvaluationError as error:
        return "error", error.message


# ---------------------------------------------------------------- the oracle: CEL's own implementation in C++


@pytest.fixture(scope="module")
def oracle() -> Any:
    """An environment of the reference implementation that knows our variables."""
    cel = pytest.importorskip("cel_expr_python.cel", reason="cel-expr-python is not installed")
    ext_strings = pytest.importorskip("cel_expr_python.ext.ext_strings")
    variables = dict.fromkeys(NAMES, cel.Type.DYN)
    return cel.NewEnv(variables=variables, extensions=[ext_strings.ExtStrings()])


def asked(oracle: Any, source: str, names: dict[str, Value] = VARIABLES) -> tuple[str, str]:
    """Give the oracle's value, or that there is an error."""
    value = oracle.compile(source, disable_check=True).eval(data=names)
    return ("error", "") if value.type().name() == "ERROR" else ("value", repr(value.plain_value()))


def departs(source: str) -> bool:
    """Tell whether a text touches one of the places where we mean to differ (docs/adr/0004-expressions.md)."""
    has_doubles = bool(re.search(r"[0-9]\.[0-9]|e[-+]?[0-9]|\be\b|\bc\b|double\(", source))
    return (
        (has_doubles and ("/" in source or "*" in source or "string(" in source))  # infinity; how doubles are written
        or ("double(" in source and bool(re.search(r"\d{16}", source)))  # it compares ints near 2**63 as doubles
        or bool(re.search(r"([!-])(\s|//[^\n]*\n)*\1", source))  # it drops pairs of signs, whatever they stand before
        or bool(re.search(r"substring\(.*,", source))  # it refuses an end that is the string's own end
    )


@given(tree=any_tree)
@settings(max_examples=1_000, deadline=None)
def test_oracle_agrees_on_any_tree(oracle: Any, tree: Node) -> None:
    source = printed(tree)
    assume(not departs(source))
    kind, value = outcome(Expression(source))
    assert (kind, value if kind == "value" else "") == asked(oracle, source)


@given(source=token_texts)
@settings(max_examples=1_000, deadline=None)
def test_oracle_reads_what_we_read(oracle: Any, source: str) -> None:
    try:
        expression = Expression(source)
    except ExpressionError:
        return  # we read a part of the language
    assume(not departs(source))
    kind, value = outcome(expression)
    assert (kind, value if kind == "value" else "") == asked(oracle, source)


@pytest.mark.parametrize("word", sorted(RESERVED))
def test_oracle_reserves_the_same_words(oracle: Any, word: str) -> None:
    if word in ("true", "false", "null"):
        assert asked(oracle, word) == ("value", repr(Expression(word).evaluate({})))
        return
    with pytest.raises(RuntimeError):
        oracle.compile(word, disable_check=True)
    with pytest.raises(ExpressionError):
        Expression(word)
