"""Alone: the replication of a node without a peer: it may always act, and its own disk is everybody. Floor 5."""

from collections.abc import Sequence

from engine.ports import Entry


class Alone:
    """Implements ports.Replication for a standalone node."""

    def may_act(self) -> bool:
        return True

    async def acting(self) -> None:
        return

    def appending(self) -> None:
        return

    def appended(self, entries: Sequence[Entry]) -> None:
        return

    async def acknowledged(self, index: int) -> None:
        return
