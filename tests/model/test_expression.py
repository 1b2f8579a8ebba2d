"""What expressions mean: values, errors with their columns, bounds, and the class Expression.

Tests: engine/model/expression.py, engine/model/expression_values.py, engine/model/expression_operators.py
Tests: engine/model/expression_functions.py, engine/model/expression_loops.py, engine/model/expression_program.py
Tests: engine/model/expression_syntax.py
"""

import copy
import datetime as dt
import pickle
from collections.abc import Iterator, Mapping

import pytest

from engine.model.expression import EvaluationError, Expression, ExpressionError, Value

INT_MAX = 9223372036854775807
VARIABLES: dict[str, Value] = {
    "return_code": 0,
    "rows": [1, 2, 3, 4],
    "name": "héron",
    "order": {"id": "o-1", "size": 3, "if": True, "tags": ["a", "b"], "none": None},
    "half": 0.5,
    "flag": True,
    "nothing": None,
    "max": INT_MAX,
}

VALUES: list[tuple[str, Value]] = [
    # literals
    ("1", 1), ("0x1F", 31), ("-0x1F", -31), ("007", 7), (".5", 0.5), ("1.5e3", 1500.0), ("1e-1", 0.1),
    ("true", True), ("false", False), ("null", None), ("'a'", "a"), ('"a\\n"', "a\n"), ("r'a\\n'", "a\\n"),
    ("'''it's\ntwo'''", "it's\ntwo"), ('"""say "x" now"""', 'say "x" now'), ("r'''a\\'b'''", "a\\'b"), ("''", ""),
    ("'\\u00e9\\x41\\101\\U0001F600\\?\\`\\\\'", "éAA😀?`\\"), ("''''''", ""),
    ("-9223372036854775808", -INT_MAX - 1), ("9223372036854775807", INT_MAX), ("[]", []), ("{}", {}),
    ("[1, 'a', [true]]", [1, "a", [True]]), ("[1,]", [1]), ("{'a': 1, 'b': {'c': 2},}", {"a": 1, "b": {"c": 2}}),
    ("1 // one\n + // and\n 1", 2),
    # arithmetic
    ("1 + 2 * 3", 7), ("(1 + 2) * 3", 9), ("7 - 2 - 1", 4), ("-7 / 2", -3), ("7 / -2", -3), ("-7 % 2", -1),
    ("7 % -2", 1), ("8 / 2 / 2", 2), ("2.0 * -half", -1.0),
    ("0.5 + 0.25", 0.75), ("1.0 / 4.0", 0.25), ("1.5 - 1.0", 0.5), ("--1", 1), ("- 1", -1), ("-half", -0.5),
    ("'a' + 'b' + 'c'", "abc"), ("[1] + [2, 3]", [1, 2, 3]), ("max - 1 + 1", INT_MAX),
    # order and equality
    ("1 < 2", True), ("2 <= 2", True), ("3 > 4", False), ("3 >= 4", False), ("1 < 1.5", True), ("2.0 >= 2", True),
    ("max > 9223372036854775806.0", False), ("max < 9223372036854775808.0", True), ("'a' < 'b'", True),
    ("'Z' < 'a'", True), ("false < true", True), ("1 == 1.0", True), ("1 == true", False), ("0 == false", False),
    ("1 != '1'", True), ("null == null", True), ("nothing == 0", False), ("[1, 2] == [1.0, 2]", True),
    ("[1] == [true]", False), ("[1] == [1, 2]", False), ("{'a': 1, 'b': 2} == {'b': 2, 'a': 1.0}", True),
    ("{'a': 1} == {'b': 1}", False), ("{'a': 1} == {'a': 1, 'b': 1}", False), ("[] == {}", False),
    ("max == 9223372036854775807.0", False),
    # membership
    ("2 in rows", True), ("2.0 in rows", True), ("9 in rows", False), ("true in [1]", False), ("'id' in order", True),
    ("'nope' in order", False), ("1 in order", False), ("!(9 in rows)", True), ("[1] in [[1]]", True),
    # logic and choice
    ("true && false", False), ("true || false", True), ("!true", False), ("!!true", True), ("true ? 1 : 2", 1),
    ("false ? 1 : true ? 2 : 3", 2), ("false ? 1 / 0 : 2", 2), ("flag && return_code == 0 && size(rows) > 3", True),
    ("true || 1 / 0 > 0", True), ("1 / 0 > 0 || true", True), ("1 / 0 > 0 && false", False), ("nope || true", True),
    ("false && nope", False), ("nope && false", False), ("1 || true", True), ("'a' && false", False),
    ("false || true && false", False), ("1 + 1 == 2 && 2 < 3 || false", True), ("1 < 2 == true", True),
    # fields and indexes
    ("order.id", "o-1"), ("order['id']", "o-1"), ("order.tags[1]", "b"), ("order.if", True), ("rows[0]", 1),
    ("rows[1.0]", 2), ("[[1, 2], [3]][0][1]", 2), ("{'a': {'b': 1}}.a.b", 1), ("has(order.id)", True),
    ("has(order.nope)", False), ("has(order.none)", True), ("has({'a': {'b': 1}}.a.b)", True), ("order\n . \n size", 3),
    # macros
    ("rows.exists(r, r > 3)", True), ("rows.exists(r, r > 4)", False), ("[].exists(r, r)", False),
    ("rows.all(r, r > 0)", True), ("rows.all(r, r > 1)", False), ("[].all(r, r)", True),
    ("rows.exists_one(r, r == 2)", True), ("rows.exists_one(r, r > 2)", False), ("[].exists_one(r, r)", False),
    ("rows.filter(r, r % 2 == 0)", [2, 4]), ("rows.map(r, r * r)", [1, 4, 9, 16]), ("rows.map(r, r > 2, -r)", [-3, -4]),
    ("order.all(k, size(k) > 0)", True), ("{'b': 1, 'a': 2}.map(k, k)", ["b", "a"]),
    ("{'a': 1}.exists(k, k == 'a')", True),
    ("[0, 1].exists(i, 1 / i > 0)", True), ("[0, 1].all(i, 1 / i > 5)", False), ("[1, 2].exists(i, i == 2 || i)", True),
    ("rows.map(r, rows.filter(s, s < r))", [[], [1], [1, 2], [1, 2, 3]]), ("rows.map(rows, rows + 1)", [2, 3, 4, 5]),
    ("[[1, 2], [3]].map(r, r.map(r, r + 1))", [[2, 3], [4]]), ("[1].map(x, [2].map(y, x + y))[0][0]", 3),
    ("[1].map(x, x)[0] + [2].map(y, y)[0]", 3), ("{'map': 1}.map", 1),
    # functions
    ("size(name)", 5), ("name.size()", 5), ("size(rows)", 4), ("size({'a': 1})", 1), ("'😀'.size()", 1),
    ("name.startsWith('hé')", True), ("name.endsWith('on')", True), ("name.contains('ér')", True),
    ("'abc'.contains('')", True), ("int('12')", 12), ("int('-0012')", -12), ("int('+5')", 5), ("int(1.9)", 1),
    ("int(-1.9)", -1), ("int(true)", 1), ("int(7)", 7), ("double('1e3')", 1000.0), ("double(' .5'.trim())", 0.5),
    ("double(2)", 2.0), ("double(half)", 0.5), ("double('-5.')", -5.0), ("string(12)", "12"), ("string(-0.5)", "-0.5"),
    ("string(1.0)", "1.0"), ("string(true)", "true"), ("string('a')", "a"), ("bool('true')", True),
    ("bool('0')", False),
    ("bool(flag)", True), ("'aBÉ'.lowerAscii()", "abÉ"), ("'aBé'.upperAscii()", "ABé"), ("' \\ta\\u00a0'.trim()", "a"),
    ("'\\x1ca'.trim()", "\x1ca"), ("'a,b,c'.split(',')", ["a", "b", "c"]), ("'a,b,c'.split(',', 2)", ["a", "b,c"]),
    ("'a,b'.split(',', 0)", []), ("'a,b'.split(',', 1)", ["a,b"]), ("'abc'.split('')", ["a", "b", "c"]),
    ("'abc'.split('', 2)", ["a", "bc"]), ("'abc'.split('', 9)", ["a", "b", "c"]), ("''.split(',')", [""]),
    ("''.split('')", [""]), ("'aaa'.replace('a', 'b')", "bbb"), ("'aaa'.replace('a', 'b', 2)", "bba"),
    ("'aaa'.replace('a', '', 0)", "aaa"), ("'ab'.replace('', '-')", "-a-b-"), ("['a', 'b'].join()", "ab"),
    ("['a', 'b'].join(', ')", "a, b"), ("[].join('x')", ""), ("'abc'.substring(1)", "bc"),
    ("'abc'.substring(1, 2)", "b"), ("'abc'.substring(3)", ""), ("'abc'.substring(0, 0)", ""),
]  # fmt: skip

REFUSED_BY_VALUE: list[tuple[str, int, str]] = [
    ("nope", 1, "there is no variable 'nope'"),
    ("1 + retrun_code", 5, "there is no variable 'retrun_code', did you mean 'return_code'?"),
    ("order.sise", 7, "the map has no key 'sise', did you mean 'size'?"),
    ("order['sise']", 6, "the map has no key 'sise', did you mean 'size'?"),
    ("order['i' + 'x']", 6, "the map has no such key"),
    ("rows.id", 6, "only a map has fields, this is a list"),
    ("has(rows.id)", 1, "has() looks into a map, this is a list"),
    ("rows[4]", 5, "the index 4 is outside a list of 4"),
    ("rows[-1]", 5, "the index -1 is outside a list of 4"),
    ("rows[0.5]", 5, "the index of a list is an int, not a double"),
    ("rows[true]", 5, "the index of a list is an int, not a bool"),
    ("order[1]", 6, "the key of a map is a string, not an int"),
    ("name[0]", 5, "only a list or a map has an index, this is a string"),
    ("{1: 2}", 2, "the key of a map is a string, not an int"),
    ("{'a': 1, 'a': 2}", 10, "the map has this key twice"),
    ("max + 1", 5, "the result is an integer beyond 64 bits"),
    ("-max - 2", 6, "the result is an integer beyond 64 bits"),
    ("max * max", 5, "the result is an integer beyond 64 bits"),
    ("(-max - 1) / -1", 12, "the result is an integer beyond 64 bits"),
    ("(-max - 1) % -1", 12, "the result is an integer beyond 64 bits"),
    ("-(-max - 1)", 1, "the result is an integer beyond 64 bits"),
    ("1e308 * 10.0", 7, "the number is infinite or not a number"),
    ("1 / 0", 3, "this divides by zero"),
    ("1 % 0", 3, "this divides by zero"),
    ("1.0 / 0.0", 5, "this divides by zero"),
    ("1 + 1.0", 3, "'+' does not take an int and a double; convert one with int() or double()"),
    ("1 + 2 + 'a'", 7, "'+' does not take an int and a string; convert with string()"),
    ("1 - true", 3, "'-' does not take an int and a bool"),
    ("flag + 1", 6, "'+' does not take a bool and an int"),
    ("'a' * 2", 5, "'*' does not take a string and an int"),
    ("1.5 % 1.0", 5, "'%' does not take a double and a double"),
    ("'a' < 1", 5, "'<' does not take a string and an int"),
    ("[1] >= [1]", 5, "'>=' does not take a list and a list"),
    ("null < null", 6, "'<' does not take null and null"),
    ("1 < 2 < 3", 7, "'<' does not take a bool and an int"),
    ("'a' in 'ab'", 5, "'in' looks into a list or a map; write text.contains(part) for a string"),
    ("1 in 1", 3, "'in' needs a list or a map, not an int"),
    ("null in order", 6, "the key of a map is a string, not null"),
    ("!1", 1, "'!' needs a bool, not an int"),
    ("-'a'", 1, "'-' needs a number, not a string"),
    ("1 ? 2 : 3", 3, "the condition before '?' is an int, not a bool"),
    ("1 || false", 1, "'||' needs bools, not an int"),
    ("true && 'a'", 9, "'&&' needs bools, not a string"),
    ("nope || false", 1, "there is no variable 'nope'"),
    ("rows.exists(r, r)", 16, "the condition of exists() is an int, not a bool"),
    ("rows.filter(r, r)", 16, "the condition of filter() is an int, not a bool"),
    ("[0, 1].exists_one(r, 1 / r > 0)", 24, "this divides by zero"),
    ("[0].all(r, 1 / r > 0)", 14, "this divides by zero"),
    ("'abc'.map(c, c)", 7, "map() needs a list or a map, not a string"),
    ("size(1)", 1, "size() needs a string, a list or a map, not an int"),
    ("1 + size(null)", 5, "size() needs a string, a list or a map, not null"),
    ("int('1.5')", 1, "int() needs a string of decimal digits"),
    ("int('١')", 1, "int() needs a string of decimal digits"),
    ("int('9223372036854775808')", 1, "the result is an integer beyond 64 bits"),
    ("int(1e30)", 1, "int() cannot hold a number beyond 64 bits"),
    ("int(null)", 1, "int() needs a string, a number or a bool, not null"),
    ("double('nan')", 1, "double() needs a string with a decimal number"),
    ("double('1_0')", 1, "double() needs a string with a decimal number"),
    ("double('1e999')", 1, "the number is infinite or not a number"),
    ("double(true)", 1, "double() needs a string or a number, not a bool"),
    ("string(rows)", 1, "string() needs a string, a number or a bool, not a list"),
    ("bool('yes')", 1, "bool() needs 'true' or 'false'"),
    ("bool(1)", 1, "bool() needs a string or a bool, not an int"),
    ("name.startsWith(1)", 6, "startsWith() needs a string, not an int"),
    ("rows.contains(1)", 6, "contains() needs a string, not an int"),
    ("'a'.split(',', '1')", 5, "split() needs an int, not a string"),
    ("['a', 1].join()", 10, "join() needs a string, not an int"),
    ("'a'.join()", 5, "join() needs a list, not a string"),
    ("'abc'.substring(2, 1)", 7, "substring() from 2 to 1 is outside a string of 3 characters"),
    ("'abc'.substring(4)", 7, "substring() from 4 to 3 is outside a string of 3 characters"),
    ("'abc'.substring(-1)", 7, "substring() from -1 to 3 is outside a string of 3 characters"),
]

REFUSED_AT_ONCE: list[tuple[str, int, str]] = [
    ("", 1, "the expression is empty"),
    (" // nothing", 12, "the expression is empty"),
    ("1 +", 4, "expected a value, found the end"),
    ("1 + + 2", 5, "expected a value, found '+'"),
    ("a b", 3, "expected an operator or the end, found 'b'"),
    ("a and b", 3, "expected an operator or the end, found 'and'; write && for 'and'"),
    ("not a", 5, "expected an operator or the end, found 'a'; write ! for 'not'"),
    ("a = 1", 3, "the character '=' has no meaning here; write == to compare"),
    ("a & b", 3, "the character '&' has no meaning here; write && for 'and'"),
    ("a ; b", 3, "the character ';' has no meaning here"),
    ("é", 1, "the character 'é' has no meaning here"),
    ("if", 1, "expected a value, found 'if'; write condition ? one : other for 'if'"),
    ("package.x", 1, "expected a value, found 'package'; 'package' is a reserved word"),
    ("x.in", 3, "expected a field or method after '.', found 'in'"),
    ("x.'a'", 3, "expected a field or method after '.', found a string"),
    ("(1", 3, "expected ')', found the end"),
    ("1)", 2, "expected an operator or the end, found ')'"),
    ("[1, 2", 6, "expected ',' or ']', found the end"),
    ("[,]", 2, "expected a value, found ','"),
    ("{'a' 1}", 6, "expected ':', found '1'"),
    ("f(1,)", 5, "expected a value, found ')'"),
    ("a ? b", 6, "expected ':', found the end"),
    ("a ? b ? c : d : e", 7, "expected ':', found '?'"),
    ("!-1", 2, "expected a value, found '-'"),
    ("'abc", 1, "the string that begins here is never closed"),
    ("'a\nb'", 1, "the string that begins here is never closed"),
    ("1 + '''a''", 5, "the string that begins here is never closed"),
    ("'a\\qb'", 3, "a string cannot hold \\q; write \\\\ for one backslash"),
    ("'\\ud800'", 2, "a string cannot hold \\ud800; write \\\\ for one backslash"),
    ("'''\\U00110000'''", 4, "a string cannot hold \\U00110000; write \\\\ for one backslash"),
    ("'\ud800'", 2, "half a surrogate pair is not a character"),
    ("b'a'", 1, "byte strings are not supported"),
    ("1 + 1u", 5, "unsigned numbers are not supported"),
    ("9223372036854775808", 1, "the number is beyond 64 bits"),
    ("--9223372036854775808", 3, "the number is beyond 64 bits"),
    ("-9223372036854775809", 2, "the number is beyond 64 bits"),
    ("9" * 5000, 1, "the number is beyond 64 bits"),
    ("0x8000000000000000", 1, "the number is beyond 64 bits"),
    ("1e999", 1, "the number is too large for a double"),
    ("siez(x)", 1, "there is no function siez(), did you mean 'size'?"),
    ("x.startswith('a')", 3, "there is no method startswith(), did you mean 'startsWith'?"),
    ("contains(x, 'a')", 1, "contains() is written text.contains(…)"),
    ("'1'.int()", 5, "int() is written int(value)"),
    ("x.matches('a')", 3, "matches() is left out, because nothing bounds the time of a pattern"),
    ("exists(x, y)", 1, "exists() is written behind a list or map, as in rows.exists(row, …)"),
    ("size()", 1, "size() takes 1 argument, not 0"),
    ("x.replace('a')", 3, "replace() takes 2 or 3 arguments, not 1"),
    ("has(x)", 1, "has() takes one field, as in has(order.name)"),
    ("has(x['a'])", 1, "has() takes one field, as in has(order.name)"),
    ("rows.map(1, 2)", 10, "the first argument of map() is the name of a loop variable"),
    ("rows.map(a.b, 2)", 12, "the first argument of map() is the name of a loop variable"),
    ("rows.map(a)", 6, "map() takes a loop variable and an optional condition and an expression"),
    ("rows.all(a)", 6, "all() takes a loop variable and a condition"),
]  # fmt: skip


def same(left: Value, right: Value) -> bool:
    """Tell whether two values are equal with their types, where Python takes 1, 1.0 and True for one."""
    return repr(left) == repr(right)


@pytest.mark.parametrize(("source", "value"), VALUES)
def test_value(source: str, value: Value) -> None:
    assert same(Expression(source).evaluate(VARIABLES), value)


@pytest.mark.parametrize(("source", "column", "message"), REFUSED_BY_VALUE)
def test_evaluation_error(source: str, column: int, message: str) -> None:
    expression = Expression(source)
    with pytest.raises(EvaluationError) as caught:
        expression.evaluate(VARIABLES)
    assert (caught.value.column, caught.value.message) == (column, message)
    assert caught.value.source == source


@pytest.mark.parametrize(("source", "column", "message"), REFUSED_AT_ONCE)
def test_expression_error(source: str, column: int, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression(source)
    assert (caught.value.column, caught.value.message) == (column, message)
    assert caught.value.source == source


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("1", set()),
        ("a + b.c * d['e']", {"a", "b", "d"}),
        ("rows.map(x, x + y)", {"rows", "y"}),
        ("x.map(x, x)", {"x"}),
        ("[1].map(x, x) == x", {"x"}),
        ("a.filter(x, b.exists(y, x == y && z))", {"a", "b", "z"}),
        ("has(a.b) ? size(c) : {'k': d}.k", {"a", "c", "d"}),
        ("true || never_read", {"never_read"}),
    ],
)
def test_names(source: str, names: set[str]) -> None:
    assert Expression(source).names == names


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (2**63, "this is an integer beyond 64 bits"),
        (float("nan"), "the number is infinite or not a number"),
        (float("inf"), "the number is infinite or not a number"),
        ((1, 2), "this is a Python tuple, which is not a type of expressions"),
        (dt.date(2024, 1, 1), "this is a Python date, which is not a type of expressions"),
        (b"bytes", "this is a Python bytes, which is not a type of expressions"),
        (type("Sneaky", (int,), {})(1), "this is a Python Sneaky, which is not a type of expressions"),
    ],
)
def test_foreign_value_is_refused_wherever_it_is_read(value: Value, message: str) -> None:
    for source, column, names in (
        ("1 == x", 6, {"x": value}),
        ("1 == m.x", 8, {"m": {"x": value}}),
        ("1 == m[0]", 7, {"m": [value]}),
        ("m.map(x, 1)", 3, {"m": [value]}),
    ):
        with pytest.raises(EvaluationError) as caught:
            Expression(source).evaluate(names)
        assert (caught.value.column, caught.value.message) == (column, message)


def test_foreign_value_inside_a_built_result_is_refused() -> None:
    with pytest.raises(EvaluationError, match="a Python tuple, which is not"):
        Expression("[m]").evaluate({"m": [(1,)]})  # type: ignore[list-item]
    with pytest.raises(EvaluationError, match="a map has an int as a key"):
        Expression("[m]").evaluate({"m": {1: 2}})  # type: ignore[dict-item]


def test_foreign_values_are_not_compared() -> None:
    names: dict[str, Value] = {"m": [(1,)], "n": [(1,)]}  # type: ignore[list-item]
    with pytest.raises(EvaluationError, match="a Python tuple, which is not"):
        Expression("m == n").evaluate(names)


def test_a_variable_is_given_back_as_it_is() -> None:
    rows: Value = [{"a": 1}] * 20_000
    assert Expression("order.rows").evaluate({"order": {"rows": rows}}) is rows


def test_names_may_be_any_mapping() -> None:
    class Lazy(Mapping[str, Value]):
        def __getitem__(self, name: str) -> Value:
            if name == "row":
                return 7
            raise KeyError(name)

        def __iter__(self) -> Iterator[str]:
            return iter(["row"])

        def __len__(self) -> int:
            return 1

    assert Expression("row + 1").evaluate(Lazy()) == 8
    with pytest.raises(EvaluationError, match="there is no variable 'rows', did you mean 'row'"):
        Expression("rows").evaluate(Lazy())


def test_a_message_shows_no_content_of_a_variable() -> None:
    names: dict[str, Value] = {"secret": "hunter2", "m": {"a": 1}, "rows": ["hunter2"]}
    for source in (
        "int(secret)",
        "m[secret]",
        "secret + 1",
        "bool(secret)",
        "!secret",
        "secret ? 1 : 2",
        "rows.join(1)",
    ):
        with pytest.raises(EvaluationError) as caught:
            Expression(source).evaluate(names)
        assert "hunter2" not in str(caught.value)


def test_evaluate_bool() -> None:
    assert Expression("return_code == 0").evaluate_bool(VARIABLES) is True
    with pytest.raises(EvaluationError) as caught:
        Expression("return_code").evaluate_bool(VARIABLES)
    assert caught.value.message == "a condition must be a bool, this is an int"


class TestObject:
    """Expression as a Python object."""

    def test_equal_and_hashed_by_source(self) -> None:
        assert Expression("1 + 1") == Expression("1 + 1") != Expression("1+1")
        assert len({Expression("a"), Expression("a"), Expression("b")}) == 2
        assert Expression("a") != "a"

    def test_immutable(self) -> None:
        expression = Expression("a")
        for name in ("source", "names", "other"):
            with pytest.raises(AttributeError):
                setattr(expression, name, "b")
        with pytest.raises(AttributeError):
            del expression.source
        assert expression.source == "a"

    def test_copies(self) -> None:
        expression = Expression("a + 1")
        assert copy.copy(expression) is expression
        assert copy.deepcopy([expression])[0] is expression
        assert pickle.loads(pickle.dumps(expression)).evaluate({"a": 1}) == 2

    def test_repr_is_short(self) -> None:
        assert repr(Expression("a == 'b'")) == "Expression(\"a == 'b'\")"
        assert len(repr(Expression("1 + " * 2_000 + "1"))) < 100

    def test_errors_pickle_and_read_well(self) -> None:
        with pytest.raises(ExpressionError) as caught:
            Expression("a +\n  'b' c")
        error = pickle.loads(pickle.dumps(caught.value))
        assert str(error) == "line 2, column 7: expected an operator or the end, found 'c'"
        assert (error.column, error.source) == (11, "a +\n  'b' c")
        with pytest.raises(ExpressionError, match=r"^column 3: expected a value"):
            Expression("1+")

    def test_a_result_is_built_anew_each_time(self) -> None:
        expression = Expression("[1, [2]]")
        first = expression.evaluate({})
        assert type(first) is list
        first.append(3)
        assert expression.evaluate({}) == [1, [2]]

    def test_evaluations_nest(self) -> None:
        expression = Expression("rows.map(r, r + 1)")

        class Nested(dict[str, Value]):
            def __missing__(self, name: str) -> Value:
                return expression.evaluate({"rows": [1, 2]})

        assert expression.evaluate(Nested()) == [3, 4]
