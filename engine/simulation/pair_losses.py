"""Faults of a pair in which something is lost that should have been kept, until a person mends it. Floor 10.

* Disks: an older copy in place of a disk (R16), a bit that flips. Only while the other one has everything: against the
  loss of both copies there is no protocol.
* The register: it falls back, or is empty (R13). Only while both nodes know better: else nothing is promised, because
  a node that never learned an epoch can not miss it. An operator seeds it later, above all that either node knows.
* A forced takeover (R14): the other node is off, and what it alone had is lost. It is drawn only where that is nothing,
  because nobody could tell a loss that was accepted from one that was not; tests/simulation/test_pair_losses.py has
  the others.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from engine.base.pair import Ownership
from engine.base.problem import EngineClosed
from engine.pair.cells import CFG, LOG_EPOCH, STORE_ID
from engine.pair.node import PairNode
from engine.ports import StoreFault
from engine.rules.pair.state import Role
from engine.simulation.node import SimNode
from engine.simulation.pair_moments import Storm, both_know, is_spare, other_of, span_ms, value_of
from engine.simulation.pairs import SimPair

SEEDED_MS_MIN, SEEDED_MS_MAX = 2_000.0, 12_000.0
LOOK_MS = 2.0
LOOKS_MAX = 4_000
FORCE_EVERY_MS = 500.0
FORCES_MAX = 30
REPLACED_MS_MIN, REPLACED_MS_MAX = 3_000.0, 9_000.0

_decode_cfg = msgspec.msgpack.Decoder(Ownership).decode


def mend(storm: Storm, pair: SimPair) -> None:
    """Do at once whatever a person would still do: seed the register, replace damaged disks."""
    if storm.is_fallen:
        _seed(storm, pair)
    for name in pair.names:
        if storm.cluster.nodes[name].disk.is_damaged:
            _replace(storm, name)


# --- disks ------------------------------------------------------------------------------------------------------------


def _older_disk(storm: Storm, pair: SimPair) -> bool:
    """Restore one from a backup of some seconds ago, as a restore must do it: under a new store id."""
    name = storm.random.choice(pair.names)
    disk = storm.cluster.nodes[name].disk
    if disk.is_damaged:
        return False
    backup = disk.backup()

    def restore() -> None:
        if not is_spare(storm, pair):
            return
        storm.cluster.crash(name)
        disk.restore(backup, (STORE_ID,))
        storm.cluster.lookout.sometimes("pair: disk restored")
        storm.note(f"the disk of {name} is an older copy of itself")
        storm.later(span_ms(storm, 6_000), lambda: storm.cluster.boot(name))

    storm.later(span_ms(storm, 12_000), restore)
    return storm.note(f"a backup of {name} is made")


def _bit_flip(storm: Storm, pair: SimPair) -> bool:
    """Flip a bit in a record of one; it is named at boot, and the node stays down until a person replaces the disk."""
    name = storm.random.choice(pair.names)
    disk = storm.cluster.nodes[name].disk
    saved = disk.image.saved
    first = max(disk.image.base.index, 0 if saved is None else saved.index) + 1
    if not is_spare(storm, pair) or disk.image.tip.index < first:
        return False
    storm.cluster.crash(name)
    index = storm.random.randint(first, disk.image.tip.index)
    disk.damage(index)
    restarts = storm.cluster.nodes[name].number

    def look() -> None:
        node = storm.cluster.nodes[name]
        if disk.is_damaged:
            if node.actor is not None:
                storm.cluster.lookout.breaches.tell(
                    f"S4: {name} runs although record {index} of its journal is damaged"
                )
            storm.cluster.lookout.sometimes("pair: damaged record found", node.number > restarts)
            _replace(storm, name)
            storm.cluster.boot(name)

    storm.later(span_ms(storm, 2_000), lambda: storm.cluster.boot(name))
    storm.later(storm.random.uniform(REPLACED_MS_MIN, REPLACED_MS_MAX), look)
    return storm.note(f"a bit of record {index} of {name} flips")


def _replace(storm: Storm, name: str) -> None:
    storm.cluster.crash(name)
    storm.cluster.nodes[name].disk.replace()
    storm.note(f"the disk of {name} is replaced by an empty one")


# --- the register -----------------------------------------------------------------------------------------------------


def _register_falls_back(storm: Storm, pair: SimPair) -> bool:
    return _fall(storm, pair, lambda: pair.register.roll_back(storm.random.randint(1, 3)), "pair: register fell back")


def _register_emptied(storm: Storm, pair: SimPair) -> bool:
    return _fall(storm, pair, pair.register.lose, "pair: register emptied")


def _fall(storm: Storm, pair: SimPair, act: Callable[[], None], name: str) -> bool:
    if storm.is_fallen or not both_know(pair):
        return False
    act()
    storm.is_fallen = True
    storm.cluster.lookout.sometimes(name)
    storm.later(storm.random.uniform(SEEDED_MS_MIN, SEEDED_MS_MAX), lambda: _seed(storm, pair))
    return True


def _seed(storm: Storm, pair: SimPair) -> None:
    """Do as docs/failover.md says: above the highest epoch of both, the owner as it is, in sync who was."""
    storm.is_fallen = False
    nodes = [storm.cluster.nodes[name] for name in pair.names]
    newest = max((_cfg(node) for node in nodes), key=lambda one: one.epoch)
    epoch = 1 + max(newest.epoch, *(_log_epoch(node) for node in nodes))
    pair.register.seed_now(msgspec.structs.replace(newest, epoch=epoch))
    storm.cluster.lookout.sometimes("pair: register seeded")


def _cfg(node: SimNode) -> Ownership:
    cell = node.disk.image.cells.get(CFG)
    return Ownership("", 0, "", (), 0) if cell is None else _decode_cfg(cell)


def _log_epoch(node: SimNode) -> int:
    cell = node.disk.image.cells.get(LOG_EPOCH)
    return 0 if cell is None else msgspec.msgpack.decode(cell, type=int)


# --- an operator forces a takeover ------------------------------------------------------------------------------------


def _force(storm: Storm, pair: SimPair) -> bool:
    """Let the owner go on alone and die before it has told anything more; the other one is forced to take over."""
    network = storm.cluster.network
    one, other = pair.names
    network.cut(one, other)
    storm.later(5_000, lambda: network.heal_between(one, other))

    def look(times: int) -> None:
        alone = [node.name for node, half in pair.halves() if half.replica.me.role is Role.SOLO]
        if alone and pair.book.holds_all(other_of(pair, alone[0])) and not storm.is_fallen:
            storm.cluster.crash(alone[0], notice=False)
            storm.later(FORCE_EVERY_MS, lambda: press(alone[0], FORCES_MAX))
            storm.later(FORCE_EVERY_MS * (FORCES_MAX + 2), lambda: storm.cluster.boot(alone[0]))
        elif times:
            storm.later(LOOK_MS, lambda: look(times - 1))

    def press(off: str, times: int) -> None:
        if not force(storm, pair, off) and times:
            storm.later(FORCE_EVERY_MS, lambda: press(off, times - 1))

    storm.later(0, lambda: look(LOOKS_MAX))
    return storm.note("the owner is to die as soon as it is alone, and the other one to be forced")


def force(storm: Storm, pair: SimPair, off: str) -> bool:
    """Force the node that is not `off` to take over, if `off` is off and owns the pair alone; tell whether it is done.

    It is done also when there is nothing to be forced any more.
    """
    name, value = other_of(pair, off), value_of(pair)
    found = [(node, half) for node, half in pair.halves() if node.name == name]
    if storm.cluster.nodes[off].process is not None or (value is not None and value.owner == name):
        return True
    if not found or value is None or not pair.book.holds_all(name) or storm.cluster.nodes[name].paused:
        return False
    node, half = found[0]
    me = half.replica.me
    if me.role is not Role.STANDBY or me.cfg != value or value.has(half.replica.who.member):
        return False
    assert node.process is not None
    storm.cluster._in_lane(node.process.lane, _ask(half), "force")
    storm.cluster.lookout.sometimes("pair: forced")
    storm.note(f"{name} is forced to take over")
    return False  # it has asked; whether the register agrees is seen at the next press


async def _ask(half: PairNode) -> None:
    with suppress(StoreFault, EngineClosed):  # its disk fails, and with it the node
        await half.replica.force_take_over()


LOSSES: dict[str, Callable[[Storm, Any], bool]] = {
    "older disk": _older_disk,
    "bit flip": _bit_flip,
    "register falls back": _register_falls_back,
    "register emptied": _register_emptied,
    "force": _force,
}

LOSS_WEIGHTS: dict[str, float] = {
    "older disk": 2,
    "bit flip": 2,
    "register falls back": 2,
    "register emptied": 1,
    "force": 1,
}
