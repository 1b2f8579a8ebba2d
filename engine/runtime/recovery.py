"""Recovery: snapshot and replay give the state, the stream marks and the place in the log. Floor 5.

* The same code makes snapshots: a snapshot is a recovery up to an index, written down.
"""

from typing import Any, Generic, TypeVar

import msgspec

from engine.base.codec import encode
from engine.base.ids import Cursor
from engine.ports import Machine, Record, Snapshot, Store

S = TypeVar("S")

decode_marks = msgspec.msgpack.Decoder(dict[str, Cursor]).decode


class SnapshotBody(msgspec.Struct, frozen=True, array_like=True):
    """What a snapshot's bytes hold: where each stream stood, and the machine's own encoded state."""

    marks: dict[str, Cursor]
    state: bytes


class Recovered(msgspec.Struct, Generic[S]):
    """What a journal says."""

    state: S
    marks: dict[str, Cursor]
    index: int
    epoch: int


_decode_body = msgspec.msgpack.Decoder(SnapshotBody).decode


def begin_recovery(machine: Machine[S, Any, Any, Any], snapshot: Snapshot | None) -> Recovered[S]:
    """Return what a snapshot says (a blank state without one)."""
    if snapshot is None:
        return Recovered(machine.blank(), {}, 0, 0)
    body = _decode_body(snapshot.state)
    return Recovered(machine.decode_state(body.state), body.marks, snapshot.index, snapshot.epoch)


def replay(machine: Machine[S, Any, Any, Any], recovered: Recovered[S], records: list[Record]) -> None:
    """Apply records to what was recovered so far."""
    apply, decode, state = machine.apply, machine.decode_events, recovered.state
    for record in records:
        index = record.index
        for event in decode(record.events):
            apply(state, event, index)
        if record.marks:
            recovered.marks.update(decode_marks(record.marks))
        recovered.index, recovered.epoch = index, record.epoch


async def recover(machine: Machine[S, Any, Any, Any], store: Store) -> Recovered[S]:
    """Read a store to its end; raises StoreFault for a damaged record."""
    recovered = begin_recovery(machine, await store.snapshot())
    async for records in store.replay(recovered.index):
        replay(machine, recovered, records)
    return recovered


def snapshot_bytes(machine: Machine[S, Any, Any, Any], recovered: Recovered[S]) -> bytes:
    """Return the bytes of a snapshot of what was recovered."""
    return encode(SnapshotBody(recovered.marks, machine.encode_state(recovered.state)))
