"""Telling a register who owns a pair: once at the beginning, and again after it has lost its state. Floor 6.

* Both nodes are asked first, and nonsense is refused: what a register says is believed by both.
* The nonce is the owner's incarnation, so an owner that acts goes on, and one that does not begins at once.
"""

from collections.abc import Iterator
from typing import Protocol

from engine.base.pair import Member, Ownership
from engine.base.pair_query import PairStatus
from engine.base.problem import Refused, problem

SEED_EPOCHS = 10  # above the highest that either node knows: one that neither has learned may have been given
ALONE_EPOCHS = 1_000  # and where only one node could be asked

ACTING = ("coupled", "solo", "joining", "fenced")

PairNotReady = problem("PairNotReady", "The register was not told who owns pair {pair}: {why}.")


class Asked(Protocol):
    """A node of the pair: a PairClient."""

    async def status(self) -> PairStatus: ...


class Keeper(Protocol):
    """The register: a LinkRegister."""

    async def create(self, first: Ownership) -> Ownership: ...
    async def read(self, cluster: str) -> Ownership | None: ...
    async def seed(self, value: Ownership) -> Ownership: ...


async def init_pair(register: Keeper, first: Asked, second: Asked) -> Ownership:
    """Create a new pair's value: `first` owns it, and its data alone is complete; the other is filled from it.

    Raises Refused with PairNotReady, PairUnreachable, RegisterUnreachable.
    """
    one, two = await first.status(), await second.status()
    for why in (*_mismatches(one, two), *_initial_faults(one, two)):
        raise Refused(PairNotReady(pair=one.pair, why=why))
    # A node that was alone has raised its epochs by itself; the pair's go on above them.
    epoch = 1 + max(one.highest, two.highest, one.journal.last_epoch, two.journal.last_epoch)
    wanted = Ownership(one.pair, epoch, one.node, (Member(one.node, one.store),), one.incarnation)
    found = await register.create(wanted)
    if found != wanted:
        why = f"it knows the pair already, epoch {found.epoch} belongs to {found.owner}; to change that, seed it"
        raise Refused(PairNotReady(pair=one.pair, why=why))
    return found


async def seed_pair(
    register: Keeper, first: Asked, second: Asked, *, controllers_were_forced: bool = False
) -> Ownership:
    """Tell a register that lost its state who owns a pair, as both nodes know it.

    Who acts owns it; else whoever the newest value that either knows names. In sync are the disks that were, by that
    value. `controllers_were_forced`: the controllers that keep the register; they trust nothing of it, though it reads
    as if nothing were lost. Raises Refused with PairNotReady, PairUnreachable, RegisterUnreachable.
    """
    one, two = await first.status(), await second.status()
    for why in (*_mismatches(one, two), *_seeding_faults(one, two)):
        raise Refused(PairNotReady(pair=one.pair, why=why))
    newest = max((one, two), key=lambda each: (each.epoch, each.state in ACTING))
    owner = next(each for each in (one, two) if each.node == newest.owner)
    present = {Member(each.node, each.store) for each in (one, two)}
    insync = tuple(member for member in newest.insync if member in present)
    if Member(owner.node, owner.store) not in insync:
        why = (
            f"the owner of epoch {newest.epoch}, {owner.node}, has another disk now; if the old one is lost, seed alone"
        )
        raise Refused(PairNotReady(pair=one.pair, why=why))
    highest = max(one.highest, two.highest, one.peer.epoch, two.peer.epoch)
    return await _seed(register, owner, insync, highest, SEED_EPOCHS, controllers_were_forced)


async def seed_alone(
    register: Keeper, node: Asked, *, peer_is_off: bool, controllers_were_forced: bool = False
) -> Ownership:
    """Tell a register that lost its state that this node owns the pair alone, for the other is gone for good.

    `peer_is_off`: you have seen that it is. What only the other had is lost. Raises Refused with PairNotReady,
    PairUnreachable, RegisterUnreachable.
    """
    one = await node.status()
    why = ""
    if not peer_is_off:
        why = f"say that {one.peer.node} is off, once you have seen that it is; if it is not, seed with both nodes"
    elif one.peer.connected:
        why = f"{one.peer.node} is connected to {one.node} right now, so it is not off"
    if why:
        raise Refused(PairNotReady(pair=one.pair, why=why))
    highest = max(one.highest, one.peer.epoch)
    member = Member(one.node, one.store)
    return await _seed(register, one, (member,), highest, ALONE_EPOCHS, controllers_were_forced)


async def _seed(
    register: Keeper,
    owner: PairStatus,
    insync: tuple[Member, ...],
    highest: int,
    above: int,
    controllers_were_forced: bool,
) -> Ownership:
    found = await register.read(owner.pair)
    known = 0 if found is None else found.epoch
    if found is not None and known >= highest and not controllers_were_forced:
        why = f"it has lost nothing: it gives epoch {known} to {found.owner}, and no node knows a higher one"
        raise Refused(PairNotReady(pair=owner.pair, why=why))
    wanted = Ownership(owner.pair, max(highest, known) + above, owner.node, insync, owner.incarnation)
    found = await register.seed(wanted)
    if found != wanted:
        raise Refused(PairNotReady(pair=owner.pair, why=f"it says epoch {found.epoch} of {found.owner} meanwhile"))
    return found


def _mismatches(one: PairStatus, two: PairStatus) -> Iterator[str]:
    """Yield why two nodes are no pair."""
    if one.node == two.node:
        yield f"both addresses are those of {one.node}; give the two nodes of the pair"
    if (one.cluster, one.role, one.pair) != (two.cluster, two.role, two.pair):
        names = [f"{each.node} is of {each.cluster}/{each.role}/{each.pair}" for each in (one, two)]
        yield f"{names[0]}, and {names[1]}"
    if (one.peer.node, two.peer.node) != (two.node, one.node):
        yield f"the peer of {one.node} is {one.peer.node}, that of {two.node} is {two.peer.node}"
    if one.store == two.store:
        yield f"both disks are copies of one ({one.store}); start one of the nodes with an empty folder"


def _initial_faults(one: PairStatus, two: PairStatus) -> Iterator[str]:
    for each in (one, two):
        if each.epoch:
            yield f"{each.node} has obeyed epoch {each.epoch} of {each.owner} already; if the register lost it, seed it"
        if each.peer.problem is not None:
            yield f"{each.node} says of {each.peer.node}: {each.peer.problem.sentence.rstrip('.')}"
    if (two.journal.last_epoch, two.journal.last) > (one.journal.last_epoch, one.journal.last):
        yield (
            f"the journal of {two.node} ends at record {two.journal.last} of epoch {two.journal.last_epoch}, that of"
            f" {one.node} at {one.journal.last} of {one.journal.last_epoch}, and would take its place: begin with"
            f" {two.node}, or start it with an empty folder"
        )


def _seeding_faults(one: PairStatus, two: PairStatus) -> Iterator[str]:
    acting = [each for each in (one, two) if each.state in ACTING]
    if len(acting) == 2:
        epochs = f"{one.node} epoch {one.epoch}, {two.node} epoch {two.epoch}"
        yield f"both nodes claim the pair ({epochs}); stop the one whose work is to be given up, then ask again"
    newest = max((one, two), key=lambda each: each.epoch)
    if not newest.epoch:
        yield f"neither {one.node} nor {two.node} ever obeyed a value of the register; create it"
    elif newest.owner not in (one.node, two.node):
        yield f"{newest.node} has obeyed epoch {newest.epoch} of {newest.owner}, which is neither of the two"
    if len(acting) == 1 and acting[0].epoch < newest.epoch:
        yield (
            f"{acting[0].node} acts in epoch {acting[0].epoch}, and {newest.node} has obeyed epoch {newest.epoch};"
            f" stop {acting[0].node}, then ask again"
        )
