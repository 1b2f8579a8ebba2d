"""What seeds came to: sums, and how they are said."""

import msgspec

from engine.simulation.report import SeedReport, Totals

ONE = SeedReport(
    seed=1,
    asked={"met": True, "missed": False},
    met={"pair: failover": 2, "crash: booting": 1},
    faults={"pause": 3, "cut": 1},
    endings={"finished": 2},
    messages=1_500,
    processes=4,
    steps=10_000,
    virtual_s=1_800.0,
    cpu_s=2.0,
)
OTHER = msgspec.structs.replace(
    ONE, seed=2, asked={"met": False}, met={}, faults={"cut": 9}, endings={"failed: x": 1}, processes=1
)


def both() -> Totals:
    totals = Totals()
    totals.add(ONE)
    totals.add(OTHER)
    return totals


def test_sums_are_told_to_a_person() -> None:
    assert both().lines() == [
        "2 seeds: 1.00 hours of a cluster in 4.0 s of a processor (900 times as fast)",
        "3,000 messages, 5 processes, 2 failovers",
        "13 faults: cut 10, pause 3",
        "3 orders: finished 2, failed: x 1",
        "met: met",
        "NEVER MET: missed",
    ]
    assert both().never() == ["missed"]


def test_nothing_at_all_can_be_told_too() -> None:
    assert Totals().lines()[0] == "0 seeds: 0.00 hours of a cluster in 0.0 s of a processor (0 times as fast)"


def test_many_kinds_are_cut_short() -> None:
    totals = Totals()
    totals.add(SeedReport(seed=1, endings={f"failed: {number}": number for number in range(1, 9)}))
    assert totals.lines()[3] == (
        "36 orders: failed: 8 8, failed: 7 7, failed: 6 6, failed: 5 5, failed: 4 4, and 3 other kinds"
    )


def test_figures_are_for_programs() -> None:
    figures = both().figures()
    assert figures["hours_per_cpu_hour"] == 900.0
    assert figures["faults"] == {"cut": 10, "pause": 3}
    assert figures["failovers"] == 2
    assert msgspec.json.decode(msgspec.json.encode(figures)) == figures
