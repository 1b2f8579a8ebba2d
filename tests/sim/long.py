"""Long runs: seeds in several processes until the time is over, with the figures: python -m tests.sim --seconds 600.

* Every half minute one line says how far it is; a breach is printed at once, with its seed; at the end comes one line
  of JSON. The process ends with 1 if anything was breached, or if the run was to meet everything and did not.
* A state is one cluster at one instant: the roles and epochs of its nodes, how each order stands, what runs. It is
  looked at after every fourth durable event, its digest has 60 bits. Distinct ones are counted with a register of
  the highest ranks (HyperLogLog, 2^14 registers: an error of 0.8 %), so the memory is bounded whatever the number.
"""

import argparse
import json
import math
import multiprocessing
import queue
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count
from typing import Any

from engine.simulation.cluster import SimCluster
from engine.simulation.coverage import CATALOGUE, PAIR_CATALOGUE, Coverage
from engine.simulation.director_pairs import DIRECTORS_CATALOGUE
from tests.sim.pair_runs import DIRECTORS_DRAWN, PAIR_DRAWN
from tests.sim.runs import DRAWN, Plan, Report, run_seed

TOLD_S = 30.0
LOOK_EVENTS = 4  # a look costs half as much as an event
BITS = 14  # of a digest that choose the register
DIGEST_BITS = 60
SHOWN_MAX = 6  # breaches of one seed
KINDS: dict[str, tuple[Plan, dict[str, str]]] = {  # in turn, unless one is chosen
    "single": (DRAWN, CATALOGUE),
    "pairs": (PAIR_DRAWN, PAIR_CATALOGUE),
    "directors": (DIRECTORS_DRAWN, DIRECTORS_CATALOGUE),
}


class Distinct:
    """About how many different digests there were."""

    def __init__(self, ranks: bytes | None = None) -> None:
        self.ranks = bytearray(ranks or bytes(1 << BITS))

    def add(self, digest: int) -> None:
        """Take one in."""
        place, rest = digest >> (DIGEST_BITS - BITS), digest & ((1 << (DIGEST_BITS - BITS)) - 1)
        self.ranks[place] = max(self.ranks[place], DIGEST_BITS - BITS - rest.bit_length() + 1)

    def merge(self, ranks: bytes) -> None:
        """Take in what another process has seen."""
        self.ranks = bytearray(map(max, self.ranks, ranks))

    def __len__(self) -> int:
        places = 1 << BITS
        estimate = 0.7213 / (1 + 1.079 / places) * places * places / sum(2.0**-rank for rank in self.ranks)
        empty = self.ranks.count(0)
        return round(places * math.log(places / empty) if empty and estimate < 2.5 * places else estimate)


def state_of(cluster: SimCluster) -> int:
    """Return a digest of what the cluster is doing at this instant."""
    seen: list[Any] = []
    for node in cluster.nodes.values():
        half = node.pair_node
        seen += [node.name, node.paused, node.process is None, node.actor is None]
        if half is not None:
            me = half.replica.me
            seen += [me.role, me.epoch, me.log_epoch, me.register_lost, me.writing]
        if node.loop is not None:
            state = node.loop.state
            seen += [
                (str(one.id), one.state, str(one.position), one.attachment, one.mark) for one in state.orders.values()
            ]
        seen += [group.key for group in node.machine.running()]
    return int.from_bytes(blake2b(repr(seen).encode(), digest_size=8).digest()) >> (64 - DIGEST_BITS)


@dataclass
class Account:
    """What a process has done since it told last."""

    seeds: int = 0
    sql: int = 0
    messages: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    breaches: list[tuple[int, str, list[str]]] = field(default_factory=list)
    ranks: bytes = b""

    def add(self, report: Report, kind: str) -> None:
        """Take in one seed."""
        self.seeds += 1
        self.sql += report.has_sql
        self.messages += report.messages
        self.steps += report.steps
        self.virtual_s += report.virtual_s
        self.faults.update(report.injected)
        self.met.update(report.met.keys())
        if report.breaches:
            self.breaches.append((report.seed, kind, report.breaches[:SHOWN_MAX]))

    def merge(self, other: "Account") -> None:
        """Take in what another process tells."""
        for name in ("seeds", "sql", "messages", "steps", "virtual_s", "cpu_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.faults.update(other.faults)
        self.met.update(other.met)
        self.breaches += other.breaches


def work(first: int, stride: int, kinds: tuple[str, ...], seconds: float, told: Any) -> None:
    """Run seeds until the time is over, at least one, and tell of each."""
    distinct, seed, events, end = Distinct(), first, count(), time.monotonic() + seconds
    while True:
        kind, began, account = kinds[seed // stride % len(kinds)], time.process_time(), Account()

        def watch(cluster: SimCluster, _report: Report) -> None:
            def look(*_: object) -> None:
                if next(events) % LOOK_EVENTS == 0:
                    distinct.add(state_of(cluster))

            cluster.lookout.also(on_event=look)

        account.add(run_seed(seed, KINDS[kind][0], watch=watch), kind)
        account.cpu_s = time.process_time() - began
        account.ranks = bytes(distinct.ranks)
        told.put(account)
        seed += stride
        if time.monotonic() >= end:
            break
    told.put(None)


def summary(total: Account, distinct: Distinct, wall_s: float, holes: list[str]) -> dict[str, Any]:
    """Return the figures."""
    cpu_s = max(total.cpu_s, 1e-9)
    return {
        "seeds": total.seeds,
        "seeds_with_sql": total.sql,
        "messages": total.messages,
        "messages_per_cpu_s": round(total.messages / cpu_s),
        "steps": total.steps,
        "faults": sum(total.faults.values()),
        "faults_by_kind": dict(total.faults.most_common()),
        "distinct_states": len(distinct),
        "cluster_hours": round(total.virtual_s / 3_600, 3),
        "cluster_hours_per_cpu_hour": round(total.virtual_s / cpu_s, 1),
        "wall_s": round(wall_s, 1),
        "cpu_s": round(cpu_s, 1),
        "holes": holes,
        "breaches": [{"seed": seed, "kind": kind, "breaches": found} for seed, kind, found in total.breaches],
    }


def tell(figures: dict[str, Any]) -> None:
    """Say how far it is, in one line."""
    kinds = ", ".join(f"{name} {count}" for name, count in figures["faults_by_kind"].items())
    sys.stdout.write(
        f"{figures['wall_s']:.0f} s: {figures['seeds']} seeds, {figures['messages']} messages"
        f" ({figures['messages_per_cpu_s']} per CPU second), {figures['distinct_states']} distinct states,"
        f" {figures['cluster_hours_per_cpu_hour']} cluster hours per CPU hour, {len(figures['holes'])} holes,"
        f" {len(figures['breaches'])} seeds with breaches; faults: {kinds}\n"
    )
    sys.stdout.flush()


def main(argv: list[str] | None = None) -> int:
    """Run, tell, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Run simulated clusters for a long time.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long")
    parser.add_argument("--processes", type=int, default=2, help="how many at once")
    parser.add_argument("--first", type=int, default=1_000_000, help="the first seed")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only such clusters; may be given again")
    parser.add_argument(
        "--whole", action="store_true", help="fail also when a condition of the catalogue was never met"
    )
    asked = parser.parse_args(argv)
    kinds = tuple(asked.kind or KINDS)
    began = time.monotonic()
    context = multiprocessing.get_context("spawn")
    told: Any = context.Queue()
    workers = [
        context.Process(target=work, args=(asked.first + one, asked.processes, kinds, asked.seconds, told))
        for one in range(asked.processes)
    ]
    for worker in workers:
        worker.start()
    wanted = {name: what for kind in kinds for name, what in KINDS[kind][1].items()}
    figures = _gather(told, len(workers), workers, wanted, began)
    for worker in workers:
        worker.join()
    sys.stdout.write(json.dumps(figures) + "\n")
    died = [worker.exitcode for worker in workers if worker.exitcode]
    return int(bool(figures["breaches"] or died or (asked.whole and figures["holes"])))


def _gather(told: Any, running: int, workers: list[Any], wanted: dict[str, str], began: float) -> dict[str, Any]:
    total, distinct, coverage, due = Account(), Distinct(), Coverage(), began + TOLD_S

    def figures() -> dict[str, Any]:
        return summary(total, distinct, time.monotonic() - began, coverage.missing(wanted))

    while running:
        try:
            account = told.get(timeout=1.0)
        except queue.Empty:
            if not any(worker.is_alive() for worker in workers):
                break
            continue
        if account is None:
            running -= 1
            continue
        total.merge(account)
        distinct.merge(account.ranks)
        coverage.merge(account.seeds, account.met)
        for seed, kind, found in account.breaches:
            sys.stdout.write("\n".join([f"seed {seed} of {kind}:", *found, ""]))
            sys.stdout.flush()
        if time.monotonic() >= due:
            due = time.monotonic() + TOLD_S
            tell(figures())
    return figures()
