"""A program that fills a journal and says on stdout what was acknowledged; tests kill it, starve it, cut its power.

Usage: append_script.py PATH UPTO [SYNCHRONOUS]
Lines: `open N` the journal ended at N; `acked N` everything up to N is durable; `snapshot N`; `fault …` the store
failed; `closed`.
"""

import asyncio
import os
import sys

from engine.journal import sqlite_store
from engine.journal.sqlite_store import SqliteStore, open_sqlite_store
from engine.ports import Entry, StoreFault
from tests.journal.stores import entries, snapshot_at

SMALL_CHECKPOINT_BYTES = 24_000  # so that a short run has all that a long one has


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


def batch(first: int) -> list[list[Entry]]:
    """Three records in two calls; the second call sets the cell to the index of its record."""
    return [entries(first, 2, size=200), entries(first + 2, 1, size=200)]


async def append(store: SqliteStore) -> None:
    two, one = batch(store.tip.index + 1)
    mark = {"cell": b"%d" % one[0].index}
    for call in [asyncio.ensure_future(store.append(two)), asyncio.ensure_future(store.append(one, mark))]:
        say(f"acked {(await call).index}")


async def run(path: str, upto: int, synchronous: str) -> None:
    store = await open_sqlite_store(path, synchronous=synchronous)
    try:
        tip = store.tip.index
        say(f"open {tip}")
        if tip % 3:  # only the first call of a pair arrived
            one = entries(tip + 1, 3 - tip % 3, size=200)
            say(f"acked {(await store.append(one, {'cell': b'%d' % one[-1].index})).index}")
        while store.tip.index < upto:
            await append(store)
            if store.tip.index % 21 == 0:
                at = store.tip
                await asyncio.gather(store.add_snapshot(snapshot_at(at, b"%d " % at.index * 4_000)), append(store))
                await store.trim(at.index - 15)
                say(f"snapshot {at.index}")
    finally:
        await store.close()
    say("closed")


def main() -> int:
    sqlite_store.CHECKPOINT_BYTES = SMALL_CHECKPOINT_BYTES
    path, upto = sys.argv[1], int(sys.argv[2])
    try:
        asyncio.run(run(path, upto, sys.argv[3] if len(sys.argv) > 3 else "FULL"))
    except StoreFault as fault:
        say(f"fault {fault}")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
