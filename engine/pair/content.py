"""What a Rep carries: records as bytes, and whether a message of the peer is sound. Floor 6.

* A body is the encoded pair (events, marks) of a record; the events stay as they are, bytes in bytes.
* A message is looked at before a rule believes it: what could not be written later is refused now, as malformed.
"""

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from engine.base.codec import encode
from engine.base.pair import AnyPairMessage, Beat, InstallSnapshot, Rep, RepAck, RepNack, Yield
from engine.base.wire import Raw
from engine.ports import Entry, Record

HASH_BYTES = 16

_decode_body = msgspec.msgpack.Decoder(tuple[bytes, bytes]).decode


def body_of(record: Entry | Record) -> Raw:
    """Return a record's body."""
    return Raw(encode((record.events, record.marks)))


def weight_of(records: Sequence[Entry | Record]) -> int:
    """Return how many bytes records bring."""
    return sum(len(record.events) + len(record.marks) for record in records)


def entries_of(rep: Rep, skip: int = 0) -> list[Entry]:
    """Return the entries of a Rep but the first `skip`; raises MsgspecError for a body that is none."""
    first = rep.prev_index + 1
    return [
        Entry(first + place, rep.epochs[place], *_decode_body(rep.bodies[place]))
        for place in range(skip, len(rep.bodies))
    ]


def last_told(message: AnyPairMessage) -> int:
    """Return up to which record its sender surely has, or had, a log; -1 where it does not say."""
    match message:
        case Beat(commit=last) | RepAck(index=last) | InstallSnapshot(index=last) | Yield(last=last):
            return last
        case Rep():
            return message.prev_index + len(message.epochs)
    return -1


def fault_of(message: AnyPairMessage) -> str | None:
    """Say what is wrong with a message whose fields have the right types; None when it is sound."""
    if message.epoch < 0:
        return f"its epoch is {message.epoch}"
    match message:
        case Rep():
            return _rep_fault(message)
        case RepAck(index=index) | RepNack(hint=index) if index < 0:
            return f"it speaks of record {index}"
        case InstallSnapshot():
            if message.index < 1 or message.offset < 0 or message.size_bytes < 0 or len(message.hash) != HASH_BYTES:
                return f"it is no part of a snapshot of record {message.index}"
    return None


def _rep_fault(rep: Rep) -> str | None:
    if rep.prev_index < 0 or len(rep.epochs) != len(rep.bodies):
        return f"it has {len(rep.epochs)} epochs and {len(rep.bodies)} records behind record {rep.prev_index}"
    epochs = (rep.prev_epoch, *rep.epochs, rep.epoch)
    if any(later < earlier for earlier, later in pairwise(epochs)):
        return f"the epochs of its records fall: {epochs[:10]}"
    try:
        entries_of(rep)
    except (msgspec.MsgspecError, ValueError) as error:
        return f"a record of it can not be read: {error}"
    return None
