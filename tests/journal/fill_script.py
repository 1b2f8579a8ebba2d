"""A program that fills a small disk with a journal until it is full, then makes room and goes on. Usage: FOLDER.

Prints `full: SENTENCE`, `kept N of N` after opening it again, `went on to N`.
"""

import asyncio
import os
import shutil
import sys
from pathlib import Path

from engine.journal.inspect import verify
from engine.journal.sqlite_store import open_sqlite_store
from engine.ports import StoreFault
from tests.journal.stores import contents, entries, everything


async def main(folder: Path) -> None:
    path, ballast = str(folder / "journal.db"), folder / "ballast"
    # As much as the write-ahead log can take: it is carried over before anything new is written.
    ballast.write_bytes(bytes(shutil.disk_usage(folder).total // 2))
    store = await open_sqlite_store(path)
    acked = 0
    sentences = set()
    try:
        while True:
            calls = [store.append(entries(acked + 1 + number, 1, size=3_000)) for number in range(5)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            sentences |= {str(one) for one in results if isinstance(one, StoreFault)}
            acked = max([acked, *(one.index for one in results if not isinstance(one, BaseException))])
            if sentences:
                break
    finally:
        await store.close()
    ballast.unlink()
    say(f"full: {' | '.join(sorted(sentences))}")
    assert verify(path).fault is None
    store = await open_sqlite_store(path)
    records = await everything(store)
    assert contents(records) == contents(entries(1, len(records), size=3_000))
    say(f"kept {min(len(records), acked)} of {acked}")
    tip = await store.append(entries(store.tip.index + 1, 20, size=3_000))
    await store.close()
    say(f"went on to {tip.index - len(records)} more")


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


asyncio.run(main(Path(sys.argv[1])))
