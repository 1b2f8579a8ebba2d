"""Leftovers: what a node that was closed has left in the loop (L5). Floor 10."""

from collections.abc import Iterator

from engine.simulation.loop import NODE, VirtualLoop


def leftovers(loop: VirtualLoop, lane: str) -> Iterator[str]:
    """L5: yield what a node that was closed has left in the loop: tasks, and timers that are still set."""
    for one in loop.able_tasks():
        ours = one.get_name().startswith(f"{lane} ")  # what the simulation itself does in the node's name
        if one.home.get(NODE, "") == lane and not ours:  # type: ignore[attr-defined]  # our tasks carry their context
            yield f"{lane} was closed and left the task {one.get_name()}"
    for _, _, timer in loop._lane(lane).timers:
        if not timer.cancelled():
            yield f"{lane} was closed and left a timer: {getattr(timer, '_callback', timer)!r:.100}"
