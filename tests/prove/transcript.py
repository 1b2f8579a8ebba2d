"""Tells a path of the search as people read it: who did what, and what became of both nodes and the register."""

from collections.abc import Iterator

import msgspec

from engine.base.pair import Beat, BeatAck, Cas, Ownership, RepAck, Value, Yield
from engine.rules.pair import lease
from tests.prove.invariants import with_acks
from tests.prove.steps import Label, step
from tests.prove.world import NODES, NOW, Bounds, Node, World, decode_mail, first_world

SENTENCES = {
    "tick": "time passes: every lease lapses, every wait is over",
    "boot": "{} boots",
    "crash": "{} crashes, and is booted",
    "wipe": "{} crashes, its disk is replaced by an empty one, and it is booted",
    "fsync": "{}'s disk has written what it was given",
    "beat": "{} beats, the other hears it, and the answer comes",
    "append": "{} writes a record",
    "read": "{} reads the register",
    "yield": "{} is told to hand over: it stops acting and yields",
    "force": "an operator forces {} to take over",
    "keep": "{} makes a snapshot of its own log",
    "command": "{} gives a command to an agent",
    "obey": "a command of epoch {} reaches the agent",
    "rollback": "the register falls back to an earlier value",
}
TIMERS = {
    "uncouple": "{} hears nothing and wants to go on alone",
    "take_over": "{} misses beats and wants to take over",
    "claim_again": "{} was restarted as owner and wants a new epoch",
    "activate": "{} owns the register, has waited, and begins to act",
    "join": "{} binds itself to the other's lease and acknowledgement",
    "couple": "{} wants the other to be in sync",
    "hand_over": "{} has yielded, nobody took it, and it boots again",
}


def tell(bounds: Bounds, path: list[Label]) -> Iterator[str]:
    """Yield a line for each step, and indented lines for what changed by it."""
    world = first_world(bounds)
    yield from (f"      {line}" for line in _lines(world))
    for number, label in enumerate(path, 1):
        sentence = sentence_of(world, label)
        after = step(world, label)
        assert after is not None
        after, _ = with_acks(after)
        yield f"{number:>4}  {sentence}"
        before = set(_lines(world))
        yield from (f"        {line}" for line in _lines(after) if line not in before)
        world = after


def sentence_of(world: World, label: Label) -> str:
    """Return what a step is, in words that no other step of this world has."""
    match label:
        case ("timer", name, timer):
            return TIMERS[timer].format(name)
        case ("rep", name, number, prev, count):
            log = world.published[number]
            what = f"records {prev + 1} to {prev + count}" if count else f"an empty Rep behind {prev}"
            return f"{name} hears {what} of {log.owner}'s log in e{log.epoch}"
        case ("snapshot", name, number, index):
            log = world.published[number]
            return f"{name} gets a snapshot up to {index} of {log.owner}'s log in e{log.epoch}"
        case ("mail", number):
            found = decode_mail(world.mail[number])
            to = "the register" if found.to == "R" else found.to
            return f"{to} gets {_message(found.message)}"
        case (what, *rest):
            return SENTENCES[what].format(*rest)
    raise ValueError(label)


def _message(message: msgspec.Struct) -> str:
    match message:
        case Cas(expected, new):
            return f"the question to change {_owner(expected)} to {_owner(new)}"
        case Value(own):
            return f"the register's answer: {'nothing' if own is None else _owner(own)}"
        case RepAck(epoch, index, store):
            return f"the acknowledgement of {store} up to {index} in e{epoch}"
        case Beat(epoch) | BeatAck(epoch):
            return f"a {type(message).__name__} of e{epoch}"
        case Yield(epoch, last):
            return f"the offer of e{epoch}, up to {last}"
    return type(message).__name__


def _owner(own: Ownership) -> str:
    members = "".join(f" {one.store}" for one in own.insync)
    return f"e{own.epoch} {own.owner}#{own.nonce} {{{members} }}"


def _lines(world: World) -> list[str]:
    told = "nothing" if not world.acked else f"{world.acked}"
    return [*(_node(name, world.node(name)) for name in NODES), f"register {_owner(world.register)}", f"told: {told}"]


def _node(name: str, node: Node) -> str:
    me = node.pair
    state = lease.status(me, NOW) if node.alive else "down"
    acts = ", acts" if node.alive and lease.may_act(me, NOW) else ""
    writing = ", writing" if node.pending is not None else ""
    return (
        f"{name}#{node.incarnation} {state}{acts}{writing}, knows e{me.epoch}, log of e{me.log_epoch} {node.content}, "
        f"acknowledged {me.commit}"
    )
