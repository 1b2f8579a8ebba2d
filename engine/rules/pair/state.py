"""What one node of a pair knows: its role, its durable cells, its log's shape, its lease. Floor 3.

* `cfg`, `log_epoch` and `log` are what the disk holds: they change only when the write is done (`kept`, `written`).
  While one write of the pair is under way no other is begun; what would need one is ignored, and comes again.
* Everything else is forgotten by a crash. A boot counts as a lease given: `last_grant_ms` is the instant of the boot.
* All fields are plain values, so that a copy of the struct is a copy of the state, and the explorer can compare them.
"""

from enum import StrEnum

import msgspec

from engine.base.pair import AnyPairMessage, Cas, Member, Ownership, Read
from engine.rules.pair.log import LogShape
from engine.rules.pair.times import Times


class Role(StrEnum):
    """FENCED is no role of its own: it is COUPLED or JOINING without a valid lease."""

    STANDBY = "standby"
    PENDING = "pending"  # owns the register, waits until no lease of ours can be valid
    COUPLED = "coupled"
    SOLO = "solo"
    JOINING = "joining"  # solo by the register, but already bound to the other's lease and acknowledgement
    YIELDED = "yielded"  # handed over, acts no more
    ENDED = "ended"  # stepped down; the node boots again


ACTIVE = (Role.COUPLED, Role.SOLO, Role.JOINING)
LEASED = (Role.COUPLED, Role.JOINING)

FORCED_EPOCHS = 1_000  # by how much an operator's force-takeover raises the epoch
NOTHING = -1  # acknowledged by a store of which nothing is known


class Setting(msgspec.Struct, frozen=True):
    """Who this node is; constant for an incarnation.

    `incarnation`: a number that no other incarnation has, not even one of a copy of this disk, and that rises with each
    start; `last_incarnation`: that of the last one that this disk has had (0: that is not known).
    """

    cluster: str
    node: str
    peer: str
    store: str
    incarnation: int
    times: Times = Times()
    last_incarnation: int = 0

    @property
    def member(self) -> Member:
        """This node's own data."""
        return Member(self.node, self.store)


class Pair(msgspec.Struct, array_like=True):
    """The state. Instants are monotonic milliseconds of this node."""

    # Durable.
    cfg: Ownership | None = None  # the newest register value adopted
    log_epoch: int = 0  # never falls
    log: LogShape = LogShape()
    # Volatile.
    role: Role = Role.STANDBY
    writing: bool = False
    adopting: Ownership | None = None  # being written to the cell
    last_grant_ms: int = 0
    good_beat_ms: int = 0  # the last good beat, or the last change of the register
    lease_ms: int = 0  # valid while now is before
    lease_not_for_ms: int = -1  # beats sent at or before this instant renew no lease: the loop was late then
    heard_ms: int = 0  # when the newest beat of this epoch that was answered was sent
    peer_store: str = ""  # that of the last BeatAck
    peer_index: int = NOTHING  # what that store acknowledged in this epoch
    peer_is_behind: bool = False  # an in-sync peer denies what it acknowledged, or has another store: it lost data
    peer_batch_ms: int = 0  # age of the peer's oldest batch not yet fsynced, as it said
    unacked_since_ms: int = NOTHING  # a Rep is unanswered since
    commit: int = 0  # the highest index known to be acknowledged; never falls
    same_epoch: int = 0  # a standby: the epoch of the owner whose log was compared with ours
    same_index: int = 0  # and so far they are known to agree; what lies beyond may be a tail that will be dropped
    join_index: int = 0  # JOINING: so far the peer must acknowledge
    couple_sent: bool = False  # JOINING: the register was asked, so only the register can say that we are solo
    asked: Cas | None = None  # outcome not known
    asked_ms: int = NOTHING
    answered_ms: int = 0  # when the register's last answer came
    looked_ms: int = NOTHING  # the register was read, without any need to have it answered
    skips_wait: bool = False  # the value adopted last was a hand-over to us
    has_read: bool = False  # the register answered this incarnation
    register_lost: bool = False  # it knows less than we do, or nothing; told once
    peer_epoch: int = 0  # the highest epoch anybody spoke of

    @property
    def epoch(self) -> int:
        """The epoch of the ownership that this node knows, 0 when it knows none."""
        return 0 if self.cfg is None else self.cfg.epoch

    @property
    def highest(self) -> int:
        """The highest epoch this node has persisted."""
        return max(self.epoch, self.log_epoch)


# --- what the rules ask of the world ----------------------------------------------------------------------------------


class Effect(msgspec.Struct, frozen=True, tag=True):
    """What all effects of the pair share."""


class Send(Effect, frozen=True):
    """To the peer."""

    message: AnyPairMessage


class Ask(Effect, frozen=True):
    """To the register."""

    question: Read | Cas


class Keep(Effect, frozen=True):
    """Write the cells, then call `kept`."""

    cfg: Ownership
    log_epoch: int


class Write(Effect, frozen=True):
    """Change the log by the Rep at hand and raise the cell `log_epoch`, in one transaction; then call `written`."""

    drop_after: int | None
    skip: int
    log_epoch: int
    ack_index: int
    shape: LogShape  # afterwards


class Install(Effect, frozen=True):
    """Replace the log by the snapshot at hand and raise the cell `log_epoch`, in one transaction; then `written`."""

    log_epoch: int
    ack_index: int
    shape: LogShape


class Activate(Effect, frozen=True):
    """Begin to act: apply the whole log, append EpochBegan, open the links."""

    epoch: int


class GoOn(Effect, frozen=True):
    """The owner goes on, in another epoch or another role; its next records carry that epoch."""

    epoch: int
    role: Role


class Drain(Effect, frozen=True):
    """Take no more commands; call `drained` when everything decided is acknowledged."""


class End(Effect, frozen=True):
    """Stop at once; the node boots again and is a standby."""

    reason: str


class Alarm(Effect, frozen=True):
    """Tell a person."""

    sentence: str
