"""YAML from people: the core schema of YAML 1.2, what is refused, and the sentences for it.

Both parsers are held to the same answers.

Tests: engine/documents/scalars.py
Tests: engine/documents/yaml_source.py
Tests: engine/documents/yaml_syntax.py
"""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.documents.node import DocumentError, Mapping, Mark, plain
from engine.documents.scalars import INTEGER_MAX, INTEGER_MIN, NUMBER_CHARS_MAX
from engine.documents.tree import DOCUMENT_BYTES_MAX, NESTING_LEVELS_MAX, NODES_MAX
from engine.documents.yaml_source import PARSER, TAG_LINES_MAX, ParserName, read_yaml

PARSERS: list[Any] = [
    pytest.param("libyaml", marks=pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML came without libyaml")),
    "pure",
]
both_parsers = pytest.mark.parametrize("parser", PARSERS)


def faults_of(text: str, parser: ParserName = PARSER) -> list[str]:
    """Read what must be refused and return the lines a person would read, without the file's name."""
    with pytest.raises(DocumentError) as caught:
        read_yaml(text, "f", parser=parser)
    return [str(fault).removeprefix("f:") for fault in caught.value.faults]


# --- scalars -----------------------------------------------------------------------------------------------------

TEXTS = [
    *("on", "off", "yes", "no", "NO", "Yes", "y", "n", "tRUE", "nULL", "None", "nil"),
    *("12:30", "12:30:45", "1_000", "0b101", "0o8", "0xg", "0O17", "0X1F", "+0x1", "-0o7", "1e", "e1", "1.2.3", "."),
    *("..", "--", "+", "-.", "+.e3", "1 000", "1,5", "2015-05-14", "2015-05-14T12:00:00Z", "1.5.", ".inf.", "inf"),
    *("nan", "NaN", "=", "1.e", "٣", "²", "10GB", "~x", "a b", "a:b", "a#b", "http://x/y", "-x", "?x", "<<x"),
]


@both_parsers
@pytest.mark.parametrize("text", TEXTS)
def test_texts_stay_texts(text: str, parser: ParserName) -> None:
    assert plain(read_yaml(f"k: {text}\n", "f", parser=parser)) == {"k": text}


VALUES: list[tuple[str, object]] = [
    *((text, None) for text in ("", "~", "null", "Null", "NULL")),
    *((text, True) for text in ("true", "True", "TRUE")),
    *((text, False) for text in ("false", "False", "FALSE")),
    *(
        ("0", 0),
        ("-0", 0),
        ("+12", 12),
        ("-12", -12),
        ("010", 10),
        ("0o17", 15),
        ("0o0", 0),
        ("0x1F", 31),
        ("0xff", 255),
    ),
    *((str(INTEGER_MAX), INTEGER_MAX), (str(INTEGER_MIN), INTEGER_MIN), ("0xffffffffffffffff", INTEGER_MAX)),
    *(("1.0", 1.0), ("1.", 1.0), (".5", 0.5), ("-.5", -0.5), ("+1.5e3", 1500.0), ("1e3", 1000.0), ("1E-3", 0.001)),
    *(("685.230_15", "685.230_15"), ("1e-999", 0.0), ("0" * (NUMBER_CHARS_MAX - 1) + "7", 7)),
]


@both_parsers
@pytest.mark.parametrize("text, value", VALUES)
def test_values_of_the_core_schema(text: str, value: object, parser: ParserName) -> None:
    (read,) = plain(read_yaml(f"- {text}\n", "f", parser=parser))
    assert read == value
    assert type(read) is type(value)


def test_a_negative_zero_keeps_its_sign() -> None:
    assert math.copysign(1, plain(read_yaml("-0.0", "f"))) == -1


@both_parsers
@pytest.mark.parametrize(
    "text", ["12", "true", "null", "~", ".nan", "on", "99999999999999999999", "<<", "=", "2015-05-14"]
)
def test_quotes_and_blocks_make_texts(text: str, parser: ParserName) -> None:
    document = f"- '{text}'\n- \"{text}\"\n- |-\n  {text}\n- >-\n  {text}\n- !!str {text if text != '=' else 'x'}\n"
    assert plain(read_yaml(document, "f", parser=parser))[:4] == [text] * 4
    assert plain(read_yaml(f"'{text}': 1", "f", parser=parser)) == {text: 1}


@both_parsers
@pytest.mark.parametrize(
    "text",
    [
        *(".nan", ".NaN", ".NAN", ".inf", "-.inf", "+.Inf", "-.INF", "1e999", "-1e999", "1" * 400 + ".0"),
        *(str(INTEGER_MAX + 1), str(INTEGER_MIN - 1), "0x10000000000000000", "0o2000000000000000000000"),
        *("1" * (NUMBER_CHARS_MAX + 1), "0." + "1" * NUMBER_CHARS_MAX, "1" * 5000, "0x" + "f" * 5000),
    ],
)
def test_numbers_out_of_range(text: str, parser: ParserName) -> None:
    faults = faults_of(f"a:\n- x\n- {text}\nb: {text}\n", parser)
    assert [fault.split(": ")[:2] for fault in faults] == [["3:3", "a[1]"], ["4:4", "b"]]
    assert all(len(fault) < 250 for fault in faults)


@both_parsers
def test_core_tags(parser: ParserName) -> None:
    text = "[!!str 12, !!str , !!int '12', !!int 0x1f, !!float 1, !!bool 'true', !!null '', !!seq [1], !!map {a: 1}]"
    assert plain(read_yaml(text, "f", parser=parser)) == ["12", "", 12, 31, 1.0, True, None, [1], {"a": 1}]
    assert plain(read_yaml("!<tag:yaml.org,2002:str> 1: !!str 2", "f", parser=parser)) == {"1": "2"}


@both_parsers
def test_tags_that_do_not_fit_or_are_not_core(parser: ParserName) -> None:
    text = (
        "- !!int x\n- !!int 1.5\n- !!bool 1\n- !!null 0\n- !!float true\n- !!map x\n- !!seq {}\n- !!map []\n"
        "- !!int .nan\n- !!binary aGk=\n- !!python/object/apply:os.system [x]\n- !mine {}\n- ! 12\n"
        "- !!timestamp 2001-01-01\n- {!x a: 1}\n"
    )
    faults = faults_of(text, parser)
    assert [int(fault.split(":")[0]) for fault in faults] == list(range(1, 16))
    assert faults[0] == "1:3: [0]: The value 'x' is no !!int: remove the tag or mend the value."
    assert faults[10].startswith("11:3: [10]: The tag '!!python/object/apply:os.system' is not allowed here")
    assert faults[14].startswith("15:4: [14].a: The tag '!x' is not allowed here")


# --- mappings, anchors, documents --------------------------------------------------------------------------------


@both_parsers
def test_duplicate_keys_are_refused(parser: ParserName) -> None:
    assert faults_of("a: 1\nb: {c: 1, 'c': 2}\n\"a\": 2\n", parser) == [
        "2:11: b.c: The key 'c' stands twice in this mapping, first at line 2, column 5: remove or rename one.",
        "3:1: a: The key 'a' stands twice in this mapping, first at line 1, column 1: remove or rename one.",
    ]


@both_parsers
def test_keys_are_texts(parser: ParserName) -> None:
    text = (
        "1: a\nnull: b\ntrue: c\n1.5: d\n? [e]\n: {f: 1, f: 2}\n? {g: 1}\n: h\n"
        "<<: {i: 1}\n.nan: j\n&k l: 1\n*k : 2\n!!int 3: 4\n? \n: 5\n"
    )
    faults = faults_of(text, parser)
    assert [fault.split(": ", 1)[0] for fault in faults] == [
        *("1:1", "2:1", "3:1", "4:1", "5:3", "6:10", "7:3", "9:1", "10:1", "11:1", "12:1", "13:1", "14:2"),
    ]
    assert faults[1] == "2:1: null: A key is a text, and 'null' is read as null: write it in quotes."
    assert faults[7].startswith("9:1: [\"<<\"]: Merge keys ('<<') are not read here")
    assert "this one is empty" in faults[12]
    assert plain(read_yaml("on: 1\n12:30: 2\n'1': 3\n!!str 4: 5\n", "f", parser=parser)) == {
        "on": 1,
        "12:30": 2,
        "1": 3,
        "4": 5,
    }


@both_parsers
def test_an_alias_stands_for_its_anchor(parser: ParserName) -> None:
    node = read_yaml("a: &x {b: [1, &y two]}\nc: *x\nd: *y\n", "f", parser=parser)
    assert plain(node) == {"a": {"b": [1, "two"]}, "c": {"b": [1, "two"]}, "d": "two"}
    assert isinstance(node, Mapping)
    assert node.value["c"] is node.value["a"]
    assert node.value["d"].mark == Mark(1, 15)


@both_parsers
def test_an_alias_means_the_last_anchor_before_it(parser: ParserName) -> None:
    assert plain(read_yaml("[&a 1, *a, &a 2, *a]", "f", parser=parser)) == [1, 1, 2, 2]
    assert plain(read_yaml("[&a [&a 1, *a], *a]", "f", parser=parser)) == [[1, 1], 1]


@both_parsers
def test_aliases_without_an_end_or_a_beginning(parser: ParserName) -> None:
    assert faults_of("a: *x\nb: &b [1, {c: *b}]\nd: &x 1\n", parser) == [
        "1:4: a: The alias '*x' has no anchor before it: quote the value if the star belongs to it.",
        "2:15: b[1].c: The alias '*b' stands inside the value it names: a value cannot hold itself.",
    ]


@both_parsers
def test_aliases_count_as_what_they_stand_for(parser: ParserName) -> None:
    ten = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"  # 10 nodes

    def nodes(aliases: int) -> str:
        return ten + "b: [" + "*a, " * aliases + "]\n"

    fitting = (NODES_MAX - 12) // 10
    assert len(plain(read_yaml(nodes(fitting), "f", parser=parser))["b"]) == fitting
    assert f"more than {NODES_MAX} values" in faults_of(nodes(fitting + 1), parser)[0]

    long = "a: &a " + "x" * 100_000 + "\nb: ["
    fitting = DOCUMENT_BYTES_MAX // 100_000 - 1
    assert len(plain(read_yaml(long + "*a, " * fitting + "]", "f", parser=parser))["b"]) == fitting
    assert f"over {DOCUMENT_BYTES_MAX} characters" in faults_of(long + "*a, " * (fitting + 1) + "]", parser)[0]

    half = NESTING_LEVELS_MAX // 2
    deep = "a: &a " + "[" * half + "]" * half + "\nb: "
    read_yaml(deep + "[" * (half - 1) + "*a" + "]" * (half - 1), "f", parser=parser)
    assert f"more than {NESTING_LEVELS_MAX} levels" in faults_of(deep + "[" * half + "*a" + "]" * half, parser)[0]


@both_parsers
def test_a_file_holds_one_document(parser: ParserName) -> None:
    assert plain(read_yaml("%YAML 1.2\n---\na: 1\n...\n# end\n", "f", parser=parser)) == {"a": 1}
    assert plain(read_yaml("---\n", "f", parser=parser)) is None
    assert faults_of("a: .nan\n---\nb: 2\n", parser) == [
        "1:4: a: The number '.nan' is not finite: write it in quotes if it is a text.",
        "2:1: A second document begins here: a file holds one, so split the file.",
    ]
    assert faults_of("# nothing\n", parser) == ["1:1: The document is empty."]


@both_parsers
def test_directives(parser: ParserName) -> None:
    assert faults_of("%YAML 1.1\n---\na: 1\n", parser) == [
        "1:1: Documents are read as YAML 1.2: remove the %YAML line."
    ]
    assert faults_of("%TAG !x! y\n---\na: 1\n", parser) == ["1:1: %TAG lines are not read here: remove them."]
    for text in ("%YAML 2.0\n---\na", "%YAML 1.2\n%YAML 1.2\n---\na", "%YAML x\n---\na", "%TAG ! x y z\n---\na"):
        assert faults_of(text, parser)[-1].endswith("remove it.")
    assert faults_of("%YAML 1." + "9" * 5000 + "\n---\na", parser)
    many = "".join(f"%TAG !t{number}! x\n" for number in range(TAG_LINES_MAX + 1))
    assert faults_of(many + "---\na", parser) == [
        f"{TAG_LINES_MAX + 1}:1: More than {TAG_LINES_MAX} lines begin with %TAG, which is not read here: remove them."
    ]


# --- what people get wrong ---------------------------------------------------------------------------------------

MISTAKES = [
    ("a:\n\tb: 1", "2:1: a: A tab stands where YAML wants spaces: indent with spaces only."),
    ("a: |\n\tb", "A tab stands where YAML wants spaces: indent with spaces only."),
    ("\ta: 1", "1:1: A tab stands where YAML wants spaces: indent with spaces only."),
    ("a: 1\nb: 'x\nc: 2\n", "2:4: b: The quotation mark opened here is never closed."),
    (
        'a: "x\n---\n',
        "2:1: a: A line that begins with '---' or '...' stands inside the quotes opened at line 1, column 4",
    ),
    ('a: "C:\\Users"', "a: The escapes \\x, \\u and \\U want 2, 4 and 8 hexadecimal digits."),
    ('a: "\\xZZ"', "a: The escapes \\x, \\u and \\U want 2, 4 and 8 hexadecimal digits."),
    ('a: "\\d+"', "a: A backslash in double quotes begins an escape, and YAML knows none with 'd': write \\\\"),
    ("a: *.txt", "1:5: a: '*' begins an alias, and no name follows: quote the value"),
    ("a: & b", "1:5: a: '&' begins an anchor, and no name follows: quote the value"),
    ("a: !x!y z", "1:4: a: '!' begins a tag, and this is none that is read here: quote the value"),
    ("a: !<x", "'!' begins a tag, and this is none that is read here: quote the value"),
    (
        "a: b: c",
        "1:5: A ':' is not allowed here: quote the value if the colon belongs to it, else check the indentation.",
    ),
    ("a: 1\n  b: 2", "2:4: A ':' is not allowed here"),
    ("a: - b", "1:4: a: A list entry cannot begin here: put its '-' on a line of its own"),
    ("a: ? b", "1:4: a: A '?' is not allowed here: quote the value"),
    ("a: 1\nb\nc: 2", "2:1: This key lacks a ': ' on its line: add it"),
    ("a: 1\nb", "2:1: This key lacks a ': ' on its line: add it"),
    ("a: [1, 2", "1:9: a[2]: The list opened with '[' at line 1, column 4 lacks a comma or its ']' before this."),
    ("a: [1, 2\nb: 3", "2:2: a[2]: The list opened with '[' at line 1, column 4 lacks a comma"),
    ("a: {b: 1\nc: 2", "2:2: a: The mapping opened with '{' at line 1, column 4 lacks a comma or its '}' before this."),
    ("a: ]", "1:4: a: A value is missing here."),
    ("[a, , b]", "1:5: [1]: A value is missing here."),
    ("a: @x", "1:4: a: A value cannot begin with '@': quote it."),
    ("a: `x`", "1:4: a: A value cannot begin with '`': quote it."),
    ("a: %x", "1:4: a: A value cannot begin with '%': quote it."),
    ("a: [|]", "1:5: a[0]: '|' cannot begin a text inside brackets or braces: quote the text."),
    ("a: |x\n b", "1:5: a: After '|' or '>' only '+', '-', an indentation of 1 to 9 or a comment can stand."),
    ("a: |0\n b", "1:5: a: After '|' or '>' only '+', '-', an indentation of 1 to 9 or a comment can stand."),
    ("a:\n  b: 1\n c: 2", "3:2: This does not fit into the block begun at line 1, column 1: check the indentation"),
    ("a:\n  - 1\n - 2", "3:2: This does not fit into the block begun at line 1, column 1: check the indentation"),
    ("- a\nb: 1", "2:1: [1]: This does not fit into the block begun at line 1, column 1"),
    ("a: 'it's'", "1:8: Text follows behind a closing quotation mark: quote the whole value"),
    ('a: "x" y', "1:8: Text follows behind a closing quotation mark: quote the whole value"),
    ("{a: 1} x", "1:8: The document had ended before this: a document is one value; check the indentation."),
    ("--- a\n...\nb", "3:1: The document had ended before this"),
]


@both_parsers
@pytest.mark.parametrize("text, sentence", MISTAKES)
def test_every_mistake_has_its_sentence(text: str, sentence: str, parser: ParserName) -> None:
    (fault,) = faults_of(text, parser)
    assert sentence in fault
    assert "This is not YAML" not in fault


@both_parsers
@pytest.mark.parametrize(
    "escape", ["\\ud83d", "\\ude00", "\\ud83d\\ude00", "\\UFFFFFFFF", "\\U00110000", "\\U0000d800"]
)
def test_escapes_that_name_no_character(escape: str, parser: ParserName) -> None:
    for text, path in ((f'a: "{escape}"', "a: "), (f'"{escape}": 1', "")):
        (fault,) = faults_of(text, parser)
        assert fault.startswith("1:")
        assert path in fault
        assert fault.isprintable()
    assert plain(read_yaml('"\\U0001F600"', "f", parser=parser)) == "😀"


@both_parsers
@pytest.mark.parametrize(
    "tag", ["!%ED%A0%80", "!<%ED%A0%80>", "!%FF", "!%C3", "!%", "!%ZZ", "!!" + "x" * 5000, "!a%00b"]
)
def test_odd_tags(tag: str, parser: ParserName) -> None:
    (fault,) = faults_of(f"a: {tag} b", parser)
    assert len(fault) < 250
    assert fault.isprintable()


# --- the fallback ------------------------------------------------------------------------------------------------


def test_without_libyaml_the_pure_parser_is_taken() -> None:
    program = (
        "import sys\n"
        "sys.modules['yaml._yaml'] = None\n"  # what an installation without the extension looks like
        "from engine.documents.loader import load_text\n"
        "from engine.documents.node import plain\n"
        "from engine.documents.yaml_source import PARSER\n"
        "print(PARSER, plain(load_text('a: [on, 0o17]')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "pure {'a': ['on', 15]}\n", "")
