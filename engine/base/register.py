"""What is asked of a register over a link, what it answers, and which values it can keep. Floor 0.

* One query each way for each method of `ports.Register`, and `Seed`, an operator's word. Bodies of Ask and Answer.
* What a register cannot keep is refused before it reaches a disk: every implementation asks `ownership_fault`.
* The pair's own Read and Cas carry what the asking node must remember; these here carry what the register must know.
"""

import msgspec

from engine.base.ids import NAME_LENGTH_MAX
from engine.base.pair import Ownership
from engine.base.problem import Problem, problem

EPOCH_MAX = 2**31 - 1  # a fence is epoch · 2³² + attempt, one signed integer of 64 bits
NONCE_MAX = 2**63 - 1
INSYNC_MAX = 2  # a pair has two members
QUERY_BYTES_MAX = 16 << 10  # more than the longest value takes twice

OwnershipUnfit = problem("OwnershipUnfit", "A register can not keep this value: {fault}.")


class RegisterQuery(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """What all queries share."""


class CreateOwnership(RegisterQuery, frozen=True):
    """Create a cluster's value unless there is one."""

    first: Ownership


class ReadOwnership(RegisterQuery, frozen=True):
    """Read a cluster's value."""

    cluster: str


class CasOwnership(RegisterQuery, frozen=True):
    """Replace exactly `expected` by `new`."""

    expected: Ownership
    new: Ownership


class SeedOwnership(RegisterQuery, frozen=True):
    """Set a value above the one there is, or where there is none: an operator's word after a loss (R13, R14)."""

    value: Ownership


class RegisterStatus(RegisterQuery, frozen=True):
    """Ask the node that answers for the register what it is and how much it has done."""


class OwnershipNow(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The answer: the value that the cluster asked for has now, None when it is unknown."""

    ownership: Ownership | None


class RegisterCounts(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The answer to RegisterStatus: which node it is, counts by name, and which nodes are connected (role/node)."""

    node: str
    counts: dict[str, int]
    peers: tuple[str, ...]


AnyRegisterQuery = CreateOwnership | ReadOwnership | CasOwnership | SeedOwnership | RegisterStatus
AnyRegisterAnswer = OwnershipNow | RegisterCounts | Problem

decode_register_query = msgspec.msgpack.Decoder(AnyRegisterQuery).decode
decode_register_answer = msgspec.msgpack.Decoder(AnyRegisterAnswer).decode


def ownership_fault(value: Ownership) -> str | None:
    """Say what keeps a value from being kept, or None when it can be."""
    if not 1 <= value.epoch <= EPOCH_MAX:
        return f"its epoch {value.epoch} is not between 1 and {EPOCH_MAX}"
    if not 0 <= value.nonce <= NONCE_MAX:
        return f"its nonce {value.nonce} is not between 0 and {NONCE_MAX}"
    if not 1 <= len(value.insync) <= INSYNC_MAX:
        return f"{len(value.insync)} members are in sync in it, where 1 to {INSYNC_MAX} can be"
    names = (value.cluster, value.owner, *(one.node for one in value.insync), *(one.store for one in value.insync))
    if not all(may_be_named(name) for name in names):
        return f"its names have not 1 to {NAME_LENGTH_MAX} printable characters each"
    return None


def may_be_named(name: str) -> bool:
    """Tell whether a register keeps such a name (of a cluster, a node, a store)."""
    return 0 < len(name) <= NAME_LENGTH_MAX and name.isprintable()
