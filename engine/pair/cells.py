"""Cells: what a node of a pair keeps on its own disk beside its journal, and its state as read from both. Floor 6.

* None of it is replicated. The store's id names the data; a forced takeover has a cell of its own (`forcing`).
"""

from collections.abc import Callable, Sequence

import msgspec

from engine.base.codec import encode
from engine.base.pair import Ownership
from engine.ports import Record, Store
from engine.rules.pair import machine
from engine.rules.pair.log import LogShape
from engine.rules.pair.state import Pair

CFG, LOG_EPOCH, STORE_ID, FEATURE, NONCE = "pair cfg", "pair log epoch", "pair store", "pair feature", "pair nonce"

_decode_cfg = msgspec.msgpack.Decoder(Ownership).decode


def cells(log_epoch: int, cfg: Ownership | None = None) -> dict[str, bytes]:
    """Return the local cells of a write."""
    found = {LOG_EPOCH: encode(log_epoch)}
    if cfg is not None:
        found[CFG] = encode(cfg)
    return found


async def boot_state(store: Store, now_ms: int) -> Pair:
    """Return the state of a new incarnation from what the disk holds; StoreFault names a damaged record."""
    snapshot = await store.snapshot()
    shape = LogShape() if snapshot is None else LogShape(snapshot.index, snapshot.epoch, snapshot.index)
    async for records in store.replay(shape.last):
        shape = shape.appended(_epochs(records))
    cfg = store.cell(CFG)
    found = None if cfg is None else _decode_cfg(cfg)
    return machine.boot(found, _number(store.cell(LOG_EPOCH), 0), shape, now_ms)


def _number(cell: bytes | None, default: int) -> int:
    return default if cell is None else msgspec.msgpack.decode(cell, type=int)


def _epochs(records: Sequence[Record]) -> tuple[int, ...]:
    return tuple(record.epoch for record in records)


async def store_id(store: Store, new_id: Callable[[], str], nonce: int = 0) -> str:
    """Return the store's identity; a store without one gets one, durable before anybody hears of it.

    `nonce`: of the incarnation that begins; by it the disk knows later what it has had (`last_nonce`).

    It is written at each boot: what a killed process had written and not fsynced is read again now, and would be
    acknowledged; this write makes it durable first.
    """
    found = store.cell(STORE_ID) or new_id().encode()
    await store.set_cells({STORE_ID: found, NONCE: encode(nonce)})
    return found.decode()


def last_nonce(store: Store) -> int:
    """Return the nonce of the last incarnation that this disk has had, 0 for none."""
    return _number(store.cell(NONCE), 0)


async def renew_store_id(store: Store, new_id: Callable[[], str]) -> bool:
    """Give a restored store another identity (R16); False where it has none, being of no pair."""
    if store.cell(STORE_ID) is None:
        return False
    await store.set_cells({STORE_ID: new_id().encode()})
    return True


def feature_level(store: Store) -> int:
    """Return the level of events that may have been written for both nodes."""
    return _number(store.cell(FEATURE), 1)
