"""Runs seeds in a process of its own and prints a JSON line for each: `python -m tests.sim.batch FIRST STEP BEHIND`."""

import json
import sys

from tests.sim.runs import run_seed


def main(first: int, step: int, behind: int) -> None:
    for seed in range(first, behind, step):
        report = run_seed(seed)
        line = {"seed": seed, "breaches": report.breaches[:20], "met": sorted(report.met), "messages": report.messages}
        sys.stdout.write(json.dumps(line | {"faults": report.faults}) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
