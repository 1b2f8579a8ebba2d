"""Measure, beside the rates of this machine in the same minutes.

    python -m tests.benchmarks [P1 P2 …] [--quick] [--json FILE] [--date TEXT] [--top ORDERS] [--rounds N]
                               [--folder DIR]

Without names all of them run: P1 P2 P3 P4 P6 P8 P10 P12. docs/benchmarks.md says what each is.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import report, suite
from tests.benchmarks.measure import FULL, QUICK, Bench, Plan, file_system, temporary_place

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench-results"
IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measure this engine.")
    parser.add_argument("names", nargs="*", type=str.upper, metavar="P…", help=f"of {' '.join(suite.NAMES)}; none: all")
    parser.add_argument("--quick", action="store_true", help="small counts, under two minutes; good for a first look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go (bench-results/latest.json)")
    parser.add_argument("--date", default="", metavar="TEXT", help="the date, kept as it is given")
    parser.add_argument("--rounds", type=int, metavar="N", help="three at least for medians")
    parser.add_argument("--top", type=int, metavar="ORDERS", help="P10: let the journal grow to so many orders")
    parser.add_argument("--folder", metavar="DIR", help="the disk to be measured (the place for temporary files)")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in suite.NAMES]:
        parser.error(f"there is no benchmark {unknown[0]}; there are {' '.join(suite.NAMES)}")
    return options


def plan_of(options: argparse.Namespace) -> Plan:
    """Return how much of everything is wanted."""
    plan = QUICK if options.quick else FULL
    if options.rounds:
        plan = dataclasses.replace(plan, rounds=max(1, options.rounds))
    if options.top:
        first = min(plan.growth_first, max(options.top // 4, 1))
        one_slice = max(min(plan.growth_slice, first // 4), 1)
        plan = dataclasses.replace(plan, growth_orders=options.top, growth_first=first, growth_slice=one_slice)
    return plan


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; returns 1 when something could not be measured."""
    options = parse(arguments)
    with temporary_place(options.folder) as place:
        bench = Bench(plan_of(options), place)
        if file_system(place) in IN_MEMORY:
            bench.note("The folder lies in memory: fsync costs nothing there. Choose a disk with --folder.")
        faults = suite.run(bench, options.names or suite.NAMES)
        document = report.document_of(bench, options.date)
    for line in report.lines_of(bench):
        print(line)
    path = options.json or RESULTS / "latest.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\n{path}")
    for fault in faults:
        print(f"could not be measured: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
