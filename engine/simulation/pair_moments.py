"""What the faults of a pair ask before they strike, and what several of them do. Floor 10."""

from collections.abc import Callable
from random import Random
from typing import Protocol

from engine.base.pair import Ownership
from engine.simulation.cluster import SimCluster
from engine.simulation.disk import QUICK
from engine.simulation.pairs import SimPair

LEASE_MS = 3_000.0  # a pause or a cut beyond it is noticed


class Storm(Protocol):
    """What these faults need of the one that causes them: engine.simulation.faults.Storm."""

    cluster: SimCluster
    random: Random
    is_fallen: bool
    counts: dict[str, int]

    def later(self, delay_ms: float, act: Callable[[], object]) -> None: ...
    def note(self, sentence: str) -> bool: ...


def owner_of(pair: SimPair) -> str:
    """The node that acts, or else the one that the register names."""
    acting = pair.acting()
    return acting.name if acting is not None else pair.owner() or pair.names[0]


def other_of(pair: SimPair, name: str) -> str:
    """The other node of the pair."""
    return pair.names[1 - pair.names.index(name)]


def span_ms(storm: Storm, most_ms: float) -> float:
    """Draw a span: half of them are beyond a lease."""
    low_ms = LEASE_MS if storm.random.random() < 0.5 else 0.0
    return storm.random.uniform(low_ms, most_ms)


def crash(storm: Storm, name: str, *, notice: bool) -> bool:
    """Crash a node for a while."""
    if storm.cluster.nodes[name].process is None:
        return False
    storm.cluster.crash(name, notice=notice)
    storm.later(span_ms(storm, 8_000), lambda: storm.cluster.boot(name))
    return True


def value_of(pair: SimPair) -> Ownership | None:
    """What the register holds of this pair at this instant."""
    found = [half.replica.who.cluster for _, half in pair.halves()]
    return pair.register.now(found[0]) if found else None


def is_spare(storm: Storm, pair: SimPair) -> bool:
    """Tell whether either disk may be lost: both are in sync and sound, and the register is sure of it."""
    if storm.is_fallen or not pair.has_two_copies():
        return False
    return not any(storm.cluster.nodes[name].disk.is_damaged for name in pair.names)


def is_calm(storm: Storm, pair: SimPair) -> bool:
    """Tell whether nothing else is wrong at this instant: what a rule promises then, it must do."""
    cluster, register = storm.cluster, pair.register
    is_sound = register.is_sound and not storm.is_fallen and cluster.network.is_sound
    return is_sound and all(cluster.is_up(name) and cluster.nodes[name].disk.pace == QUICK for name in pair.names)


def lives_of(storm: Storm, pair: SimPair) -> list[tuple[int, int]]:
    """Return which life each half is in: its processes, and its restarts inside them."""
    return [(storm.cluster.nodes[name].number, storm.cluster.nodes[name].restarts) for name in pair.names]


def both_know(pair: SimPair) -> bool:
    """Tell whether both nodes have persisted what the register holds, and nobody has asked it for anything else."""
    halves, value = pair.halves(), value_of(pair)
    known = [half.replica.me.cfg for _, half in halves]
    return len(halves) == len(pair.names) and not pair.register.under_way and all(cfg == value for cfg in known)
