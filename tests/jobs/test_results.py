"""Result files: lines or one JSON object, of any content whatsoever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.base.codec import encode, value_fault
from engine.base.ids import is_variable
from engine.base.limits import RESULT_BYTES_MAX
from engine.jobs.results import ResultFault, parse_results


@pytest.mark.parametrize(
    ("raw", "results"),
    [
        (b"", {}),
        (b"\n \n# a note\n", {}),
        (b"a=1\nb = x y \n", {"a": "1", "b": " x y "}),
        (b"a=1\r\nb=2\r\n", {"a": "1", "b": "2"}),
        (b"a=b=c", {"a": "b=c"}),
        (b"a=\na=2", {"a": "2"}),
        ("a=x\u2028y\x0bz\x85".encode(), {"a": "x\u2028y\x0bz\x85"}),
        (b"a=\0", {"a": "\0"}),
        (b'{"a": 1, "b": [1.5, null, true, {"c": "x"}]}', {"a": 1, "b": [1.5, None, True, {"c": "x"}]}),
        (b' \n {"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        (b"{}", {}),
    ],
)
def test_what_can_be_read(raw: bytes, results: dict[str, object]) -> None:
    assert parse_results(raw) == results


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"a", "line 1 of the result file is not name=value"),
        (b"a=1\nnothing", "line 2"),
        (b"=1", "can not be a variable"),
        (b"1a=1", "'1a'"),
        (b"a b=1", "'a b'"),
        (b"\xef\xbb\xbfa=1", "can not be a variable"),
        (b"a=\xff", "not UTF-8 at byte 3"),
        (b"\0\1\2", "not name=value"),
        (b'{"a": 1', "not a JSON object"),
        (b"{1: 2}", "not a JSON object"),
        (b'{"a": 1, "b": 2, "a": 1}', "names 'a' twice"),
        (b'{"a": 1, "\\u0061": 2}', "names 'a' twice"),
        (b'{"a": [{"b": {"c": 1, "c": 2}}]}', "names 'c' twice"),
        (b'{"a": NaN}', "not a JSON object"),
        (b'{"a": "\\ud800"}', "JSON object|surrogate"),
        (b'{"a": 9223372036854775808}', "does not fit into 64 bits"),
        (b'{"a": 1e999}', "JSON object|finite"),
        (b'{"a b": 1}', "can not be a variable"),
        (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", "nested deeper than 32"),
        (b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "not a JSON object"),
        (b"a=" + b"x" * RESULT_BYTES_MAX, "larger than 1048576"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(raw: bytes, sentence: str) -> None:
    with pytest.raises(ResultFault, match=sentence):
        parse_results(raw)


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode(errors="replace")))
def test_whatever_is_read_can_be_kept(raw: bytes) -> None:
    try:
        results = parse_results(raw)
    except ResultFault:
        return
    assert all(is_variable(name) for name in results)
    assert value_fault(results) is None
    encode(results)


@given(
    st.dictionaries(
        st.from_regex("[a-z_][a-z0-9_]{0,8}", fullmatch=True),
        st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])),
    )
)
def test_lines_come_back_as_they_were_written(results: dict[str, str]) -> None:
    text = "".join(f"{name}={value}\n" for name, value in results.items())
    assert parse_results(text.encode()) == results
