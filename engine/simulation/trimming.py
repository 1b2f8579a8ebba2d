"""What a keeper would do, at any instant: make a snapshot of a node's journal and trim it. Floor 10."""

from engine.base.problem import EngineClosed
from engine.journal.snapshots import SnapshotFailed
from engine.ports import StoreFault
from engine.simulation.node import AGENT, CONTROLLER, SimNode, SimProcess
from engine.simulation.observe import Lookout


async def keep_journal(node: SimNode, process: SimProcess, lookout: Lookout, *, may_drop: bool) -> None:
    """Make a snapshot of everything shown, if that is news, and trim what no reader needs; to be run in its lane.

    `may_drop`: its readers may lose again what they have of it, being a pair.
    """
    loop, store = node.loop, node.loop.store
    needed = not_needed(node, lookout, may_drop=may_drop)
    try:
        saved = await store.snapshot()
        if loop.shown > (0 if saved is None else saved.index):
            await store.add_snapshot(await process.worlds[-1].snapshot_maker(store, node.role).make(loop.shown))
            lookout.timeline.note(process.lane, f"snapshot of record {loop.shown}, trimmed up to {needed}")
            await store.trim(needed)
    except (StoreFault, SnapshotFailed, EngineClosed) as error:
        lookout.timeline.note(process.lane, f"no snapshot: {error}")


def not_needed(node: SimNode, lookout: Lookout, *, may_drop: bool) -> int:
    """Return the last record of a node's journal that no reader of it needs any more."""
    if node.pair_node is not None:  # what the other half lacks must not be trimmed
        needed = [node.loop.shown, *(hold.index for hold in node.pair_node.replica.holds())]
        if node.role == AGENT:  # its controller shows where it stands by the record at its cursor
            needed += [hold.index - 1 for hold in node.acting.agent.holds()]
        return int(max(min(needed), 0))
    if node.role == CONTROLLER:
        return int(node.loop.shown)
    promised = lookout.ledger.promised(node.name)
    if may_drop:
        promised = min([promised, *(hold.index for hold in node.actor.agent.holds())])
    return promised - 1  # a reader's own
