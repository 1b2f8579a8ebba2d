"""What `journal restored` does: another identity for the data of a pair that was restored from a copy. Floor 11."""

import asyncio
from collections.abc import Sequence
from pathlib import Path


def renew(path: str, journals: Sequence[Path]) -> list[tuple[str, bool]]:
    """Renew the identities of the journals in a directory that nobody uses; returns each and whether it had one.

    Raises StoreFault: the directory is in use, or a journal can not be read.
    """
    from engine.real import RealPlace

    is_of_one_node = journals[0].parent == Path(path)
    place = RealPlace(Path(path).parent if is_of_one_node else Path(path))
    try:
        return [(str(one), asyncio.run(_renew(one, place.new_id()))) for one in journals]
    finally:
        place.close()


async def _renew(journal: Path, new_id: str) -> bool:
    from engine.journal.sqlite_store import open_sqlite_store
    from engine.pair.cells import renew_store_id

    store = await open_sqlite_store(str(journal))
    try:
        return await renew_store_id(store, lambda: new_id)
    finally:
        await store.close()
