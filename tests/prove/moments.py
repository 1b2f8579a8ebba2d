"""The moments a search must have met, or it proves less than it seems to."""

from collections.abc import Iterator
from itertools import chain

from engine.rules.pair import lease
from engine.rules.pair.state import ACTIVE, Role
from tests.prove.steps import FORCED, Label
from tests.prove.world import NODES, NOW, Bounds, World

ALWAYS = {
    "fenced": "an owner's lease has lapsed",
    "solo": "an owner acts alone",
    "pending": "a new owner waits until it may act",
    "joining": "an owner alone has bound itself to its peer",
    "stepped down": "an owner learned that it is none any more",
    "owners disagree": "one node acts, and another believes that it is the owner",
    "acting while asked": "an owner acts while somebody else's question is on its way to the register",
}
EVENTS = {"rest kept": "a part of a log was taken, and what lay beyond it stayed"}
TWO_EVENTS = {"tail dropped": "a standby dropped records that nobody had acknowledged"}
THREE_EPOCHS = {"coupled again": "a pair was coupled after it had been apart"}
CRASHES = {
    "crash while joining": "an owner crashed between binding itself and being coupled",
    "crash while pending": "a new owner crashed before it acted",
    "crash of an owner": "an owner crashed",
    "owner again": "a restarted owner began a new epoch",
}
YIELDS = {"handed over": "a pair was handed over without a wait"}
WIPES = {"empty disk": "an owner came back with an empty disk"}
FORCES = {"forced": "an operator's word changed the register"}
ROLLBACKS = {"register lost": "a node noticed that the register had fallen back", "served on": "and it went on acting"}
SNAPSHOTS = {"snapshot": "a snapshot took the place of a log"}
COMMANDS = {"late command": "a command of an owner is on its way to an agent that has obeyed a later one"}
KEEPS = {
    "own snapshot": "a standby made a snapshot of its own log",
    "owner with a snapshot": "and became the owner",
    "covered": "a part of a log came that its snapshot covers",
}


def expected(bounds: Bounds) -> frozenset[str]:
    """Return what a whole search within these bounds must meet."""
    wanted = (
        (ALWAYS, True),
        (EVENTS, bounds.events > 0),
        (TWO_EVENTS, bounds.events > 1),
        (THREE_EPOCHS, bounds.epochs > 2),
        (CRASHES, bounds.crashes > 0),
        (YIELDS, bounds.yields > 0),
        (WIPES, bounds.wipes > 0),
        (SNAPSHOTS, bounds.snapshots > 0),
        (COMMANDS, bounds.commands > 1),
        (KEEPS, bounds.keeps > 0),
        (FORCES, bounds.forces > 0),
        (ROLLBACKS, bounds.rollbacks > 0),
    )
    return frozenset(chain.from_iterable(names for names, applies in wanted if applies))


def reached(before: World, label: Label, after: World) -> Iterator[str]:
    """Yield which moments a step is."""
    for name in NODES:
        yield from _of_node(before, label, after, name)
    if after.register.epoch == before.register.epoch + FORCED:
        yield "forced"
    acting = [name for name in NODES if lease.may_act(after.node(name).pair, NOW)]
    owning = [name for name in NODES if after.node(name).pair.role in ACTIVE]
    if acting and len(owning) == 2:
        yield "owners disagree"
    if acting and after.mail:
        yield "acting while asked"
    if any(epoch < after.obeyed for epoch in after.commands):
        yield "late command"


def _of_node(before: World, label: Label, after: World, name: str) -> Iterator[str]:
    was, node = before.node(name), after.node(name)
    me = node.pair
    if lease.status(me, NOW) == "fenced":
        yield "fenced"
    if me.role in (Role.SOLO, Role.PENDING, Role.JOINING):
        yield me.role.value
    if me.role is Role.COUPLED and was.pair.role is Role.JOINING:
        yield "coupled again"
    if was.pair.role in ACTIVE and me.role not in ACTIVE and label[0] not in ("crash", "wipe"):
        yield "stepped down"
    if label[0] == "rep" and label[1] == name:
        if node.content[: len(was.content)] != was.content:
            yield "tail dropped"
        elif len(was.content) > label[3] + label[4]:
            yield "rest kept"
    if label == ("crash", name):
        if was.pair.role in (Role.JOINING, Role.PENDING):
            yield f"crash while {was.pair.role}"
        if was.pair.role in ACTIVE:
            yield "crash of an owner"
    if me.role is Role.PENDING and node.incarnation > 1 and before.register.owner == name:
        yield "owner again"
    if (me.skips_wait and was.pair.role is Role.PENDING) or (me.role in ACTIVE and was.pair.skips_wait):
        yield "handed over"
    if me.register_lost:
        yield "register lost"
        if lease.may_act(me, NOW):
            yield "served on"
    if label == ("wipe", name) and was.pair.role in ACTIVE:
        yield "empty disk"
    if label == ("keep", name):
        yield "own snapshot"
    if me.log.base and was.pair.log.base and me.role in ACTIVE:
        yield "owner with a snapshot"
    if label[0] == "rep" and label[1] == name and label[3] < was.pair.log.base:
        yield "covered"
    if label[0] == "snapshot" and me.log.base > was.pair.log.base:
        yield "snapshot"
