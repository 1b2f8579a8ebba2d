"""Texts with expressions in them: what is cut where, what is written how, and the columns of errors.

Tests: engine/model/expression.py
"""

import copy
import pickle

import pytest

from engine.model.expression import EvaluationError, ExpressionError, Template, Value

NAMES: dict[str, Value] = {
    "year": 2015,
    "name": "héron",
    "share": 0.5,
    "flag": True,
    "nothing": None,
    "rows": [1, "a", None, {"k": [True, 1.5]}],
    "big": "a" * 600_000,
}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("", ""),
        ("plain } text { $ $x $$ $}", "plain } text { $ $x $$ $}"),
        ("report-${year}.csv", "report-2015.csv"),
        ("${year}${name}", "2015héron"),
        (" ${year}", " 2015"),
        ("$${year}", "${year}"),
        ("a $${ ${year} $${b}", "a ${ 2015 ${b}"),
        ("$$${year}", "$${year}"),
        ("${'$'}${year}", "$2015"),
        ("$${${year}}", "${2015}"),
        ("${ {'a': '}'}.a }|${'}' + \"}\"}", "}|}}"),
        ("${{'a': {'b': year}}['a'].b}!", "2015!"),
        ("${year // }\n}!", "2015!"),
        ("${year\n + 1}!", "2016!"),
        ("<${flag}|${nothing}|${share}|${-year}|${1.0}|${1e300}>", "<true||0.5|-2015|1.0|1e+300>"),
        ("<${rows}>", '<[1,"a",null,{"k":[true,1.5]}]>'),
        ("<${{'b': 1, 'a': 'é\"'}}>", '<{"b":1,"a":"é\\""}>'),
    ],
)
def test_text(source: str, text: str) -> None:
    template = Template(source)
    assert template.evaluate(NAMES) == text
    assert template.evaluate_text(NAMES) == text


@pytest.mark.parametrize(
    ("source", "value", "text"),
    [
        ("${year}", 2015, "2015"),
        ("${ rows }", NAMES["rows"], '[1,"a",null,{"k":[true,1.5]}]'),
        ("${nothing}", None, ""),
        ("${flag}", True, "true"),
        ("${share + 0.5}", 1.0, "1.0"),
        ("${name}", "héron", "héron"),
    ],
)
def test_a_single_expression_keeps_its_type(source: str, value: Value, text: str) -> None:
    template = Template(source)
    assert repr(template.evaluate(NAMES)) == repr(value)
    assert template.evaluate_text(NAMES) == text


@pytest.mark.parametrize(
    ("source", "names", "is_literal"),
    [
        ("", set(), True),
        ("plain $x", set(), True),
        ("$${a}", set(), True),
        ("${1}", set(), False),
        ("${a} and ${b.c + a}", {"a", "b"}, False),
        ("${a.map(x, x + y)}", {"a", "y"}, False),
    ],
)
def test_names(source: str, names: set[str], is_literal: bool) -> None:
    template = Template(source)
    assert template.names == names
    assert template.is_literal == is_literal


@pytest.mark.parametrize(
    ("source", "column", "message"),
    [
        ("${}", 3, "the expression is empty"),
        ("ab${ 1 + }", 10, "expected a value, found the end"),
        ("ab${1 +", 3, "the ${ that begins here is never closed by }"),
        ("${a} ${b", 6, "the ${ that begins here is never closed by }"),
        ("${ {'a': 1 }", 1, "the ${ that begins here is never closed by }"),
        ("${it's}", 5, "the string that begins here is never closed"),
        ("${a} ${b = c}", 10, "the character '=' has no meaning here; write == to compare"),
        ("${a} ${siez(b)}", 8, "there is no function siez(), did you mean 'size'?"),
        ("x \udc00", 3, "half a surrogate pair is not a character"),
        ("${" + "(" * 60 + "}", 53, "the expression is nested more than 50 deep"),
        ("${" + "a" * 10_001 + "}", 3, "the expression is longer than 10000 characters"),
        ("a" * 100_001, 1, "the text is longer than 100000 characters"),
    ],
)
def test_expression_error(source: str, column: int, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Template(source)
    assert (caught.value.column, caught.value.message, caught.value.source) == (column, message, source)


@pytest.mark.parametrize(
    ("source", "column", "message"),
    [
        ("${nope}", 3, "there is no variable 'nope'"),
        ("of ${ yaer }", 7, "there is no variable 'yaer', did you mean 'year'?"),
        ("${year} ${1 + name}", 13, "'+' does not take an int and a string; convert with string()"),
        ("${big}${big}", 9, "the text is longer than 1048576 characters"),
        ("${share / 0.0}", 9, "this divides by zero"),
        ("x${[big, big]}", 4, "the result is larger than 1048576 characters and values"),
    ],
)
def test_evaluation_error(source: str, column: int, message: str) -> None:
    template = Template(source)
    for evaluate in (template.evaluate, template.evaluate_text):
        with pytest.raises(EvaluationError) as caught:
            evaluate(NAMES)
        assert (caught.value.column, caught.value.message, caught.value.source) == (column, message, source)


def test_a_variable_that_is_too_large_for_a_text_is_refused_only_there() -> None:
    names: dict[str, Value] = {"rows": [["a" * 1_000] * 1_000, ["b" * 1_000] * 1_000]}
    template = Template("${rows}")
    assert template.evaluate(names) is names["rows"]
    with pytest.raises(EvaluationError, match="larger than 1048576"):
        template.evaluate_text(names)
    foreign: dict[str, Value] = {"rows": [{1, 2}]}  # type: ignore[list-item]
    with pytest.raises(EvaluationError, match="a Python set, which is not a type of expressions"):
        template.evaluate_text(foreign)


def test_all_expressions_of_a_text_share_the_steps() -> None:
    names: dict[str, Value] = {"rows": [1] * 1_000}
    part = "${rows.all(r, r == 1)}"  # 3,005 steps
    assert Template(part * 3).evaluate_text(names) == "truetruetrue"
    with pytest.raises(EvaluationError, match="too many steps"):
        Template(part * 4).evaluate_text(names)


def test_python_object() -> None:
    template = Template("a ${b}")
    assert template == Template("a ${b}") != Template("a ${c}")
    assert len({template, Template("a ${b}")}) == 1
    assert copy.deepcopy(template) is template
    assert pickle.loads(pickle.dumps(template)).evaluate({"b": 1}) == "a 1"
    assert (str(template), repr(template)) == ("a ${b}", "Template('a ${b}')")
    with pytest.raises(AttributeError):
        template.source = "b"
