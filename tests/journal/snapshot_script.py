"""The program of a snapshot's process, with a state that is the sum of all lengths. Usage: JOURNAL UPTO OUT [DEED]."""

import os
import signal
import sys
from collections.abc import Iterable

from engine.journal.snapshots import make_snapshot_file
from engine.ports import Record, Snapshot


def total(saved: Snapshot | None, records: Iterable[Record]) -> bytes:
    size = int(saved.state) if saved else 0
    for record in records:
        size += len(record.events)
    return b"%d" % size


def main() -> None:
    journal, upto, out, deed = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    if deed == "fail":
        sys.stderr.write("x" * 100_000 + " the last words\n")
        sys.exit(7)
    if deed == "hang":
        signal.pause()
    if deed == "garbage":
        with open(out, "wb") as file:
            file.write(os.urandom(1_000))
        return
    if deed == "nothing":
        return
    make_snapshot_file(journal, upto - (deed == "lower"), out, total)
    if deed == "torn":
        os.truncate(out, os.path.getsize(out) - 1)


main()
