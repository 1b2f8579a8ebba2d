"""Times, values and JSON for people and programs. Tests: engine/cli/output.py"""

import io
import json
import re

import pytest

from engine.cli.face import Face
from engine.cli.output import clock_text, day_text, span_words, value_text, write_json, write_json_line


@pytest.mark.parametrize(
    ("span_ms", "text"),
    [
        (-5, "0.00s"),
        (0, "0.00s"),
        (420, "0.42s"),
        (9_999, "10.00s"),
        (12_300, "12.3s"),
        (245_000, "4m 05s"),
        (7_380_000, "2h 03m"),
        (360_000_000, "100h 00m"),
    ],
)
def test_spans(span_ms: int, text: str) -> None:
    assert span_words(span_ms) == text


def test_instants_are_this_machines_time() -> None:
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.007", clock_text(1_700_000_000_007))
    assert re.fullmatch(r"2023-11-1\d \d\d:\d\d:\d\d", day_text(1_700_000_000_007))


@pytest.mark.parametrize(
    ("value", "text"),
    [("a b", "a b"), ("", ""), ("a\nb", '"a\\nb"'), (3, "3"), (None, "null"), ({"a": [1]}, '{"a":[1]}')],
)
def test_values(value: object, text: str) -> None:
    assert value_text(value) == text


def test_a_long_value_is_cut_and_says_so() -> None:
    assert value_text("x" * 3_000) == "x" * 2_000 + "… (3000 characters)"


def test_json_of_anything_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    face = Face()
    write_json(face, {"a": [1, None, "ü"]})
    assert json.loads(capsys.readouterr().out) == {"a": [1, None, "ü"]}
    for odd in ({(1, 2): 3}, {"a": b"\xff"}, {"a": object}):
        write_json_line(face, odd)
        out = capsys.readouterr().out
        assert out.count("\n") == 1
        json.loads(out)


def test_json_stays_json_where_the_encoding_is_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="ascii"))
    face = Face()
    write_json(face, {"grüße": "✓ 🙂"})
    write_json_line(face, {"grüße": "✓ 🙂"})
    text = written.getvalue().decode("ascii")
    assert json.loads(text.splitlines()[-1]) == json.loads("".join(text.splitlines()[:-1])) == {"grüße": "✓ 🙂"}
