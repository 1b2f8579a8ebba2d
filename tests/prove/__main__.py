"""Search every world of the failover rules, and switch off each rule to see that it is needed.

    python -m tests.prove [--bounds quick|large] [--epochs N --events N --crashes N --wipes N --yields N --snapshots N]
    python -m tests.prove --planted [NAME …]

Prints states, transitions, depth and the moments reached; a breach as a transcript. Exit code 1: something is wrong.
"""

import argparse
import sys
from collections.abc import Sequence

import msgspec

from tests.prove import moments
from tests.prove.explore import Report, explore
from tests.prove.planted import FAULTS, planted
from tests.prove.transcript import tell
from tests.prove.world import Bounds

# Together half a minute; tests/prove/test_explore.py searches each.
QUICK = (
    Bounds(epochs=3, events=1, crashes=0),
    Bounds(epochs=2, events=2, crashes=0),
    Bounds(epochs=2, events=1, crashes=1),
    Bounds(epochs=2, events=1, crashes=0, slow_disk=True),
    Bounds(epochs=2, events=1, crashes=0, late_beats=True),
    Bounds(epochs=2, events=1, crashes=0, yields=1),
    Bounds(epochs=2, events=1, crashes=0, wipes=1),
    Bounds(epochs=2, events=1, crashes=0, snapshots=1),
    Bounds(epochs=2, events=1, crashes=0, commits=True),
    Bounds(epochs=2, events=1, crashes=0, commits=True, keeps=1),
    Bounds(epochs=2, events=0, crashes=1, commands=2),
    Bounds(epochs=3, events=0, crashes=1, forces=1),
    Bounds(epochs=2, events=0, crashes=0, rollbacks=1),
)
LARGE = (
    Bounds(epochs=3, events=2, crashes=1),
    Bounds(epochs=4, events=1, crashes=1),
    Bounds(epochs=3, events=1, crashes=1, slow_disk=True),
    Bounds(epochs=3, events=1, crashes=1, yields=1),
    Bounds(epochs=3, events=1, crashes=0, late_beats=True),
    Bounds(epochs=3, events=1, crashes=0, wipes=1),
    Bounds(epochs=3, events=1, crashes=1, snapshots=1),
    Bounds(epochs=3, events=2, crashes=0, snapshots=2),
    Bounds(epochs=3, events=2, crashes=0, commits=True),
    Bounds(epochs=3, events=1, crashes=1, commits=True, keeps=1),
    Bounds(epochs=4, events=2, crashes=1, commits=True, keeps=1, forces=1),
    Bounds(epochs=3, events=1, crashes=0, old_mail=True),
    Bounds(epochs=2, events=1, crashes=0, wipes=1, old_mail=True),
    Bounds(epochs=3, events=1, crashes=1, commands=3),
    Bounds(epochs=4, events=1, crashes=1, forces=1),
    Bounds(epochs=3, events=1, crashes=0, rollbacks=1),
)
TELL_EVERY_S = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Search, tell, and return whether all is well."""
    options = _options(arguments)
    if options.planted is not None:
        return _prove_planted(options.planted or list(FAULTS), options.seconds)
    chosen = {name: getattr(options, name) for name in COUNTS if getattr(options, name) is not None}
    all_bounds = [Bounds(**chosen)] if chosen else {"quick": QUICK, "large": LARGE}[options.bounds]
    wrong = 0
    for bounds in all_bounds:
        report = explore(bounds, seconds_max=options.seconds, reached=moments.reached, progress=_Progress())
        wrong += _say(report)
    return 1 if wrong else 0


COUNTS = ("epochs", "events", "crashes", "wipes", "yields", "forces", "rollbacks", "snapshots", "keeps", "commands")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.prove", description="Search the worlds of the pair's rules.")
    parser.add_argument("--bounds", choices=("quick", "large"), default="quick")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of each search; then it is cut")
    parser.add_argument("--planted", nargs="*", metavar="NAME", help="switch off each rule; none named: all")
    for name in COUNTS:
        parser.add_argument(f"--{name}", type=int)
    return parser.parse_args(arguments)


class _Progress:
    def __init__(self) -> None:
        self.told_s = 0.0

    def __call__(self, report: Report) -> None:
        if report.seconds - self.told_s >= TELL_EVERY_S:
            self.told_s = report.seconds
            print(f"  {report.seconds:6.0f} s  {report.states:,} states, depth {report.depth}", file=sys.stderr)


def _say(report: Report) -> int:
    bounds = ", ".join(f"{name} {value}" for name, value in msgspec.structs.asdict(report.bounds).items() if value)
    whole = "all of them" if report.is_whole else "CUT: not all of them"
    print(f"{bounds}: {report.states:,} states ({whole}), {report.transitions:,} transitions, depth {report.depth}")
    print(f"  {report.seconds:.0f} s, {report.states / max(report.seconds, 1e-9):,.0f} states/s")
    print(f"  reached: {', '.join(f'{name} {count:,}' for name, count in sorted(report.reached.items()))}")
    if report.breach:
        print(f"  BREACH {report.breach}")
        for line in tell(report.bounds, report.path):
            print(f"    {line}")
    return bool(report.breach)


def _prove_planted(names: list[str], seconds: float) -> int:
    missed = 0
    for name in names:
        with planted(name) as fault:
            report = explore(fault.bounds, fault.prefix, seconds_max=seconds)
        missed += not report.breach
        found = report.breach or "NOT FOUND"
        print(f"{name:40} {fault.rule}\n    {report.states:>9,} states, {report.seconds:5.1f} s: {found}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
