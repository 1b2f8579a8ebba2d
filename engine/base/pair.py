"""Messages of a pair and of its register: beats and leases, replication, ownership. Floor 0.

* They belong to no stream and no session's numbers: each may be lost, repeated, late or reordered, and every rule of
  `engine.rules.pair` holds all the same.
* `store` names the data, not the node: a random id, new whenever a store is created or restored. An acknowledgement
  counts for the store that gave it and for no other.
* Instants are the sender's own monotonic milliseconds; nobody but the sender reads them.
"""

import msgspec

from engine.base.wire import Raw


class Member(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """One copy of the data: the node that keeps it, and which store of that node."""

    node: str
    store: str


class Ownership(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The register's value: who owns the pair in this epoch, and whose data is complete.

    `nonce` names the owner's incarnation and no other: a restarted owner finds that it is not meant. `insync` is in the
    members' order.
    """

    cluster: str
    epoch: int
    owner: str
    insync: tuple[Member, ...]
    nonce: int

    def has(self, member: Member) -> bool:
        """Tell whether this very data is in sync."""
        return member in self.insync


class PairMessage(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """What the two nodes of a pair say to each other."""

    epoch: int


class Beat(PairMessage, frozen=True):
    """The owner lives, asks for a lease, and says up to which index everything is acknowledged.

    `ack_age_ms`: since the newest beat that was answered; `batch_age_ms`: of the oldest batch it has not yet fsynced.
    `first`: the lowest record it still keeps (0: not said), so that the standby keeps what the owner's readers need.
    """

    sent_ms: int
    commit: int
    ack_age_ms: int = 0
    batch_age_ms: int = 0
    first: int = 0


class BeatAck(PairMessage, frozen=True):
    """The answer to the beat that was sent at `sent_ms`, of the standby that keeps `store`; a lease if it `grants`.

    A beat that is not good is answered without a lease: else its sender, healed, could never send a good one again.
    """

    sent_ms: int
    store: str
    batch_age_ms: int = 0
    grants: bool = True


class Rep(PairMessage, frozen=True):
    """Entries behind `prev_index`: their epochs, and their bytes (events and marks) in the same order."""

    prev_index: int
    prev_epoch: int
    epochs: tuple[int, ...] = ()
    bodies: tuple[Raw, ...] = ()


class RepAck(PairMessage, frozen=True):
    """Up to `index` the store holds what the owner of this epoch sent, fsynced."""

    index: int
    store: str


class RepNack(PairMessage, frozen=True):
    """The Rep does not fit; `hint` is an index from which it may."""

    hint: int
    store: str


class InstallSnapshot(PairMessage, frozen=True):
    """A part of a snapshot in place of a log: `size_bytes` in all, this chunk from `offset` on."""

    id: str
    index: int
    index_epoch: int
    hash: bytes
    offset: int
    size_bytes: int
    chunk: bytes


class Yield(PairMessage, frozen=True):
    """The owner has stopped acting in this epoch for good; everything up to `last` is acknowledged."""

    last: int


class Stale(PairMessage, frozen=True):
    """The epoch spoken of is over; `epoch` is the highest that the sender knows."""


AnyPairMessage = Beat | BeatAck | Rep | RepAck | RepNack | InstallSnapshot | Yield | Stale


class Read(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Ask the register for its value; both fields come back with it.

    `known` is the highest epoch the asker knew when it asked, `store` the data that it had.
    """

    known: int
    store: str


class Cas(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Replace the register's value if it is exactly `expected`; the new epoch must be higher."""

    expected: Ownership
    new: Ownership

    @property
    def store(self) -> str:
        """The asker's data: who asks to own the pair is in sync itself."""
        return next(one.store for one in self.new.insync if one.node == self.new.owner)


class Value(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The register's answer to either: the value it has now (None: no such cluster), and what the question brought.

    A Cas has won if this is its new value; `known` of a Cas is its expected epoch. An answer for another store came too
    late: the node that asked has lost what it knew then, and must not learn from it that it has looked.
    """

    ownership: Ownership | None
    known: int
    store: str
