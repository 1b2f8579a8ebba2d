"""The steps of the node below a pair, an agent or a subagent: whom it obeys (R15)."""

from msgspec.structs import replace

from engine.rules import agent
from engine.rules.pair import lease
from tests.prove.world import NOW, World, spend


def give_command(world: World, name: str) -> World | None:
    """An owner that may act gives a command; nothing stops it once it is on its way."""
    me = world.node(name).pair
    if not lease.may_act(me, NOW) or me.epoch in world.commands:
        return None
    return replace(spend(world, "commands"), commands=tuple(sorted((*world.commands, me.epoch))))


def obey(world: World, epoch: int) -> World | None:
    """A command arrives. That one is refused only hastens what its sender may do anyway: read the register."""
    if agent.stale_epoch(world.obeyed, epoch) is not None:
        return None
    overruled, carried_out = world.overruled or epoch < world.carried_out, max(epoch, world.carried_out)
    after = replace(world, obeyed=max(epoch, world.obeyed), carried_out=carried_out, overruled=overruled)
    return None if after == world else after
