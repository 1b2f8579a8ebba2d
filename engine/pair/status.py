"""What a node of a pair tells people about itself, put together from its parts. Floor 6."""

from collections.abc import Iterator

import msgspec

from engine.base.pair_query import JournalSeen, PairStatus, PeerSeen
from engine.base.wire import Identity
from engine.pair.peer import Peer
from engine.pair.replica import Replica
from engine.ports import Clock, Store

ALARMS_TOLD_MAX = 10
CLOCKS_APART_MS_MAX = 10_000  # more is told: times of orders jump by it when the other node takes over


def status_of(identity: Identity, replica: Replica, peer: Peer, store: Store, clock: Clock) -> PairStatus:
    """Return the status of this instant."""
    me, who = replica.me, replica.who
    forcing = replica.forcing
    return PairStatus(
        cluster=identity.cluster,
        pair=who.cluster,
        role=identity.role,
        node=who.node,
        incarnation=who.incarnation,
        store=who.store,
        state=replica.status,
        acts=replica.may_act(),
        epoch=me.epoch,
        highest=me.highest,
        owner="" if me.cfg is None else me.cfg.owner,
        insync=() if me.cfg is None else me.cfg.insync,
        journal=JournalSeen(store.first, me.log.base, me.log.last, me.log.last_epoch, me.commit),
        peer=PeerSeen(
            node=who.peer,
            connected=peer.connected,
            problem=peer.problem,
            stranger=peer.stranger,
            store=me.peer_store,
            acknowledged=me.peer_index,
            epoch=me.peer_epoch,
            ahead_ms=peer.ahead_ms,
            feature=peer.feature,
        ),
        register=replica.register,
        alarms=tuple(replica.alarms[-ALARMS_TOLD_MAX:]),
        warnings=tuple(_warnings(replica, peer)),
        times=msgspec.structs.asdict(who.times),
        feature=replica.feature,
        feature_written=replica.feature_level,
        malformed=peer.malformed,
        forced_epoch=forcing.asked.epoch if forcing is not None and forcing.has_won else 0,
        wall_ms=clock.now_ms(),
    )


def _warnings(replica: Replica, peer: Peer) -> Iterator[str]:
    me, who = replica.me, replica.who
    if peer.ahead_ms is not None and abs(peer.ahead_ms) > CLOCKS_APART_MS_MAX:
        side = "ahead of" if peer.ahead_ms > 0 else "behind"
        yield (
            f"The wall clock of {who.peer} is {abs(peer.ahead_ms) / 1_000:.0f} s {side} that of {who.node}. The pair"
            " does not mind; waiting orders will, when the other node takes over: set both clocks."
        )
    if 0 < peer.feature < replica.feature:
        yield (
            f"{who.peer} reads events of level {peer.feature}, {who.node} of {replica.feature}: nothing above"
            f" {replica.feature_level} is written until both run the newer program."
        )
    if me.peer_epoch > me.epoch:
        yield (
            f"{who.peer} speaks of epoch {me.peer_epoch}, and the register has told {who.node} only of {me.epoch}. If"
            " that lasts, the register has lost its state: compare the status of both nodes, and seed it."
        )
