"""The bounds of expressions, each at its edge and one beyond: length, nesting, steps, sizes.

Tests: engine/model/expression_syntax.py, engine/model/expression_program.py, engine/model/expression_values.py
"""

import copy

import pytest

from engine.model.expression import EvaluationError, Expression, ExpressionError, Value


def test_source_characters() -> None:
    assert Expression("1" + " " * 9_999).evaluate({}) == 1
    with pytest.raises(ExpressionError, match="longer than 10000 characters"):
        Expression("1" + " " * 10_000)


@pytest.mark.parametrize(
    ("opening", "closing"),
    [("(", ")"), ("[", "]"), ("{'a':", "}"), ("size(", ")"), ("[1].map(x,", ")"), ("x[", "]"), ("1+(2*", ")"),
     ("true?1:", ""), ("!(", ")"), ("true||false&&1==1+1*(", ")")],
)  # fmt: skip
def test_nesting(opening: str, closing: str) -> None:
    for levels in (51, 400):
        with pytest.raises(ExpressionError, match="nested more than 50 deep"):
            Expression(opening * levels + "1" + closing * levels)
    accepted = 9 if opening.startswith("true||") else 24
    Expression(opening * accepted + "1" + closing * accepted)


@pytest.mark.parametrize(
    "source", ["(" * 10_000, "(" * 4_999 + "1" + ")" * 4_999, "!" * 9_999 + "a", "-" * 9_999 + "a"]
)
def test_hostile_nesting(source: str) -> None:
    with pytest.raises(ExpressionError, match="nested more than 50 deep"):
        Expression(source)


@pytest.mark.parametrize("suffix", [".a", "[0]", ".trim()", ".map(x,x)", " == 1"])
def test_chains_to_the_right_are_nesting_too(suffix: str) -> None:
    Expression("a" + suffix * 49)
    with pytest.raises(ExpressionError, match="nested more than 50 deep"):
        Expression("a" + suffix * 50)


@pytest.mark.parametrize(("operator", "value"), [("+", 1_500), ("&&", None), ("||", None), ("*", 1)])
def test_a_run_of_one_operator_is_not_deep(operator: str, value: Value) -> None:
    source = operator.join(["1" if value else "true"] * 1_500)
    assert Expression(source).evaluate({}) == (value or True)


def test_steps() -> None:
    names: dict[str, Value] = {"rows": [0] * 1_000}
    expression = Expression("rows.exists(r, r == 1)")  # 5 nodes, and 3 for each item
    assert expression.evaluate(names, steps_max=3_005) is False
    with pytest.raises(EvaluationError) as caught:
        expression.evaluate(names, steps_max=3_004)
    assert (caught.value.column, caught.value.message) == (6, "the evaluation takes too many steps")


def test_steps_multiply_in_nested_loops() -> None:
    names: dict[str, Value] = {"l": list(range(100))}
    with pytest.raises(EvaluationError, match="too many steps"):
        Expression("l.all(a, l.all(b, l.all(c, l.all(d, a + b + c + d >= 0))))").evaluate(names)


@pytest.mark.parametrize("source", ["X || true", "true && X ? 1 : 2", "[1].exists(i, X)", "[1, 2].all(i, X && false)"])
def test_nothing_absorbs_the_end_of_the_steps(source: str) -> None:
    names: dict[str, Value] = {"l": [1] * 3_000}
    with pytest.raises(EvaluationError, match="too many steps"):
        Expression(source.replace("X", "l.all(a, l.all(b, a == b))")).evaluate(names)


@pytest.mark.parametrize(
    "source",
    [
        "l == l2",
        "7 in l",
        "s.contains('b')",
        "s + s == s",
        "s.split('b')",
        "s < s2",
        "l.join()",
        "s.replace('b', 'c')",
    ],
)
def test_long_values_cost_steps(source: str) -> None:
    names: dict[str, Value] = {"l": ["x"] * 9_000, "l2": ["x"] * 9_000, "s": "a" * 500_000, "s2": "a" * 500_000}
    Expression(source).evaluate(names)
    with pytest.raises(EvaluationError, match="too many steps"):
        Expression(source).evaluate(names, steps_max=300)


def test_string_characters() -> None:
    half = "a" * 524_288
    whole = Expression("s + s").evaluate({"s": half})
    assert len(whole) == 1_048_576  # type: ignore[arg-type]
    names: dict[str, Value] = {"s": half, "l": [half, half]}
    for source in ("s + s + 'a'", "l.join('-')", "s.replace('a', 'bbb')"):
        with pytest.raises(EvaluationError, match="a string is longer than 1048576 characters"):
            Expression(source).evaluate(names)


def test_list_items() -> None:
    names: dict[str, Value] = {"l": [0] * 5_000, "m": [0] * 10_001, "s": "a" * 10_001}
    assert len(Expression("l + l").evaluate(names)) == 10_000  # type: ignore[arg-type]
    for source in ("l + l + [1]", "s.split('')", "s.split('a')", "m.map(x, x)", "m.filter(x, true)"):
        with pytest.raises(EvaluationError, match="a list is longer than 10000 items"):
            Expression(source).evaluate(names, steps_max=100_000)


def test_a_small_tree_of_shared_parts_does_not_unfold() -> None:
    with pytest.raises(EvaluationError, match="the result is larger than"):
        Expression("[1]" + ".map(x, [x, x])" * 21).evaluate({})
    with pytest.raises(EvaluationError, match="the result is larger than"):
        Expression("l.map(x, s)").evaluate({"l": [1] * 100, "s": "a" * 100_000})
    with pytest.raises(EvaluationError, match="too many steps"):
        Expression("[1]" + ".map(x, [x, x])" * 20 + " == [1]" + ".map(x, [x, x])" * 20).evaluate({})


def test_result_nesting() -> None:
    deep: Value = 1
    for _ in range(50):
        deep = [deep]
    assert Expression("[d][0]").evaluate({"d": deep}) is deep
    with pytest.raises(EvaluationError, match="the result is nested more than 50 deep"):
        Expression("[d]").evaluate({"d": deep})
    with pytest.raises(EvaluationError, match="compared are nested more than 50 deep"):
        Expression("[d] == [d2]").evaluate({"d": deep, "d2": copy.deepcopy(deep)})
