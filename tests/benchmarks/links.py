"""Commands and records through Link + Reception over the memory transport: µs per command each way.

    python -m tests.benchmarks.links [--profile] [--seconds 1.5]

A command of 100 bytes goes down, its record and its reply come up; the listening side decides at once, without a
journal, so that what is measured is the link alone. Batches are what one turn sends at once.
"""

import argparse
import asyncio
import cProfile
import json
import pstats
import time
from collections.abc import Callable, Sequence
from typing import Any

from engine.base.ids import START, Cursor
from engine.base.wire import Accepted, Identity, Raw, WireRecord, encode_message
from engine.ports import Clock, Transport
from engine.runtime.link import Link
from engine.runtime.reception import Reception
from engine.runtime.session import Session
from transports.memory import MemoryHub, MemoryTransport

COMMAND = encode_message(bytes(98))
BATCHES = (1, 16, 256)


class _Clock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000


class _World:
    """As much of a World as links need."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.clock: Clock = _Clock()
        self._transport = transport
        self._ids = 0

    def new_id(self) -> str:
        self._ids += 1
        return str(self._ids)

    def jitter(self, span_ms: int) -> int:
        return 0

    def transport(self, url: str) -> tuple[Transport, str]:
        return self._transport, url.partition("://")[2]


class _Lower:
    """Decides each command at once: one record (optional) and one reply."""

    def __init__(self, *, with_records: bool) -> None:
        self.with_records = with_records
        self.records: list[WireRecord] = []
        self.index = 0
        self.news = asyncio.Event()

    @property
    def tip(self) -> Cursor:
        return Cursor(self.index, 1 if self.index else 0)

    def reader(self, cursor: Cursor) -> "_Lower":
        return self

    async def next(self, records_max: int) -> Sequence[WireRecord]:
        while not self.records:
            self.news.clear()
            await self.news.wait()
        records = self.records[:records_max]
        del self.records[:records_max]
        return records

    def deliver(self, session: Session, number: int, raw: Raw, reply: Callable[[bytes], None]) -> None:
        self.index += 1
        if self.with_records:
            self.records.append(WireRecord(self.index, 1, COMMAND))
            self.news.set()
        reply(encode_message(Accepted(self.index, 0)))


async def measure(batch: int, seconds: float, *, with_records: bool) -> dict[str, Any]:
    """Send batches for a while, each when the one before is answered."""
    hub = MemoryHub()
    lower = _Lower(with_records=with_records)
    failures: list[BaseException] = []
    reception = Reception(
        _World(MemoryTransport(hub, "lower")),
        Identity("bench", "lower", "lower"),
        deliver=lower.deliver,
        source=lower,
        on_failure=failures.append,
    )
    await reception.open("memory://lower")
    link = Link(
        _World(MemoryTransport(hub, "upper")),
        ["memory://lower"],
        Identity("bench", "upper", "upper"),
        peer_role="lower",
        cursor=lambda: START,
        on_records=lambda records: link.acknowledge(Cursor(records[-1].index, 1)),
        on_failure=failures.append,
    )
    link.start()
    await link.until_coupled()
    answered = asyncio.Event()
    missing = 0

    def on_reply(_: object) -> None:
        nonlocal missing
        missing -= 1
        if not missing:
            answered.set()

    count = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        missing = batch
        answered.clear()
        for _ in range(batch):
            link.send(COMMAND, on_reply)
        await answered.wait()
        count += batch
    elapsed = time.perf_counter() - began
    await link.close()
    await reception.close()
    assert failures == []
    messages = count * (3 if with_records else 2)
    return {
        "batch": batch,
        "records": with_records,
        "commands_per_s": round(count / elapsed),
        "us_per_command": round(elapsed / count * 1e6, 2),
        "us_per_message": round(elapsed / messages * 1e6, 2),
    }


async def main(seconds: float) -> list[dict[str, Any]]:
    """Measure every batch size, with and without records."""
    modes = [(batch, with_records) for with_records in (False, True) for batch in BATCHES]
    return [await measure(batch, seconds, with_records=with_records) for batch, with_records in modes]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--seconds", type=float, default=1.5)
    options = parser.parse_args()
    if options.profile:
        profile = cProfile.Profile()
        profile.runcall(asyncio.run, measure(256, options.seconds, with_records=True))
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    else:
        for row in asyncio.run(main(options.seconds)):
            print(json.dumps(row))
