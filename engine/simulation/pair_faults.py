"""Faults of a pair: what happens to two controllers, between them, and between them and their register. Floor 10."""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, Protocol

from engine.rules.pair.state import Role
from engine.simulation.cluster import SimCluster
from engine.simulation.disk import QUICK, DiskPace
from engine.simulation.pairs import SimPair
from engine.simulation.register import FLAKY, SOUND, RegisterFaults

CUT_MS_MAX = 12_000.0
PAUSE_MS_MAX = 12_000.0
DOWN_MS_MAX = 10_000.0
LEASE_MS = 3_000.0  # a pause or a cut beyond it is noticed
FAR = RegisterFaults(delay_ms_min=50, delay_ms_max=900)
HUNG = DiskPace(fsync_ms_min=4_000, fsync_ms_max=14_000)


class Storm(Protocol):
    """What these faults need of the one that causes them: engine.simulation.faults.Storm."""

    cluster: SimCluster
    random: Random

    def later(self, delay_ms: float, act: Callable[[], object]) -> None: ...
    def note(self, sentence: str) -> bool: ...


PairFault = Callable[[Storm, Any], bool]


def _owner(pair: SimPair) -> str:
    """The node that acts, or else the one that the register names."""
    acting = pair.acting()
    return acting.name if acting is not None else pair.owner() or pair.names[0]


def _other(pair: SimPair, name: str) -> str:
    return pair.names[1 - pair.names.index(name)]


def _span_ms(storm: Storm, most_ms: float) -> float:
    """Draw a span: half of them are beyond a lease."""
    low_ms = LEASE_MS if storm.random.random() < 0.5 else 0.0
    return storm.random.uniform(low_ms, most_ms)


def _crash(storm: Storm, name: str, *, notice: bool) -> bool:
    if storm.cluster.nodes[name].process is None:
        return False
    storm.cluster.crash(name, notice=notice)
    storm.later(_span_ms(storm, 8_000), lambda: storm.cluster.boot(name))
    return True


def _crash_active(storm: Storm, pair: SimPair) -> bool:
    return _crash(storm, _owner(pair), notice=storm.random.random() < 0.7)


def _crash_standby(storm: Storm, pair: SimPair) -> bool:
    return _crash(storm, _other(pair, _owner(pair)), notice=storm.random.random() < 0.7)


def _crash_joining(storm: Storm, pair: SimPair) -> bool:
    """Crash one of both in the moment of the join, if there is one now; else look again a few times."""
    name = storm.random.choice(pair.names)

    def look(times: int) -> None:
        if any(half.replica.me.role is Role.JOINING for _, half in pair.halves()):
            _crash(storm, name, notice=True)
        elif times:
            storm.later(2, lambda: look(times - 1))

    storm.later(0, lambda: look(2_000))
    return storm.note(f"{name} is to crash during the next join")


def _crash_both(storm: Storm, pair: SimPair) -> bool:
    done = [_crash(storm, name, notice=storm.random.random() < 0.5) for name in pair.names]
    return any(done)


def _pause_active(storm: Storm, pair: SimPair) -> bool:
    name, cluster = _owner(pair), storm.cluster
    if not cluster.is_up(name):
        return False
    cluster.pause(name)
    storm.later(_span_ms(storm, PAUSE_MS_MAX), lambda: cluster.resume(name))
    return True


def _cut_pair(storm: Storm, pair: SimPair) -> bool:
    """Cut between both: one way or both ways."""
    one, other = storm.random.sample(pair.names, 2)
    network, span_ms = storm.cluster.network, _span_ms(storm, CUT_MS_MAX)
    ways = storm.random.choice(("from", "between"))
    if ways == "between":
        network.cut(one, other)
    else:
        network.cut_one_way(one, other)
    storm.later(span_ms, lambda: network.heal_between(one, other))
    return storm.note(f"cut {ways} {one} {other} for {span_ms:.0f} ms")


def _cut_agents(storm: Storm, pair: SimPair) -> bool:
    """Cut one of both from all agents, the clients too: it may act, and reaches nobody."""
    name, network, span_ms = storm.random.choice(pair.names), storm.cluster.network, _span_ms(storm, CUT_MS_MAX)
    others = [one for one in (*storm.cluster.agents, "client") if storm.random.random() < 0.8]
    network.partition([name], others)
    for other in others:
        storm.later(span_ms, partial(network.heal_between, name, other))
    return storm.note(f"cut between {name} and {' '.join(others)} for {span_ms:.0f} ms")


def _clog_pair(storm: Storm, pair: SimPair) -> bool:
    one, other = storm.random.sample(pair.names, 2)
    span_ms = _span_ms(storm, 6_000)
    storm.cluster.network.clog(one, other, span_ms)
    return storm.note(f"clog from {one} to {other} for {span_ms:.0f} ms")


def _reset_pair(storm: Storm, pair: SimPair) -> bool:
    return storm.cluster.network.reset(*pair.names) > 0


def _cut_register(storm: Storm, pair: SimPair) -> bool:
    name, span_ms = storm.random.choice(pair.names), _span_ms(storm, CUT_MS_MAX)
    pair.register.cut(name)
    storm.later(span_ms, lambda: pair.register.heal(name))
    return storm.note(f"cut between {name} and the register for {span_ms:.0f} ms")


def _register_down(storm: Storm, pair: SimPair) -> bool:
    span_ms = _span_ms(storm, DOWN_MS_MAX)
    pair.register.go_down(span_ms)
    return storm.note(f"the register is down for {span_ms:.0f} ms")


def _register_flaky(storm: Storm, pair: SimPair) -> bool:
    pair.register.faults = FLAKY
    storm.later(_span_ms(storm, 15_000), lambda: setattr(pair.register, "faults", SOUND))
    return storm.note("the register loses questions and answers, and is slow")


def _register_down_and_crash(storm: Storm, pair: SimPair) -> bool:
    """The one failure of two at once for which the page promises nothing but safety."""
    return _register_down(storm, pair) and _crash(storm, storm.random.choice(pair.names), notice=True)


def _race(storm: Storm, pair: SimPair) -> bool:
    """Cut between both while the register is slow: both ask for the pair, and one of them comes too late."""
    one, other = pair.names
    span_ms = storm.random.uniform(5_000, CUT_MS_MAX)
    storm.cluster.network.cut(one, other)
    pair.register.faults = FAR
    storm.later(span_ms, lambda: storm.cluster.network.heal_between(one, other))
    storm.later(span_ms, lambda: setattr(pair.register, "faults", SOUND))
    return storm.note(f"cut between {one} and {other} for {span_ms:.0f} ms, the register is far")


def _isolate_active(storm: Storm, pair: SimPair) -> bool:
    """Cut the active from its peer and from the register; agents and clients still hear it."""
    name = _owner(pair)
    other, span_ms = _other(pair, name), _span_ms(storm, CUT_MS_MAX)
    storm.cluster.network.cut(name, other)
    pair.register.cut(name)
    storm.later(span_ms, lambda: storm.cluster.network.heal_between(name, other))
    storm.later(span_ms, lambda: pair.register.heal(name))
    return storm.note(f"{name} is cut from {other} and the register for {span_ms:.0f} ms")


def _hung_disk(storm: Storm, pair: SimPair) -> bool:
    """An fsync that takes longer than a beat may be good, or longer than an owner waits."""
    name = storm.random.choice(pair.names)
    disk = storm.cluster.nodes[name].disk
    disk.pace = HUNG
    storm.later(_span_ms(storm, 8_000), lambda: setattr(disk, "pace", QUICK))
    return storm.note(f"the fsyncs of {name} hang")


def _snapshot_alone(storm: Storm, pair: SimPair) -> bool:
    """Let the owner trim its journal while the other node is away for long: that one needs a snapshot then."""
    name = _other(pair, _owner(pair))
    storm.cluster.crash(name)
    storm.later(storm.random.uniform(5_000, 8_000), lambda: storm.cluster.snapshot_soon(_owner(pair)))
    storm.later(storm.random.uniform(8_000, 12_000), lambda: storm.cluster.boot(name))
    return storm.note(f"{name} is away until a snapshot is made")


def _empty_disk(storm: Storm, pair: SimPair) -> bool:
    """Put an empty disk in place of one (R16); not while it may be the only one with everything."""
    name = storm.random.choice(pair.names)
    if not pair.has_two_copies():
        return False
    storm.cluster.crash(name)
    storm.cluster.nodes[name].disk.replace()
    storm.later(_span_ms(storm, 6_000), lambda: storm.cluster.boot(name))
    return storm.note(f"the disk of {name} is replaced by an empty one")


def _switch_over(storm: Storm, pair: SimPair) -> bool:
    return pair.switch_over() and storm.note("a switch-over is asked for")


PAIR_FAULTS: dict[str, PairFault] = {
    "crash active": _crash_active,
    "crash standby": _crash_standby,
    "crash joining": _crash_joining,
    "crash both": _crash_both,
    "pause active": _pause_active,
    "cut pair": _cut_pair,
    "cut agents": _cut_agents,
    "clog pair": _clog_pair,
    "reset pair": _reset_pair,
    "cut register": _cut_register,
    "register down": _register_down,
    "register flaky": _register_flaky,
    "register down and crash": _register_down_and_crash,
    "race": _race,
    "isolate active": _isolate_active,
    "hung disk": _hung_disk,
    "snapshot alone": _snapshot_alone,
    "empty disk": _empty_disk,
    "switch over": _switch_over,
}

PAIR_WEIGHTS: dict[str, float] = {
    "crash active": 4,
    "crash standby": 2,
    "crash joining": 2,
    "crash both": 1,
    "pause active": 4,
    "cut pair": 5,
    "cut agents": 2,
    "clog pair": 2,
    "reset pair": 2,
    "cut register": 2,
    "register down": 2,
    "register flaky": 2,
    "register down and crash": 1,
    "race": 2,
    "isolate active": 3,
    "hung disk": 1,
    "snapshot alone": 1,
    "empty disk": 1,
    "switch over": 2,
}
