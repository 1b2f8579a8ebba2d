"""Faults of a pair: what happens to two controllers, between them, and between them and their register. Floor 10."""

import errno
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from engine.base.wire import FEATURE_LEVEL
from engine.pair.cells import FEATURE
from engine.rules.pair.state import Role
from engine.simulation.disk import QUICK, DiskPace
from engine.simulation.node import CLIENT
from engine.simulation.pair_losses import LOSS_WEIGHTS, LOSSES
from engine.simulation.pair_moments import (
    Storm,
    both_know,
    crash,
    is_calm,
    is_spare,
    lives_of,
    other_of,
    owner_of,
    span_ms,
)
from engine.simulation.pairs import SimPair
from engine.simulation.register import FLAKY, SOUND, RegisterFaults

CUT_MS_MAX = 12_000.0
PAUSE_MS_MAX = 12_000.0
DOWN_MS_MAX = 10_000.0
LOOKED_MS = 4_000.0  # after which it is seen whether a fault was met
DRIFT_PPM_MAX = 500
HOUR_MS = 3_600_000
STUCK_MS = 11_000.0  # within which the beats of an owner that can not write have turned bad, and the other follows
NEWER = FEATURE_LEVEL + 1
FALSE_STALE_MS = 1_500.0  # within which the register has been asked
FAR = RegisterFaults(delay_ms_min=300, delay_ms_max=900)
STUCK = DiskPace(fsync_ms_min=20_000, fsync_ms_max=20_000)
HUNG = DiskPace(fsync_ms_min=4_000, fsync_ms_max=14_000)


PairFault = Callable[[Storm, Any], bool]


def _crash_active(storm: Storm, pair: SimPair) -> bool:
    return crash(storm, owner_of(pair), notice=storm.random.random() < 0.7)


def _crash_standby(storm: Storm, pair: SimPair) -> bool:
    return crash(storm, other_of(pair, owner_of(pair)), notice=storm.random.random() < 0.7)


def _crash_joining(storm: Storm, pair: SimPair) -> bool:
    """Crash one of both in the moment of the join, if there is one now; else look again a few times."""
    name = storm.random.choice(pair.names)

    def look(times: int) -> None:
        if any(half.replica.me.role is Role.JOINING for _, half in pair.halves()):
            crash(storm, name, notice=True)
        elif times:
            storm.later(2, lambda: look(times - 1))

    storm.later(0, lambda: look(2_000))
    return storm.note(f"{name} is to crash during the next join")


def _crash_both(storm: Storm, pair: SimPair) -> bool:
    done = [crash(storm, name, notice=storm.random.random() < 0.5) for name in pair.names]
    return any(done)


def _pause_active(storm: Storm, pair: SimPair) -> bool:
    name, cluster = owner_of(pair), storm.cluster
    if not cluster.is_up(name):
        return False
    cluster.pause(name)
    storm.later(span_ms(storm, PAUSE_MS_MAX), lambda: cluster.resume(name))
    return True


def _cut_pair(storm: Storm, pair: SimPair) -> bool:
    """Cut between both: one way or both ways."""
    one, other = storm.random.sample(pair.names, 2)
    network, lasts_ms = storm.cluster.network, span_ms(storm, CUT_MS_MAX)
    ways = storm.random.choice(("from", "between"))
    if ways == "between":
        network.cut(one, other)
    else:
        network.cut_one_way(one, other)
    storm.later(lasts_ms, lambda: network.heal_between(one, other))
    return storm.note(f"cut {ways} {one} {other} for {lasts_ms:.0f} ms")


def _cut_agents(storm: Storm, pair: SimPair) -> bool:
    """Cut one of both from all agents, the clients too: it may act, and reaches nobody."""
    name, network, lasts_ms = storm.random.choice(pair.names), storm.cluster.network, span_ms(storm, CUT_MS_MAX)
    others = [one for one in (*storm.cluster.agents, "client") if storm.random.random() < 0.8]
    network.partition([name], others)
    for other in others:
        storm.later(lasts_ms, partial(network.heal_between, name, other))
    return storm.note(f"cut between {name} and {' '.join(others)} for {lasts_ms:.0f} ms")


def _clog_pair(storm: Storm, pair: SimPair) -> bool:
    one, other = storm.random.sample(pair.names, 2)
    lasts_ms = span_ms(storm, 6_000)
    storm.cluster.network.clog(one, other, lasts_ms)
    return storm.note(f"clog from {one} to {other} for {lasts_ms:.0f} ms")


def _reset_pair(storm: Storm, pair: SimPair) -> bool:
    return storm.cluster.network.reset(*pair.names) > 0


def _cut_register(storm: Storm, pair: SimPair) -> bool:
    name, lasts_ms = storm.random.choice(pair.names), span_ms(storm, CUT_MS_MAX)
    pair.register.cut(name)
    storm.later(lasts_ms, lambda: pair.register.heal(name))
    return storm.note(f"cut between {name} and the register for {lasts_ms:.0f} ms")


def _register_down(storm: Storm, pair: SimPair) -> bool:
    lasts_ms = span_ms(storm, DOWN_MS_MAX)
    pair.register.go_down(lasts_ms)
    return storm.note(f"the register is down for {lasts_ms:.0f} ms")


def _register_flaky(storm: Storm, pair: SimPair) -> bool:
    pair.register.faults = FLAKY
    storm.later(span_ms(storm, 15_000), lambda: setattr(pair.register, "faults", SOUND))
    return storm.note("the register loses questions and answers, and is slow")


def _register_down_and_crash(storm: Storm, pair: SimPair) -> bool:
    """The one failure of two at once for which the page promises nothing but safety."""
    return _register_down(storm, pair) and crash(storm, storm.random.choice(pair.names), notice=True)


def _race(storm: Storm, pair: SimPair) -> bool:
    """Cut between both while the register is slow: both ask for the pair, and one of them comes too late."""
    if pair.acting() is None or not pair.has_two_copies():
        return False
    one, other = pair.names
    lasts_ms = storm.random.uniform(5_000, CUT_MS_MAX)
    storm.cluster.network.cut(one, other)
    pair.register.faults = FAR
    storm.later(lasts_ms, lambda: storm.cluster.network.heal_between(one, other))
    storm.later(lasts_ms, lambda: setattr(pair.register, "faults", SOUND))
    return storm.note(f"cut between {one} and {other} for {lasts_ms:.0f} ms, the register is far")


def _isolate_active(storm: Storm, pair: SimPair) -> bool:
    """Cut the active from its peer and from the register; agents and clients still hear it."""
    name = owner_of(pair)
    other, lasts_ms = other_of(pair, name), span_ms(storm, CUT_MS_MAX)
    storm.cluster.network.cut(name, other)
    pair.register.cut(name)
    storm.later(lasts_ms, lambda: storm.cluster.network.heal_between(name, other))
    storm.later(lasts_ms, lambda: pair.register.heal(name))
    return storm.note(f"{name} is cut from {other} and the register for {lasts_ms:.0f} ms")


def _hung_disk(storm: Storm, pair: SimPair) -> bool:
    """An fsync that takes longer than a beat may be good, or longer than an owner waits."""
    name = storm.random.choice(pair.names)
    disk = storm.cluster.nodes[name].disk
    disk.pace = HUNG
    storm.later(span_ms(storm, 8_000), lambda: setattr(disk, "pace", QUICK))
    return storm.note(f"the fsyncs of {name} hang")


def _snapshot_alone(storm: Storm, pair: SimPair) -> bool:
    """Let the owner trim its journal while the other node is away for long: that one needs a snapshot then."""
    name = other_of(pair, owner_of(pair))
    storm.cluster.crash(name)
    storm.later(storm.random.uniform(5_000, 8_000), lambda: storm.cluster.snapshot_soon(owner_of(pair)))
    storm.later(storm.random.uniform(8_000, 12_000), lambda: storm.cluster.boot(name))
    return storm.note(f"{name} is away until a snapshot is made")


def _empty_disk(storm: Storm, pair: SimPair) -> bool:
    """Put an empty disk in place of one (R16); not while it may be the only one with everything."""
    name = storm.random.choice(pair.names)
    if not is_spare(storm, pair):
        return False
    storm.cluster.crash(name)
    storm.cluster.nodes[name].disk.replace()
    storm.later(span_ms(storm, 6_000), lambda: storm.cluster.boot(name))
    return storm.note(f"the disk of {name} is replaced by an empty one")


def _switch_over(storm: Storm, pair: SimPair) -> bool:
    return pair.switch_over() and storm.note("a switch-over is asked for")


def _half_open_pair(storm: Storm, pair: SimPair) -> bool:
    """Let one of both believe in connections that the other one has lost."""
    one, other = storm.random.sample(pair.names, 2)
    broken = storm.cluster.network.half_open(one, other)
    storm.cluster.lookout.sometimes("pair: half-open", broken)
    return bool(broken) and storm.note(f"{broken} connections of {other} with {one} are half-open")


def _deaf_active(storm: Storm, pair: SimPair) -> bool:
    """Let nothing reach the active any more, from anybody, while what it sends still leaves."""
    name, lasts_ms = owner_of(pair), span_ms(storm, CUT_MS_MAX)
    network, others = storm.cluster.network, [one for one in (*storm.cluster.nodes, CLIENT) if one != name]
    for other in others:
        network.cut_one_way(other, name)
        storm.later(lasts_ms, partial(network.heal_between, other, name))
    pair.register.deafen(name)
    storm.later(lasts_ms, lambda: pair.register.heal(name))
    met = lambda: storm.cluster.lookout.sometimes("pair: taken over from a deaf one", pair.owner() != name)
    storm.later(lasts_ms, met)
    return storm.note(f"{name} hears nobody for {lasts_ms:.0f} ms")


def _hung_active(storm: Storm, pair: SimPair) -> bool:
    """Let an fsync of the active hang without an error. If nothing else is wrong, its beats turn bad (R6)."""
    name, disk = owner_of(pair), storm.cluster.nodes[owner_of(pair)].disk
    must = is_calm(storm, pair) and both_know(pair) and pair.has_two_copies() and pair.acting() is not None
    lives, caused, fsyncs = lives_of(storm, pair), sum(storm.counts.values()) + 1, disk.counts["fsyncs"]
    disk.pace = STUCK
    storm.later(STUCK_MS, lambda: setattr(disk, "pace", QUICK))
    hangs: list[bool] = []

    def look() -> None:
        is_taken_over, alone = pair.owner() != name, sum(storm.counts.values()) == caused
        storm.cluster.lookout.sometimes("pair: taken over from one whose fsync hangs", is_taken_over)
        if must and hangs[0] and alone and lives_of(storm, pair) == lives and not is_taken_over:
            storm.cluster.lookout.breaches.tell(f"L1: an fsync of {name} hangs for {STUCK_MS:.0f} ms, nobody follows")

    storm.later(1_000, lambda: hangs.append(disk.counts["fsyncs"] > fsyncs))
    storm.later(STUCK_MS - 1, look)
    return storm.note(f"an fsync of {name} hangs")


def _false_stale(storm: Storm, pair: SimPair) -> bool:
    """Let somebody say that the owner's epoch is over, which it is not: only the register is believed (R15)."""
    acting = pair.acting()
    if acting is None or acting.paused:
        return False
    half, lives, caused = acting.pair_node, lives_of(storm, pair), sum(storm.counts.values()) + 1
    must = is_calm(storm, pair) and both_know(pair)
    assert half is not None
    assert acting.process is not None
    told = half.replica.me.highest + storm.random.randint(1, 9)
    storm.cluster.loop.context_of(acting.process.lane).run(half.replica.hear_of, told)

    def look() -> None:
        goes_on = lives_of(storm, pair) == lives and half.replica.me.role is not Role.ENDED
        storm.cluster.lookout.sometimes("pair: false stale", goes_on)
        if must and not goes_on and sum(storm.counts.values()) == caused and pair.owner() == acting.name:
            storm.cluster.lookout.breaches.tell(f"L1: {acting.name} steps down because somebody said so")

    storm.later(FALSE_STALE_MS, look)
    return storm.note(f"{acting.name} is told of epoch {told}")


def _clocks_apart(storm: Storm, pair: SimPair) -> bool:
    """Let one clock run as slow and the other as fast as is allowed, and stand an hour apart."""
    slow, fast = storm.random.sample(pair.names, 2)
    storm.cluster.drift(slow, -DRIFT_PPM_MAX)
    storm.cluster.drift(fast, DRIFT_PPM_MAX)
    storm.cluster.nodes[slow].machine.wall_offset_ms = -HOUR_MS
    storm.cluster.lookout.sometimes("pair: clocks apart")
    return storm.note(f"the clocks of {slow} and {fast} drift apart")


def _other_version(storm: Storm, pair: SimPair) -> bool:
    """Start a newer program on one of both, or the older one again where it can still read its journal."""
    nodes = storm.cluster.nodes
    node = nodes[storm.random.choice(pair.names)]
    if not crash(storm, node.name, notice=True):
        return False
    wanted, kept = NEWER if node.feature < NEWER else FEATURE_LEVEL, node.disk.image.cells.get(FEATURE)
    if kept is None or msgspec.msgpack.decode(kept) <= wanted:
        node.feature = wanted
    storm.cluster.lookout.sometimes("pair: two versions", len({nodes[one].feature for one in pair.names}) > 1)
    return storm.note(f"{node.name} reads events up to level {node.feature} from now on")


def same_version(storm: Storm, pair: SimPair) -> None:
    """Start the newest program everywhere, as somebody does in the end."""
    nodes = [storm.cluster.nodes[name] for name in pair.names]
    newest = max(node.feature for node in nodes)
    for node in nodes:
        if node.feature < newest:
            node.feature = newest
            storm.cluster.crash(node.name)


def _failing_disk(storm: Storm, name: str, met: str) -> bool:
    disk, number = storm.cluster.nodes[name].disk, storm.random.choice((errno.EIO, errno.ENOSPC))
    before = disk.counts["faults"]
    disk.fails_with = number
    storm.later(LOOKED_MS, lambda: storm.cluster.lookout.sometimes(met, disk.counts["faults"] > before))
    return storm.note(f"the disk of {name} is going to fail with {errno.errorcode[number]}")


def _disk_of_active(storm: Storm, pair: SimPair) -> bool:
    return _failing_disk(storm, owner_of(pair), "pair: disk fault of the active")


def _disk_of_standby(storm: Storm, pair: SimPair) -> bool:
    return _failing_disk(storm, other_of(pair, owner_of(pair)), "pair: disk fault of the standby")


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
    "half open pair": _half_open_pair,
    "deaf active": _deaf_active,
    "hung active": _hung_active,
    "false stale": _false_stale,
    "clocks apart": _clocks_apart,
    "other version": _other_version,
    "disk of active": _disk_of_active,
    "disk of standby": _disk_of_standby,
    **LOSSES,
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
    "race": 4,
    "isolate active": 3,
    "hung disk": 1,
    "snapshot alone": 3,
    "empty disk": 3,
    "switch over": 4,
    "half open pair": 2,
    "deaf active": 2,
    "hung active": 1,
    "false stale": 1,
    "clocks apart": 1,
    "other version": 2,
    "disk of active": 1,
    "disk of standby": 1,
    **LOSS_WEIGHTS,
}
