"""Each benchmark runs, with the smallest counts; nothing here is about time."""

import json
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as command_line
from tests.benchmarks import report, suite
from tests.benchmarks.measure import TINY, Bench


@pytest.mark.parametrize("name", suite.NAMES)
def test_runs(name: str, tmp_path: Path) -> None:
    bench = Bench(TINY, tmp_path)
    assert suite.run(bench, [name]) == []
    missing = [row.series for row in report.ROWS[name] if not bench.series.get(row.series)]
    assert missing == []
    assert all(figure > 0 for figures in bench.series.values() for figure in figures)


def test_a_row_names_a_figure_and_its_floor() -> None:
    floors = {row.series for row in report.ROWS["floors"]}
    rows = [row for name, rows in report.ROWS.items() if name != "floors" for row in rows]
    assert {row.floor for row in rows if row.floor} <= floors
    assert set(report.ROWS) - {"floors"} == set(suite.NAMES)


def test_the_median_ratio_is_taken_inside_the_rounds(tmp_path: Path) -> None:
    bench = Bench(TINY, tmp_path)
    for figure, floor in ((10, 100), (50, 100), (90, 100), (40, 50), (80, 200)):
        bench.put("P4 shell", figure)
        bench.put("guard alone, shell", floor)
    assert bench.median("P4 shell") == 50
    assert bench.ratio("P4 shell", "guard alone, shell") == 0.5
    (row, *_) = report.ROWS["P4"]
    assert report.verdict(row, 0.5) == "SHORT"
    assert report.verdict(row, 0.6) == "must"
    assert report.verdict(row, 0.9) == "stretch"


def test_less_is_better_where_seconds_are_counted() -> None:
    (row,) = report.ROWS["P12"]
    assert [report.verdict(row, seconds) for seconds in (0.5, 1.0, 2.0)] == ["stretch", "must", "SHORT"]


def test_what_can_not_be_measured_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Bench) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(suite.PARTS, "P2", (refuse,))
    bench = Bench(TINY, tmp_path)
    assert suite.run(bench, ["P2"]) == ["P2: OSError: [Errno 28] No space left on device"]
    assert bench.median("P2") is None


def test_the_command_line_writes_a_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out" / "results.json"
    arguments = ["P2", "--rounds", "1", "--json", str(file), "--date", "1970-01-01", "--folder", str(tmp_path)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_line, "FULL", TINY)
        assert command_line.main(arguments) == 0
    document = json.loads(file.read_text())
    assert document["date"] == "1970-01-01"
    assert len(document["rounds"]["P2"]) == document["plan"]["rounds"] == 1
    assert "chain of three" in capsys.readouterr().out


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.main(["P99"])
    assert "no benchmark P99" in capsys.readouterr().err


def test_a_smaller_top_keeps_room_for_both_ends() -> None:
    plan = command_line.plan_of(command_line.parse(["--top", "4000"]))
    assert (plan.growth_orders, plan.growth_first, plan.growth_slice) == (4_000, 1_000, 250)
