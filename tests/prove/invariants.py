"""What must hold in every state that the explorer reaches (FAILOVER §7)."""

from engine.base.pair import Member
from engine.rules.pair import lease
from engine.rules.pair.state import ACTIVE
from tests.prove.world import NODES, NOW, World, store_name


def with_acks(world: World) -> tuple[World, str]:
    """Let everybody who may act tell what is acknowledged, at once; a contradiction is a breach of S3.

    What a standby applies is told by it: a breach of S4, if that is not what was acknowledged.
    """
    acked = world.acked
    for name in NODES:
        node = world.node(name)
        if node.alive and (lease.may_act(node.pair, NOW) or (world.left.commits and node.pair.commit)):
            told = node.content[: node.pair.commit]
            if told[: len(acked)] != acked[: len(told)]:
                return world, f"S3: {name} tells that {told} is safe, and {acked} was"
            acked = max(acked, told, key=len)
    if acked is world.acked:
        return world, ""
    return World(
        world.a,
        world.b,
        world.register,
        world.left,
        world.records,
        acked,
        world.mail,
        world.published,
        world.past,
        world.commands,
        world.obeyed,
        world.carried_out,
        world.overruled,
    ), ""


def breach(world: World) -> str:
    """Return what is wrong, or an empty text."""
    if world.overruled:
        return f"S6: an agent carries out a command of an epoch below {world.carried_out}, which it had obeyed"
    return _two_act(world) or _lost(world) or _disagree(world)


def _two_act(world: World) -> str:
    acting = [name for name in NODES if world.node(name).alive and lease.may_act(world.node(name).pair, NOW)]
    if len(acting) == 2:
        return "S1: both act"
    owners = [world.node(name).pair.epoch for name in NODES if world.node(name).pair.role in ACTIVE]
    if len(owners) == 2 and owners[0] == owners[1]:
        return f"S2: both own epoch {owners[0]}"
    return ""


def _lost(world: World) -> str:
    """S3: what was acknowledged is with everyone who is in sync, and with everyone who acts."""
    register = world.register
    for cfg in (world.a.pair.cfg, world.b.pair.cfg):
        if cfg is not None and cfg.epoch >= register.epoch:
            register = cfg  # it has fallen back, and what it says now is no truth
    for name in NODES:
        node = world.node(name)
        in_sync = register.has(Member(name, store_name(name, node.stores)))
        acts = node.alive and lease.may_act(node.pair, NOW)
        if (in_sync or acts) and node.content[: len(world.acked)] != world.acked:
            why = "in sync" if in_sync else "acting"
            return f"S3: {name} is {why} and has {node.content}; acknowledged was {world.acked}"
    return ""


def _disagree(world: World) -> str:
    """S4: where the logs have the same epoch at an index, they have the same record there and below."""
    a, b = world.a, world.b
    for index in range(min(len(a.content), len(b.content)), 0, -1):
        if a.pair.log.epoch_at(index) == b.pair.log.epoch_at(index) is not None:
            if a.content[:index] != b.content[:index]:
                return f"S4: the logs agree in the epoch of {index} and not in what lies up to it"
            break
    return ""
