"""Whatever the bytes are: a tree or a list of faults, in bounded memory, and the same values from both languages."""

import json
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine.documents.loader import Kind, load_text
from engine.documents.node import DocumentError, Mapping, Mark, Node, Scalar, Sequence, plain
from engine.documents.scalars import INTEGER_MAX, INTEGER_MIN
from engine.documents.tree import DOCUMENT_BYTES_MAX, FAULTS_MAX, KEY_CHARS_MAX, NESTING_LEVELS_MAX
from engine.documents.yaml_source import PARSER, ParserName, read_yaml

KINDS: tuple[Kind, ...] = ("yaml", "json")
PARSERS: tuple[ParserName, ...] = ("libyaml", "pure") if yaml.__with_libyaml__ else ("pure",)

# A busy machine is no fault: nothing here is timed.
SOME = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(SOME, max_examples=400)

# --- values ------------------------------------------------------------------------------------------------------

KEYS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029\ufeff\ufffe\uffff"), max_size=80
)


def values(characters: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Values that JSON can say and the loader takes, with texts of these characters."""
    scalars = (
        st.none()
        | st.booleans()
        | st.integers(INTEGER_MIN, INTEGER_MAX)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(characters)
        | st.sampled_from(
            ["on", "12:30", "<<", "~", "- a", "a: b", "#", "*x", "&x", "!x", "%", "@", "\\", "'", '"', " ", "\n"]
        )
    )
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
    )


# Raw in the text: what the loader refuses to see raw is left out (escaped by json.dumps: all below U+0020).
RAW = st.characters(
    exclude_categories=["Cs"],
    exclude_characters="\x00\u2028\u2029\ufeff\ufffe\uffff" + "".join(map(chr, range(0x7F, 0xA0))),
)
# Escaped in the text: YAML knows no surrogate pairs, so nothing beyond U+FFFF for it.
ESCAPED = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
ESCAPED_SHORT = st.characters(exclude_categories=["Cs"], exclude_characters="\x00", max_codepoint=0xFFFF)


def same(left: Any, right: Any) -> bool:
    """Tell whether two values are equal with their types: 1, 1.0 and True are three values, 0.0 and -0.0 two."""
    return repr(left) == repr(right)


@SOME
@given(value=values(RAW), indent=st.sampled_from([None, 2]), compact=st.booleans())
def test_json_means_the_same_in_both_languages(value: Any, indent: int | None, compact: bool) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=(",", ":") if compact else None)
    trees = [load_text(text, kind="json"), load_text(text.encode(), kind="yaml")]
    trees += [read_yaml(text, "<text>", parser=parser) for parser in PARSERS]
    assert all(same(plain(tree), value) for tree in trees)
    assert all(tree == trees[0] for tree in trees), "the places differ"
    check_places(trees[0], text)


@SOME
@given(value=values(ESCAPED))
def test_escapes_of_json(value: Any) -> None:
    assert same(plain(load_text(json.dumps(value), kind="json")), value)


@SOME
@given(text=st.text(ESCAPED_SHORT))
def test_escapes_of_json_in_yaml(text: str) -> None:
    for parser in PARSERS:
        assert plain(read_yaml(json.dumps([text]), "<text>", parser=parser)) == [text]


def check_places(tree: Node, text: str) -> None:
    """Check that at the place of each node and key the text begins with it."""
    lines = text.split("\n")

    def rest(mark: Mark) -> str:
        return lines[mark.line - 1][mark.column - 1 :]

    match tree:
        case Scalar(value=value):
            assert rest(tree.mark).startswith(json.dumps(value, ensure_ascii=False))
        case Sequence(value=items):
            assert rest(tree.mark).startswith("[")
            for item in items:
                check_places(item, text)
        case Mapping(value=entries, keys=keys):
            assert rest(tree.mark).startswith("{")
            assert list(entries) == list(keys)
            for key, entry in entries.items():
                assert rest(keys[key]).startswith(json.dumps(key, ensure_ascii=False))
                check_places(entry, text)


# --- any bytes ---------------------------------------------------------------------------------------------------

YAML_SEEDS = [
    b"name: report\nparameters:\n  year: {type: int, default: 2015}\nsteps:\n  - job: a\n    timeout: 30\n",
    b"a: &x [1, 'two', \"th\\u0072ee\", !!str 4]\nb: *x\nc: |\n  text\n   more\nd: >-\n  folded\n  text\n# end\n",
    b"%YAML 1.2\n---\n? on\n: off\n? [a]\n: {b: c}\n...\n",
    '- ä: "ö\\x41"\n- \u2028\n- 😀: 😀\n'.encode(),
]
JSON_SEEDS = [
    b'{"a": [1, -2.5e3, true, null, "\\ud83d\\ude00\\n", {"b": {}}], "c": "d"}',
    b'[\n  "x",\n  [[], {}],\n  18446744073709551615\n]\n',
]
PIECES = [
    *(
        b"[",
        b"]",
        b"{",
        b"}",
        b":",
        b": ",
        b",",
        b"-",
        b"- ",
        b"? ",
        b"#",
        b" #",
        b"&",
        b"&a ",
        b"*",
        b"*a",
        b"!",
        b"!!",
        b"!!int ",
    ),
    *(
        b"|",
        b"|\n",
        b">",
        b">2\n",
        b"'",
        b'"',
        b"%",
        b"%TAG ! x\n",
        b"@",
        b"`",
        b"\\",
        b"\\u",
        b"\\ud800",
        b"\\U0011",
        b"\\x",
    ),
    *(
        b"\n",
        b"\r",
        b"\t",
        b" ",
        b"  ",
        b"\n---\n",
        b"\n...\n",
        b"---",
        b"<<: ",
        b"~",
        b".nan",
        b"NaN",
        b"1e999",
        b"9" * 30,
    ),
    *(
        b"\x00",
        b"\x07",
        b"\x7f",
        b"\x85",
        b"\xc2\x85",
        b"\xe2\x80\xa8",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\xf0",
    ),
    *(b"[" * 70, b"- " * 70, b'{"a":' * 70, b"? " * 70, b"//", b"/*", b"a" * 300, b"!<%ED%A0%80> ", b"!%FF "),
]


@st.composite
def mutants(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Valid documents with a few pieces cut out, doubled or put in."""
    text = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 12)))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=3) | st.just(text[start:end] * 2))
        text = text[:start] + piece + text[end:]
    return text


def outcome(read: Any) -> Node | DocumentError:
    """Return the tree or the error; everything else is the failure this file looks for."""
    try:
        tree: Node = read()
    except DocumentError as raised:
        error = raised
    else:
        json.dumps(plain(tree), allow_nan=False).encode()
        return tree
    assert 0 < len(error.faults) <= FAULTS_MAX + 1
    assert list(error.faults) == sorted(error.faults, key=lambda fault: fault.mark)
    for fault in error.faults:
        assert str(fault).isprintable()
        assert fault.sentence.endswith(".")
    return error


def check_any(text: bytes) -> None:
    for kind in KINDS:
        first = outcome(lambda kind=kind: load_text(text, file="f", kind=kind))
        again = outcome(lambda kind=kind: load_text(text, file="f", kind=kind))
        if isinstance(first, DocumentError):
            assert str(first) == str(again)
        else:
            assert first == again
            assert first == load_text(text.decode(), kind=kind)
            if kind == "json":
                assert same(plain(first), json.loads(text.decode().removeprefix("\ufeff")))


@MANY
@given(text=st.binary(max_size=200))
def test_any_bytes(text: bytes) -> None:
    check_any(text)


@MANY
@given(text=mutants(YAML_SEEDS + JSON_SEEDS))
@example(text=b'"\\UFFFFFFFF"')
@example(text=b"!<%ED%A0%80> b")
@example(text=b"%YAML 1." + b"9" * 5000 + b"\n--- a")
def test_mutants(text: bytes) -> None:
    check_any(text)


@MANY
@given(text=mutants(YAML_SEEDS + JSON_SEEDS))
@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML came without libyaml")
def test_both_yaml_parsers_agree(text: bytes) -> None:
    fast = outcome(lambda: load_text(text, file="f", kind="yaml"))
    try:
        decoded = text.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        return
    if isinstance(fast, DocumentError) and "cannot stand here" in str(fast):
        return  # refused before a parser saw it
    assert PARSER == "libyaml"
    slow = outcome(lambda: read_yaml(decoded, "f", parser="pure"))
    if not isinstance(fast, DocumentError) and not isinstance(slow, DocumentError):
        assert fast == slow


def usual(value: Any, levels: int = 0) -> bool:
    """Tell whether a value of the standard library's reader is within our bounds."""
    match value:
        case int():
            return INTEGER_MIN <= value <= INTEGER_MAX
        case float():
            return abs(value) < float("inf")
        case str():
            return "\x00" not in value and not any("\ud800" <= char <= "\udfff" for char in value)
        case list():
            return levels < NESTING_LEVELS_MAX and all(usual(item, levels + 1) for item in value)
        case dict():
            entries = levels < NESTING_LEVELS_MAX and all(usual(entry, levels + 1) for entry in value.values())
            return entries and all(usual(key) and usual_key(key) for key in value)
    return value is None


def usual_key(key: str) -> bool:
    """Tell whether a key is within the bounds that texts do not have."""
    return len(key) <= KEY_CHARS_MAX and not any(unicodedata.category(char) == "Cc" for char in key)


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse what the standard library takes: keys that stand twice."""
    keys = [key for key, _ in pairs]
    if len(keys) != len(set(keys)):
        raise ValueError("a key stands twice")
    return dict(pairs)


@MANY
@given(text=mutants(JSON_SEEDS))
def test_json_is_refused_only_for_a_reason(text: bytes) -> None:
    tree = outcome(lambda: load_text(text, kind="json"))
    try:
        value = json.loads(text.decode(), object_pairs_hook=distinct)
    except ValueError:  # also UnicodeDecodeError and JSONDecodeError
        assert isinstance(tree, DocumentError)
        return
    if isinstance(tree, DocumentError):
        raw = any(0x7F <= ord(char) < 0xA0 for char in text.decode())
        assert raw or not usual(value)
    else:
        assert same(plain(tree), value)


# --- weight ------------------------------------------------------------------------------------------------------

DEEP = {
    "flow lists": "[{n}",
    "closed flow lists": "[{n}]{n}",
    "flow mappings": '{{"a": {n}',
    "plain flow mappings": "{{a: {n}",
    "block lists": "- {n}a",
    "block keys": "? {n}a",
    "anchored lists": "&a [{n}",
    "tagged lists": "!!seq [{n}",
}


def deep(form: str, levels: int) -> str:
    """Write a form so many levels deep: each part that is followed by {n} is repeated."""
    *parts, end = form.split("{n}")
    return "".join(part.replace("{{", "{") * levels for part in parts) + end


@pytest.mark.parametrize("levels", [NESTING_LEVELS_MAX + 1, 10_000, 100_000])
@pytest.mark.parametrize("form", DEEP)
def test_deep_nesting(form: str, levels: int) -> None:
    text = deep(DEEP[form], levels)
    for kind in KINDS:
        error = outcome(lambda kind=kind: load_text(text, kind=kind))
        assert isinstance(error, DocumentError)
        if kind == "yaml" and len(text) <= DOCUMENT_BYTES_MAX:
            wanted = f"more than {NESTING_LEVELS_MAX} levels deep"
            assert wanted in str(error) or (form == "block keys" and "list or a mapping cannot be" in str(error))


@pytest.mark.parametrize("levels", [NESTING_LEVELS_MAX + 1, 1_400, 10_000])
def test_deep_indentation(levels: int) -> None:
    text = "".join(" " * level + "a:\n" for level in range(levels))
    error = outcome(lambda: load_text(text, kind="yaml"))
    assert isinstance(error, DocumentError)
    assert ("levels deep" if len(text) <= DOCUMENT_BYTES_MAX else "characters; at most") in str(error)


# Run in a process of its own: should a parser crash or eat memory, this is what dies. The limit stands 128 MiB above
# what the process has when all is imported; the standard loaders need gigabytes for some of these.
WEIGHTS = """
import resource, sys
from engine.documents.loader import load_text
from engine.documents.node import DocumentError, plain
from engine.documents.yaml_source import read_yaml

parser = sys.argv[1]
size = 1 << 20 if parser == "libyaml" else 1 << 18  # the pure parser is slow, not hungry
letters = "abcdefghij"
laughs = "a: &a [x, x, x, x, x, x, x, x, x]\\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\\n" for before, name in zip(letters, letters[1:])
)
long_laughs = "a: &a " + "x" * 250_000 + "\\nb: [" + "*a," * 250_000 + "]"
loads = {
    "laughs": laughs, "long laughs": long_laughs,
    "lists": "[" * 100_000, "mappings": "{a: " * 100_000, "dashes": "- " * 100_000 + "a", "keys": "? " * 100_000 + "a",
    "open quotes": '"' + "x" * size, "lines": "a\\n" * (size // 2), "items": "- a\\n" * (size // 4),
    "flow items": "[" + "1," * (size // 2), "entries": "".join(f"k{n}: 1\\n" for n in range(90_000)),
    "same keys": "a: 1\\n" * (size // 5), "anchors": "- &a b\\n" * (size // 7), "aliases": "- *a\\n" * (size // 5),
    "tag lines": "".join(f"%TAG !{n}! x\\n" for n in range(50_000)) + "---\\na", "documents": "---\\n" * (size // 4),
    "escapes": '"' + "\\\\x41" * (size // 5) + '"', "colons": ":" * size, "stars": "*" * size, "blanks": " " * size,
    "a long tag": "!" + "a" * (size - 8) + " x", "faults": "- .nan\\n" * (size // 7), "zeros": "\\0" * size,
    "numbers": "- " + "1" * (size - 2), "brackets": "[]" * (size // 2),
    "nested": "[" + ("[" * 60 + "]" * 60 + ",") * 8_000,
}
with open("/proc/self/statm") as statm:
    pages = int(statm.read().split()[0])
limit = pages * resource.getpagesize() + (128 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for name, text in loads.items():
    reads = [lambda: read_yaml(text[:size], "f", parser=parser)]
    if parser == "libyaml":
        reads += [lambda: load_text(text, kind="json"), lambda: load_text(text.encode(), kind="yaml")]
    for read in reads:
        try:
            plain(read())
        except DocumentError as error:
            assert len(str(error)) < 1 << 18, name
print("survived", len(loads))
"""


@pytest.mark.parametrize("parser", PARSERS)
def test_nothing_crashes_or_eats_memory(parser: ParserName) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WEIGHTS, parser],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived 26\n", "")
