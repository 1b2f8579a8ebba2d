"""JSON from people: RFC 8259 to the letter, and the sentences for what is not.

Tests: engine/documents/json_source.py
"""

import json

import pytest

from engine.documents.json_source import read_json
from engine.documents.node import DocumentError, plain
from engine.documents.scalars import INTEGER_MAX, INTEGER_MIN

BITS = f"64 bits ({INTEGER_MIN} to {INTEGER_MAX})"


def faults_of(text: str) -> list[str]:
    """Read what must be refused and return the lines a person would read, without the file's name."""
    with pytest.raises(DocumentError) as caught:
        read_json(text, "f")
    return [str(fault).removeprefix("f:") for fault in caught.value.faults]


VALID = [
    *("0", "-0", "12", "-1.5", "1e3", "1E+3", "1.5e-3", str(INTEGER_MAX), str(INTEGER_MIN), "-0.0"),
    *('""', '"a b"', '"\\"\\\\\\/\\b\\f\\n\\r\\t"', '"\\u00e9\\u2028"', '"é\u2028\ufeff"', "true", "false", "null"),
    *("[]", "{}", "[ ]", "{ }", "[[], {}]", '{"a":{"b":[1,2]},"":null}', " \t\r\n[1 ,\n2 ] \n", '{"<<": 1}'),
    *(
        '"\\ud83d\\ude00"',
        '"\\uD83D\\uDE00x"',
        '"\\ud800\\udc00"',
        '"\\udbff\\udfff"',
        '"a\\ud83d\\ude00\\ud83d\\ude00b"',
    ),
]


@pytest.mark.parametrize("text", VALID)
def test_valid_documents(text: str) -> None:
    value = plain(read_json(text, "f"))
    assert value == json.loads(text)
    assert repr(value) == repr(json.loads(text))


MISTAKES = [
    ("[1,]", "1:4: [1]: A comma stands before this ']': remove the comma."),
    ('{"a": 1,\n}', "2:1: A comma stands before this '}': remove the comma."),
    ('{"a": }', "1:7: a: A value is missing before this '}'."),
    ("]", "1:1: A value is missing before this ']'."),
    ("[,1]", "1:2: [0]: A value is expected here."),
    ("[1 2]", "1:4: [1]: A comma is missing before this, or the end of the list opened at line 1, column 1."),
    ('{"a": 1 "b": 2}', "1:9: A comma is missing before this, or the end of the mapping opened at line 1, column 1."),
    ('{"a" 1}', "1:6: a: A ':' must stand between the key 'a' and its value."),
    ('{"a", 1}', "1:5: a: A ':' must stand between the key 'a' and its value."),
    ("{a: 1}", "1:2: A key 'a' must stand in double quotes here."),
    ("{1: 1}", "1:2: A key '1' must stand in double quotes here."),
    ("{[1]: 1}", "1:2: A key must stand in double quotes here."),
    ("[1}", "1:3: [1]: '}' stands here, and the list opened at line 1, column 1 is closed by ']'."),
    ("[{]]", "1:3: [0]: ']' stands here, and the mapping opened at line 1, column 2 is closed by '}'."),
    ("[1", "1:3: [1]: The text ends before the list opened at line 1, column 1 is closed."),
    ('{"a": [\n', "2:1: a[0]: The text ends before the list opened at line 1, column 7 is closed."),
    ('{"a"', "1:5: a: The text ends before the mapping opened at line 1, column 1 is closed."),
    ("1 2", "1:3: Text follows after the document: a JSON file holds one value."),
    ("{} ]", "1:4: Text follows after the document: a JSON file holds one value."),
    ("// x\n1", "1:1: JSON has no comments: remove this one, or write the document as YAML."),
    ("[1, /* x */ 2]", "1:5: [1]: JSON has no comments"),
    ("[1 # x\n]", "1:4: [1]: JSON has no comments"),
    ('{"a": 1 // x\n}', "1:9: JSON has no comments"),
    ("{} // x", "1:4: JSON has no comments"),
    ("{// x\n}", "1:2: JSON has no comments"),
    ("['a']", "1:2: [0]: JSON writes texts and keys in double quotes, not in '."),
    ("{'a': 1}", "1:2: JSON writes texts and keys in double quotes, not in '."),
    ("[True]", "1:2: [0]: JSON writes true, false and null in small letters, not 'True'."),
    ("[None]", "1:2: [0]: JSON writes true, false and null in small letters, not 'None'."),
    ("[hello]", "1:2: [0]: A text stands in double quotes in JSON: 'hello' does not."),
    ("truer", "1:1: A text stands in double quotes in JSON: 'truer' does not."),
    ('"a\nb"', '1:1: The text that begins here ("a\\nb"…) has no end on its line: close it'),
    ('["a', '1:2: [0]: The text that begins here ("a…) has no end on its line: close it'),
    ('"a\\', "1:3: '\\' is no JSON escape: write \\\\ for a backslash."),
    ('"a\tb"', "1:3: A tab inside a text is written as \\t."),
    ('"\\d"', "1:2: '\\d' is no JSON escape: write \\\\ for a backslash."),
    ('"\\x41"', "1:2: '\\x' is no JSON escape: write \\\\ for a backslash."),
    ('"\\u12g4"', "1:2: The escape \\u wants four hexadecimal digits."),
    ('"\\u+123"', "1:2: The escape \\u wants four hexadecimal digits."),
    ("&", "1:1: A value is expected here."),
]


@pytest.mark.parametrize("text, sentence", MISTAKES)
def test_every_mistake_has_its_sentence(text: str, sentence: str) -> None:
    (fault,) = faults_of(text)
    assert fault.startswith(sentence)
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)


@pytest.mark.parametrize(
    "text",
    ["+1", "01", "-01", "1.", ".5", "-", "--1", "1e", "1e+", "0x1F", "0o17", "1_000", "1.2.3", "1a", "12:30", "٣"],
)
def test_numbers_are_json_numbers(text: str) -> None:
    (fault,) = faults_of(f"[{text}]")
    assert fault.startswith("1:")


@pytest.mark.parametrize("text", ["NaN", "nan", "Infinity", "-Infinity", "+inf", "-inf"])
def test_numbers_are_finite(text: str) -> None:
    assert faults_of(f'{{"a": [{text}], "b": {text}}}') == [
        f"1:8: a[0]: The number '{text}' is not finite: write it in double quotes if it is a text.",
        f"1:{16 + len(text)}: b: The number '{text}' is not finite: write it in double quotes if it is a text.",
    ]


@pytest.mark.parametrize(
    "text", [str(INTEGER_MAX + 1), str(INTEGER_MIN - 1), "1e999", "-1e999", "1" * 5000, "1." + "1" * 5000]
)
def test_numbers_are_in_range(text: str) -> None:
    faults = faults_of(f"[{text},\n{text}]")
    assert [fault.split(": ")[:2] for fault in faults] == [["1:2", "[0]"], ["2:1", "[1]"]]
    assert all(len(fault) < 250 for fault in faults)


def test_duplicate_keys_are_refused() -> None:
    assert faults_of('{"a": 1, "b": {"c": 1,\n"c": 2}, "\\u0061": 3}') == [
        "2:1: b.c: The key 'c' stands twice in this mapping, first at line 1, column 16: remove or rename one.",
        "2:10: a: The key 'a' stands twice in this mapping, first at line 1, column 2: remove or rename one.",
    ]


@pytest.mark.parametrize(
    "escape", ["\\ud83d", "\\ude00", "\\ude00\\ud83d", "\\ude00\\ude00", "\\ud83dx", "\\ud83d\\/", "\\ud83d\\u0041"]
)
def test_halves_of_surrogate_pairs_are_refused_where_they_stand(escape: str) -> None:
    faults = faults_of(f'["abc{escape}", {{"{escape}": 1}}]')
    assert faults[0].startswith(f"1:6: [0]: The escape '{escape[:6]}' is half of a surrogate pair")
    assert len(faults) == 2 * escape.count("\\ud83d") + 2 * escape.count("\\ude00")


def test_faults_before_a_syntax_error_are_kept() -> None:
    assert faults_of('{"a": NaN, "a": 99999999999999999999, "b" 1}') == [
        "1:7: a: The number 'NaN' is not finite: write it in double quotes if it is a text.",
        "1:12: a: The key 'a' stands twice in this mapping, first at line 1, column 2: remove or rename one.",
        f"1:17: a: The integer '99999999999999999999' does not fit into {BITS}: write it in quotes if it is a text.",
        "1:43: b: A ':' must stand between the key 'b' and its value.",
    ]
