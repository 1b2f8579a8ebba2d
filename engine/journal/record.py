"""The hash chain: how records are framed, linked to the one before, and checked. Floor 4.

* A record's hash is blake2b (16 bytes) over: hash of the record before, index, epoch, length of marks, marks, events.
* Indexes rise by one without a gap; epochs never fall along the log.
* A chain is checked from a known end (`Tip`): whoever holds a trusted hash can trust everything that follows it.
"""

import struct
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from engine.base.codec import INTEGER_MAX
from engine.base.limits import EVENTS_BYTES_MAX
from engine.ports import Entry, Record, StoreFault, Tip

HASH_BYTES = 16
MARKS_BYTES_MAX = 1 << 20  # encoded marks of one record; a record that needs more is refused

EMPTY_TIP = Tip(0, 0, bytes(HASH_BYTES))

_frame = struct.Struct("<QQI").pack  # index, epoch, length of the marks: the rest is the events


class ChainBroken(Exception):
    """Record `index` is not what was written; `reason` continues the sentence `record 7 …`."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(index, reason)
        self.index = index
        self.reason = reason

    def __str__(self) -> str:
        return f"record {self.index} {self.reason}"


def record_hash(before: bytes, index: int, epoch: int, marks: bytes, events: bytes) -> bytes:
    """Compute the hash of one record from the hash of the record before and its content."""
    framed = b"".join((before, _frame(index, epoch, len(marks)), marks, events))
    return blake2b(framed, digest_size=HASH_BYTES).digest()


def digest(*parts: bytes) -> bytes:
    """Compute the checksum of something that stands outside the chain (a cell, a snapshot), parts framed by length."""
    state = blake2b(digest_size=HASH_BYTES)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.digest()


def link(tip: Tip, entries: Sequence[Entry]) -> list[Record]:
    """Make records of entries by chaining them to the end of the log.

    Raises StoreFault when an entry does not continue the log or breaks a bound; then none of them counts.
    """
    records: list[Record] = []
    index, epoch, before = tip.index, tip.epoch, tip.hash
    for entry in entries:
        index += 1
        marks, events = entry.marks, entry.events
        if (
            entry.index != index
            or not epoch <= entry.epoch <= INTEGER_MAX
            or len(events) > EVENTS_BYTES_MAX
            or len(marks) > MARKS_BYTES_MAX
        ):
            raise StoreFault(_refusal(entry, index, epoch))
        epoch = entry.epoch
        # Written out instead of calling record_hash: the call would be a fifth of the cost.
        framed = b"".join((before, _frame(index, epoch, len(marks)), marks, events))
        before = blake2b(framed, digest_size=HASH_BYTES).digest()
        records.append(Record(index, epoch, events, marks, before))
    return records


def _refusal(entry: Entry, index: int, epoch: int) -> str:
    if entry.index != index:
        return f"Record {entry.index} was refused: the next record of the journal is {index}."
    if entry.epoch < epoch:
        return f"Record {index} was refused: its epoch {entry.epoch} lies below {epoch}, the epoch of the one before."
    if entry.epoch > INTEGER_MAX:
        return f"Record {index} was refused: its epoch {entry.epoch} does not fit into 64 bits."
    if len(entry.events) > EVENTS_BYTES_MAX:
        return f"Record {index} was refused: its events have {len(entry.events)} bytes, at most {EVENTS_BYTES_MAX} fit."
    return f"Record {index} was refused: its marks have {len(entry.marks)} bytes, at most {MARKS_BYTES_MAX} fit."


def check(tip: Tip, records: Iterable[Record]) -> Tip:
    """Check that records continue the log behind `tip`, return the new end; raises ChainBroken at the first fault."""
    index, epoch, before = tip.index, tip.epoch, tip.hash
    for record in records:
        index += 1
        if record.index != index:
            raise ChainBroken(index, "is missing" if record.index > index else f"is followed by number {record.index}")
        try:
            marks = record.marks
            framed = b"".join((before, _frame(index, record.epoch, len(marks)), marks, record.events))
        except (TypeError, struct.error):  # damage can change the type of a column
            raise ChainBroken(index, "holds something that is not a record") from None
        before = blake2b(framed, digest_size=HASH_BYTES).digest()
        if before != record.hash:
            raise ChainBroken(index, "does not match its hash")
        if record.epoch < epoch:
            raise ChainBroken(index, f"has epoch {record.epoch} after epoch {epoch}")
        epoch = record.epoch
    return Tip(index, epoch, before)
