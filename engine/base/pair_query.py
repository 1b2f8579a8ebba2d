"""What a person asks a node of a pair, and what it answers: its status, a switch-over, a forced takeover. Floor 0.

* Bodies of Ask and Answer, at the pair's own address; no node asks another this. A refusal is a Problem.
* A status is answered in every state, by who acts and by who does not: it says nothing about orders.
"""

import msgspec

from engine.base.pair import Member
from engine.base.problem import Problem

PAIR_QUERY_BYTES_MAX = 256  # none takes more than 40


class PairQuery(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """What all queries share."""


class GetPairStatus(PairQuery, frozen=True):
    """Ask what this node is, and what it knows of the other and of the register."""


class SwitchOver(PairQuery, frozen=True):
    """Ask the owner to come to a stop and to hand over to the other node."""


class ForceTakeOver(PairQuery, frozen=True):
    """Ask a node to act although its data may be incomplete; the asker has seen that the other node is off."""

    peer_is_off: bool = False


class JournalSeen(msgspec.Struct, frozen=True, array_like=True):
    """A node's journal: records `first` to `last` are kept, up to `base` a snapshot covers them.

    `commit`: up to there everything is known here to be acknowledged.
    """

    first: int
    base: int
    last: int
    last_epoch: int
    commit: int


class PeerSeen(msgspec.Struct, frozen=True, array_like=True):
    """The other node, as this one sees it.

    `problem`: why the two do not speak, None when they do; `stranger`: whom this node has refused last, and why.
    `acknowledged`: what it holds, as it told the owner in this epoch (-1: nothing is known). `epoch`: the highest it
    spoke of. `ahead_ms`: by how much its wall clock is ahead of ours (None: not known). `feature`: its level (0: not
    known).
    """

    node: str
    connected: bool
    problem: Problem | None
    stranger: Problem | None
    store: str
    acknowledged: int
    epoch: int
    ahead_ms: int | None
    feature: int


class RegisterSeen(msgspec.Struct, frozen=True, array_like=True):
    """The register, as this node sees it.

    `state`: not asked | reachable | unreachable | lost (it knows less than this node) | unknown pair. `sentence` says
    more; `silent_ms`: since its last answer (-1: it never answered this incarnation).
    """

    state: str
    sentence: str
    silent_ms: int


class PairStatus(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A node of a pair. `owner` and `insync` are those of `epoch`, the newest value of the register adopted here.

    `highest`: the highest epoch ever persisted here; `forced_epoch`: of a forced takeover by this node, 0 for none.
    `alarms`: what a person was told to do, newest last; `warnings`: what is not right now and harms nobody yet.
    """

    cluster: str
    pair: str
    role: str
    node: str
    incarnation: int
    store: str
    state: str
    acts: bool
    epoch: int
    highest: int
    owner: str
    insync: tuple[Member, ...]
    journal: JournalSeen
    peer: PeerSeen
    register: RegisterSeen
    alarms: tuple[str, ...]
    warnings: tuple[str, ...]
    times: dict[str, int]
    feature: int
    feature_written: int
    malformed: int
    forced_epoch: int
    wall_ms: int

    @property
    def is_in_sync(self) -> bool:
        """Whether this node's very data is complete, as far as it knows."""
        return Member(self.node, self.store) in self.insync


class PairDone(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What was asked has been done, or begun; the sentence says which, and what follows."""

    sentence: str


AnyPairQuery = GetPairStatus | SwitchOver | ForceTakeOver
AnyPairAnswer = PairStatus | PairDone | Problem

decode_pair_query = msgspec.msgpack.Decoder(AnyPairQuery).decode
decode_pair_answer = msgspec.msgpack.Decoder(AnyPairAnswer).decode
