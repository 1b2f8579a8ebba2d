"""What a seed came to, and what many seeds came to together. Floor 10."""

from collections import Counter
from collections.abc import Mapping

import msgspec

FAILOVER = ": failover"  # so end the names of the conditions, whichever pair it is
KINDS_SHOWN_MAX = 12
ENDINGS_SHOWN_MAX = 5
HOUR_S = 3_600.0


class SeedReport(msgspec.Struct, kw_only=True):
    """What one seed came to. `found` is empty when everything held."""

    seed: int
    found: list[str] = []
    asked: dict[str, bool] = {}  # by `sometimes`: whether it was met
    met: dict[str, int] = {}  # conditions of our own catalogue, and how often
    faults: dict[str, int] = {}  # kind → how often
    endings: dict[str, int] = {}  # how orders ended → how many
    messages: int = 0
    processes: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    digest: str = ""


class Totals:
    """What many seeds came to."""

    def __init__(self) -> None:
        self.seeds = 0
        self.messages = self.processes = self.steps = 0
        self.virtual_s = self.cpu_s = 0.0
        self.asked: dict[str, bool] = {}
        self.met: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()

    def add(self, report: SeedReport) -> None:
        """Count a seed."""
        self.seeds += 1
        self.messages += report.messages
        self.processes += report.processes
        self.steps += report.steps
        self.virtual_s += report.virtual_s
        self.cpu_s += report.cpu_s
        for what, was_met in report.asked.items():
            self.asked[what] = self.asked.get(what, False) or was_met
        self.met.update(report.met)
        self.faults.update(report.faults)
        self.endings.update(report.endings)

    @property
    def failovers(self) -> int:
        """How often the other node of a pair began to act."""
        return sum(count for name, count in self.met.items() if name.endswith(FAILOVER))

    @property
    def hours_per_hour(self) -> float:
        """How many hours of a cluster one hour of a processor simulates."""
        return self.virtual_s / self.cpu_s if self.cpu_s else 0.0

    def never(self) -> list[str]:
        """What was asked by `sometimes` and met by no seed."""
        return [what for what, was_met in self.asked.items() if not was_met]

    def lines(self) -> list[str]:
        """Say it to a person."""
        pace = f"in {self.cpu_s:.1f} s of a processor ({self.hours_per_hour:,.0f} times as fast)"
        seen = (_count(self.messages, "message"), _count(self.processes, "process", "processes"))
        return [
            f"{_count(self.seeds, 'seed')}: {self.virtual_s / HOUR_S:.2f} hours of a cluster {pace}",
            ", ".join((*seen, _count(self.failovers, "failover"))),
            f"{_count(self.faults.total(), 'fault')}{_ranked(self.faults, KINDS_SHOWN_MAX)}",
            f"{_count(self.endings.total(), 'order')}{_ranked(self.endings, ENDINGS_SHOWN_MAX)}",
            *(f"{'met' if was_met else 'NEVER MET'}: {what}" for what, was_met in self.asked.items()),
        ]

    def figures(self) -> dict[str, object]:
        """Say it to a program."""
        return {
            "seeds": self.seeds,
            "virtual_hours": round(self.virtual_s / HOUR_S, 4),
            "cpu_seconds": round(self.cpu_s, 3),
            "hours_per_cpu_hour": round(self.hours_per_hour, 1),
            "messages": self.messages,
            "processes": self.processes,
            "steps": self.steps,
            "failovers": self.failovers,
            "faults": dict(self.faults.most_common()),
            "orders": dict(self.endings.most_common()),
            "sometimes": self.asked,
            "met": dict(self.met.most_common()),
        }


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _ranked(counts: Mapping[str, int], most: int) -> str:
    """Write the most frequent first."""
    ranked = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    shown = [f"{name} {count:,}" for name, count in ranked[:most]]
    if len(ranked) > most:
        shown.append(f"and {len(ranked) - most} other kinds")
    return f": {', '.join(shown)}" if shown else ""
