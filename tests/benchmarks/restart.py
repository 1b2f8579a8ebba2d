"""P8: how long a node needs to be there again, with so many events after its last snapshot.

    python -m tests.benchmarks.restart ROLE STATE     (controller or agent; prints one line of JSON)

* The journal is made by the engine itself, running orders with snapshots put off; so records are as long as in life.
* Each restart is a process of its own. Its time goes from `boot` to the answer to a client's query (controller) or to
  an open listener (agent), and is scaled to a million events.
* Beside it the parts, each alone and in one thread: reading rows, reading and checking hashes, decoding, applying.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

from engine.base.codec import unpack
from engine.boot import boot_agent, boot_controller
from engine.client.client import Client
from engine.embed import CLUSTER, Engine
from engine.journal.record import EMPTY_TIP, check
from engine.journal.sqlite_read import connect_reader
from engine.language import standard_language
from engine.ports import Machine, Record
from engine.real import RealPlace
from engine.snapshot import machine_for
from tests.benchmarks.measure import Bench, Stuck, bounded
from tests.benchmarks.orders import CALLABLES, PARALLEL_MAX, one, run_orders

EVENTS_PER_ORDER = 9  # of a one-step order, in the controller's journal; how many there are is counted
NODES = {"controller": ("controller", "controller"), "agent": ("local", "agent-local")}  # role → node, folder
NEVER = 1 << 60
CHILD_S_MAX = 300
PARTS = ("read_s", "check_s", "decode_s", "apply_s")


def fill(bench: Bench) -> Path:
    """Make journals with enough events and no snapshot; returns the state folder."""
    bench.progress.say("P8: filling the journals")
    state = bench.folder("restart")
    asyncio.run(_fill(bench, state))
    return state


async def _fill(bench: Bench, state: Path) -> None:
    orders = -(-bench.plan.restart_events // EVENTS_PER_ORDER)
    async with (
        bounded("filling the journals", 1_800),
        Engine(state, callables=CALLABLES, parallel_max=PARALLEL_MAX, snapshot_every_records=NEVER) as engine,
    ):
        await engine.deploy(one())
        await run_orders(
            engine, one().name, 0, orders, bench.plan.in_flight, lambda done: bench.progress.at(done, orders)
        )


def measure_restart(bench: Bench, state: Path) -> None:
    """Restart each node once."""
    for role in NODES:
        bench.progress.say(f"P8 {role}")
        found = restart_in_child(role, state)
        scale = 1e6 / found["events"]
        bench.put(f"P8 {role}", found["ready_s"] * scale)
        bench.put(f"P8 {role}, events", found["events"])
        for part in PARTS:
            bench.put(f"P8 {role}, {part.removesuffix('_s')}", found[part] * scale)


def restart_in_child(role: str, state: Path) -> dict[str, float]:
    """Restart one node in a process of its own."""
    root = Path(__file__).resolve().parents[2]
    argv = [sys.executable, "-m", "tests.benchmarks.restart", role, str(state)]
    done = subprocess.run(
        argv, cwd=root, env={**os.environ}, capture_output=True, text=True, timeout=CHILD_S_MAX, check=False
    )
    if done.returncode:
        raise Stuck(f"the restart of the {role} failed: {done.stderr.strip()[-500:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


async def restart(role: str, state: Path) -> float:
    """Boot a node as the engine does; returns the seconds until it is there."""
    place = RealPlace(state)
    node, folder = NODES[role]
    failures: list[BaseException] = []
    try:
        began = time.perf_counter()
        world = place.node_world(node, folder)
        if role == "agent":
            agent = await boot_agent(world, "memory://agent", CLUSTER, failures.append, snapshot_every_records=NEVER)
            ready_s = time.perf_counter() - began
            await agent.close()
        else:
            controller = await boot_controller(
                world, "memory://controller", CLUSTER, failures.append, snapshot_every_records=NEVER
            )
            client = Client(place.world("client"), ("memory://controller",), CLUSTER, standard_language())
            await client.open()
            await client.status()
            ready_s = time.perf_counter() - began
            await client.close()
            await controller.close()
    finally:
        place.close()
    if failures:
        raise failures[0]
    return ready_s


def parts_of(role: str, path: Path) -> dict[str, float]:
    """Measure the parts of a recovery one by one, from the very rows that were kept."""
    node, _ = NODES[role]
    machine: Machine[Any, Any, Any, Any] = machine_for(role, node)
    state = machine.blank()
    read_s, rows = _timed(lambda: _rows(path))
    records = [Record(*row) for row in rows]
    check_s, _ = _timed(lambda: check(EMPTY_TIP, records))
    decode_s, decoded = _timed(lambda: [machine.decode_events(record.events) for record in records])

    def apply() -> None:
        for index, found in zip(count(1), decoded, strict=False):
            for event in found:
                machine.apply(state, event, index)

    apply_s, _ = _timed(apply)
    events = sum(len(unpack(record.events)) for record in records)
    return {"events": events, "read_s": read_s, "check_s": check_s, "decode_s": decode_s, "apply_s": apply_s}


def _rows(path: Path) -> list[tuple[Any, ...]]:
    with closing(connect_reader(str(path))) as connection:
        sql = "SELECT number, epoch, events, marks, hash FROM record ORDER BY number"
        return connection.execute(sql).fetchall()


def _timed(act: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = act()
    return time.perf_counter() - began, result


if __name__ == "__main__":
    chosen, folder = sys.argv[1], Path(sys.argv[2])
    ready = asyncio.run(restart(chosen, folder))
    print(json.dumps({"ready_s": ready, **parts_of(chosen, folder / NODES[chosen][1] / "journal.db")}))
