"""The loader's door: kinds, files, sizes, encodings, and what a fault looks like.

Tests: engine/documents/loader.py
Tests: engine/documents/node.py
Tests: engine/documents/tree.py
"""

import os
import tracemalloc
from pathlib import Path

import pytest

from engine.documents.loader import Kind, load_file, load_text
from engine.documents.node import (
    NOWHERE,
    DocumentError,
    Fault,
    Mapping,
    Mark,
    Scalar,
    Sequence,
    join_path,
    plain,
    printable,
)
from engine.documents.tree import (
    DOCUMENT_BYTES_MAX,
    FAULTS_MAX,
    KEY_CHARS_MAX,
    NESTING_LEVELS_MAX,
    NODES_MAX,
    TEXT_CHARS_MAX,
)


def faults_of(text: str | bytes, kind: Kind | None = None, file: str = "f") -> list[str]:
    """Load what must be refused and return the lines a person would read."""
    with pytest.raises(DocumentError) as caught:
        load_text(text, file=file, kind=kind)
    assert caught.value.faults
    assert str(caught.value) == "\n".join(map(str, caught.value.faults))
    return [str(fault) for fault in caught.value.faults]


# --- the tree ----------------------------------------------------------------------------------------------------


def test_every_value_and_key_knows_its_place() -> None:
    text = "name: report\nsteps:\n  - job: a\n    timeout: 30\n"
    assert load_text(text) == Mapping(
        {
            "name": Scalar("report", Mark(1, 7)),
            "steps": Sequence(
                [
                    Mapping(
                        {"job": Scalar("a", Mark(3, 10)), "timeout": Scalar(30, Mark(4, 14))},
                        Mark(3, 5),
                        {"job": Mark(3, 5), "timeout": Mark(4, 5)},
                    )
                ],
                Mark(3, 3),
            ),
        },
        Mark(1, 1),
        {"name": Mark(1, 1), "steps": Mark(2, 1)},
    )


def test_json_has_the_same_tree() -> None:
    text = '{"name": "report",\n "steps": [{"timeout": 30}, null]}'
    node = load_text(text, kind="json")
    assert node == load_text(text, kind="yaml")
    assert isinstance(node, Mapping)
    assert node.keys == {"name": Mark(1, 2), "steps": Mark(2, 2)}
    assert node.value["steps"].mark == Mark(2, 11)


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("kind", ["yaml", "json"])
def test_all_line_breaks_count(kind: Kind, line_break: str) -> None:
    node = load_text(f'{{"a": 1,{line_break}"b":{line_break} 2}}', kind=kind)
    assert isinstance(node, Mapping)
    assert node.keys["b"] == Mark(2, 1)
    assert node.value["b"].mark == Mark(3, 2)


@pytest.mark.parametrize("kind", ["yaml", "json"])
def test_columns_count_characters(kind: Kind) -> None:
    node = load_text('["äöü", "😀", 1]', kind=kind)
    assert isinstance(node, Sequence)
    assert [item.mark.column for item in node.value] == [2, 9, 14]


def test_plain_values_are_new_ones() -> None:
    node = load_text("a: &x [1]\nb: *x\n")
    value = plain(node)
    value["a"].append(2)
    assert value == {"a": [1, 2], "b": [1]}
    assert plain(node) == {"a": [1], "b": [1]}


# --- faults ------------------------------------------------------------------------------------------------------


def test_a_fault_is_one_line() -> None:
    assert (
        str(Fault("w.yaml", Mark(3, 5), "steps[2].timeout", "Too long.")) == "w.yaml:3:5: steps[2].timeout: Too long."
    )
    assert str(Fault("w.yaml", Mark(3, 5), "", "Too long.")) == "w.yaml:3:5: Too long."
    assert str(Fault("w.yaml", NOWHERE, "", "Too long.")) == "w.yaml: Too long."


def test_faults_come_sorted_by_place() -> None:
    late, early = Fault("f", Mark(10, 1), "", "late"), Fault("f", Mark(9, 2), "", "early")
    assert DocumentError([late, early]).faults == (early, late)
    assert str(DocumentError([late, early])) == "f:9:2: early\nf:10:1: late"


def test_all_faults_at_once_and_a_syntax_error_ends_the_list() -> None:
    text = "a: 1\na: 2\nsteps:\n  - fork:\n      b: [.nan, {c: 1e999}]\n1: x\nd: @\ne: .inf\n"
    assert faults_of(text) == [
        "f:2:1: a: The key 'a' stands twice in this mapping, first at line 1, column 1: remove or rename one.",
        "f:5:11: steps[0].fork.b[0]: The number '.nan' is not finite: write it in quotes if it is a text.",
        "f:5:21: steps[0].fork.b[1].c: The number '1e999' is too large for a 64-bit float.",
        "f:6:1: [\"1\"]: A key is a text, and '1' is read as a number: write it in quotes.",
        "f:7:4: d: A value cannot begin with '@': quote it.",
    ]


@pytest.mark.parametrize("kind", ["yaml", "json"])
def test_faults_are_bounded(kind: Kind) -> None:
    entries = ", ".join(['"a": 1'] * (FAULTS_MAX * 3))
    faults = faults_of("{" + entries + "}", kind)
    assert len(faults) == FAULTS_MAX + 1
    assert faults[-1].endswith(f"Reading ended here, after {FAULTS_MAX} faults.")


def test_paths() -> None:
    assert join_path(join_path(join_path("", "steps"), 2), "on-lost") == "steps[2].on-lost"
    assert join_path("", 0) == "[0]"
    assert join_path("a", "b c") == 'a["b c"]'
    assert join_path("a", "") == 'a[""]'
    assert join_path("a", "1") == 'a["1"]'
    assert join_path("", "größe") == "größe"
    assert len(join_path("", "x" * 1000)) < 100


def test_what_does_not_print_is_escaped() -> None:
    assert printable("a\nb\t\x1b[31m\u202e\udcff\U000e0001") == "a\\nb\\t\\u001b[31m\\u202e\\udcff\\U000e0001"
    assert printable("abcdef", 3) == "abc…"
    assert printable("größe 😀") == "größe 😀"
    assert faults_of('"a\u202e": 1\n"a\u202e": 2\n')[0].isprintable()


# --- kinds and files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, text", [("w.yaml", "a: 1"), ("w.yml", "a: 1"), ("w.json", '{"a": 1}'), ("W.YAML", "a: 1")]
)
def test_the_suffix_tells_the_kind(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert plain(load_file(path)) == {"a": 1}
    assert load_text(text, file=name) == load_file(path)


def test_json_is_read_as_json(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_text("a: 1")
    with pytest.raises(DocumentError) as caught:
        load_file(path)
    assert str(caught.value) == f"{path}:1:1: A text stands in double quotes in JSON: 'a' does not."


def test_text_without_a_kind_is_yaml() -> None:
    assert plain(load_text("a: on")) == {"a": "on"}


def file_fault(path: Path) -> str:
    with pytest.raises(DocumentError) as caught:
        load_file(path)
    (fault,) = caught.value.faults
    assert fault.mark == NOWHERE
    return str(fault).removeprefix(str(path))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    other = tmp_path / "w.toml"
    other.write_text("a = 1")
    assert file_fault(other) == ": The kind of this file is not known: its name must end with .yaml, .yml, .json."
    assert file_fault(tmp_path / "none.yaml") == ": The file cannot be read: No such file or directory."
    folder = tmp_path / "folder.yaml"
    folder.mkdir()
    assert file_fault(folder) == ": This is no regular file."
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    assert file_fault(pipe) == ": This is no regular file."
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    assert "The file cannot be read" in file_fault(loop)
    assert "The file cannot be read" in file_fault(tmp_path / ("x" * 300 + ".yaml"))
    assert "embedded null byte" in file_fault(Path("a\x00.yaml"))


def test_a_file_name_is_shown_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"a\nb\xff.yaml")
    path.write_text("- @")
    with pytest.raises(DocumentError) as caught:
        load_file(path)
    assert str(caught.value) == f"{tmp_path}/a\\nb\\udcff.yaml:1:3: [0]: A value cannot begin with '@': quote it."


def test_a_file_of_100_mb_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    with path.open("wb") as big:
        big.truncate(100 * 1024 * 1024)
    tracemalloc.start()
    try:
        assert file_fault(path) == f": The document has 104857600 bytes; at most {DOCUMENT_BYTES_MAX} are read."
        assert tracemalloc.get_traced_memory()[1] < 3 * DOCUMENT_BYTES_MAX
    finally:
        tracemalloc.stop()


# --- bounds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["yaml", "json"])
def test_the_size_bound_counts_bytes(kind: Kind) -> None:
    def padded(size: int) -> str:
        return '["é"]' + " " * (size - 6)

    for text in (padded(DOCUMENT_BYTES_MAX), padded(DOCUMENT_BYTES_MAX).encode()):
        assert plain(load_text(text, kind=kind)) == ["é"]
    sentence = f"f: The document has {DOCUMENT_BYTES_MAX + 1} bytes; at most {DOCUMENT_BYTES_MAX} are read."
    for text in (padded(DOCUMENT_BYTES_MAX + 1), padded(DOCUMENT_BYTES_MAX + 1).encode()):
        assert faults_of(text, kind) == [sentence]
    assert "characters" in faults_of(" " * (DOCUMENT_BYTES_MAX + 1), kind)[0]


@pytest.mark.parametrize("kind", ["yaml", "json"])
def test_the_nesting_bound(kind: Kind) -> None:
    levels = NESTING_LEVELS_MAX
    node = load_text("[" * levels + "]" * levels, kind=kind)
    assert str(plain(node)) == "[" * levels + "]" * levels
    (fault,) = faults_of("[" * (levels + 1) + "]" * (levels + 1), kind)
    assert fault.startswith(f"f:1:{levels + 1}: [0]")
    assert fault.endswith(f"nest more than {levels} levels deep here: flatten them.")
    mappings = '{"a": ' * (levels + 1) + "1" + "}" * (levels + 1)
    assert faults_of(mappings, kind)[0].startswith(f"f:1:{6 * levels + 1}: a.a.a")


@pytest.mark.parametrize("kind", ["yaml", "json"])
def test_the_node_bound(kind: Kind) -> None:
    assert len(plain(load_text("[" + ",".join("1" * (NODES_MAX - 1)) + "]", kind=kind))) == NODES_MAX - 1
    (fault,) = faults_of("[" + ",".join("1" * NODES_MAX) + "]", kind)
    assert f"more than {NODES_MAX} values" in fault


@pytest.mark.parametrize("kind", ["yaml", "json"])
def test_the_bounds_of_texts_and_keys(kind: Kind) -> None:
    text = "x" * TEXT_CHARS_MAX
    assert plain(load_text(f'"{text}"', kind=kind)) == text
    assert faults_of(f'["{text}x", 1]', kind) == [
        f"f:1:2: [0]: This text has {TEXT_CHARS_MAX + 1} characters; at most {TEXT_CHARS_MAX} are allowed."
    ]
    key = "k" * KEY_CHARS_MAX
    assert plain(load_text(f'{{"{key}": 1}}', kind=kind)) == {key: 1}
    (fault,) = faults_of(f'{{"{key}k": 1}}', kind)
    assert fault.endswith(f"This key has {KEY_CHARS_MAX + 1} characters; at most {KEY_CHARS_MAX} are allowed.")


# --- encodings and characters ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["yaml", "json"])
def test_a_byte_order_mark_is_no_column(kind: Kind) -> None:
    node = load_text(b'\xef\xbb\xbf{"a": 1}', kind=kind)
    assert node == load_text('\ufeff{"a": 1}', kind=kind) == load_text('{"a": 1}', kind=kind)
    assert node.mark == Mark(1, 1)


@pytest.mark.parametrize("kind", ["yaml", "json"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le", "utf-16-be"])
def test_other_encodings_are_refused(kind: Kind, encoding: str) -> None:
    (fault,) = faults_of('{"a": 1}'.encode(encoding), kind)
    if encoding in ("utf-16", "utf-32"):
        assert fault == f"f: The document is written in {encoding.upper()}: save it as UTF-8."
    else:
        assert "The character U+0000 cannot stand here" in fault


@pytest.mark.parametrize("kind", ["yaml", "json"])
def test_invalid_utf8_is_named_with_its_offset(kind: Kind) -> None:
    assert faults_of('{"ä":\r\n "ö'.encode() + b'\xff"}', kind) == [
        "f:2:4: The byte 0xff at offset 12 is not UTF-8: save the file as UTF-8."
    ]
    assert "The byte 0xed at offset 1 " in faults_of(b'"\xed\xa0\x80"', kind)[0]  # a surrogate in UTF-8
    assert "The byte 0xc3 at offset 1 " in faults_of(b'"\xc3', kind)[0]


@pytest.mark.parametrize("kind", ["yaml", "json"])
@pytest.mark.parametrize("char", ["\x00", "\x01", "\x0b", "\x1b", "\x7f", "\x80", "\x85"])
def test_raw_control_characters_and_surrogates_are_refused(kind: Kind, char: str) -> None:
    (fault,) = faults_of(f'["a",\n "b{char}"]', kind)
    assert fault.startswith(f"f:2:4: The character U+{ord(char):04X} cannot stand here: remove it")
    assert "and 2 more such characters" in faults_of(f'["{char}{char}{char}"]', kind)[0]


@pytest.mark.parametrize("kind", ["yaml", "json"])
def test_raw_halves_of_surrogate_pairs_are_refused(kind: Kind) -> None:
    for char in ("\ud800", "\udbff", "\udc00", "\udfff", "\ud83d\ude00"):
        (fault,) = faults_of(f'["a",\n "b{char}"]', kind)
        assert fault.startswith(f"f:2:4: The character U+{ord(char[0]):04X} cannot stand here")
        assert fault.endswith(": remove it.")


@pytest.mark.parametrize("char", ["\u2028", "\u2029", "\ufeff", "\ufffe", "\uffff"])
def test_characters_that_yaml_parsers_read_differently(char: str) -> None:
    text = f'["a{char}b"]'
    assert plain(load_text(text, kind="json")) == [f"a{char}b"]
    (fault,) = faults_of(text, "yaml")
    assert fault == (
        f"f:1:4: The character U+{ord(char):04X} cannot stand here: "
        f"remove it, or write it as \\u{ord(char):04x} in double quotes."
    )
    assert plain(load_text(f'["a\\u{ord(char):04x}b"]', kind="yaml")) == [f"a{char}b"]


@pytest.mark.parametrize("kind", ["yaml", "json"])
def test_escapes_make_control_characters_in_values_only(kind: Kind) -> None:
    assert plain(load_text('"\\u001b[31m\\u0085\\n\\t"', kind=kind)) == "\x1b[31m\x85\n\t"
    (fault,) = faults_of('{"a": "x\\u0000y"}', kind)
    assert fault.endswith("a: A text cannot hold the character NUL (U+0000): remove its escape.")
    assert faults_of('{"a\\u001b": 1}', kind) == [
        'f:1:2: ["a\\u001b"]: A key cannot hold control characters: remove them.'
    ]


@pytest.mark.parametrize("kind", ["yaml", "json"])
@pytest.mark.parametrize("text", ["", " \n\n", "\ufeff"])
def test_an_empty_document(kind: Kind, text: str) -> None:
    (fault,) = faults_of(text, kind)
    assert fault.endswith(": The document is empty.")
