"""Staging: the parts of a snapshot, until it is whole. Floor 6.

* One snapshot at a time; its first part begins anew, and a part that does not follow the one before is dropped.
  Nothing of it is believed before the store has switched to it.
* What is longer than it says, or than the bound, is dropped whole.
"""

import msgspec

from engine.base.pair import InstallSnapshot
from engine.ports import Snapshot

SNAPSHOT_BYTES_MAX = 1 << 30
CHUNK_BYTES = 256 << 10


class Staging:
    """What has come of a snapshot."""

    def __init__(self) -> None:
        self._head: InstallSnapshot | None = None  # its first part, without the content
        self._parts = bytearray()

    @property
    def size_bytes(self) -> int:
        """How much is kept here."""
        return len(self._parts)

    def clear(self) -> None:
        """Forget what has come."""
        self._head, self._parts = None, bytearray()

    def add(self, part: InstallSnapshot) -> InstallSnapshot | None:
        """Take a part; returns the message with the whole content once it is there."""
        bare = msgspec.structs.replace(part, offset=0, chunk=b"")
        if part.offset == 0:
            self._head, self._parts = bare, bytearray()
        if bare != self._head or part.offset != len(self._parts):
            return None
        if part.size_bytes > SNAPSHOT_BYTES_MAX or part.offset + len(part.chunk) > part.size_bytes:
            self.clear()
            return None
        self._parts += part.chunk
        if len(self._parts) < part.size_bytes:
            return None
        whole = msgspec.structs.replace(bare, chunk=bytes(self._parts))
        self.clear()
        return whole


def snapshot_of(whole: InstallSnapshot) -> Snapshot:
    """Return what the store installs."""
    return Snapshot(whole.index, whole.index_epoch, whole.hash, whole.chunk)
