"""RealPlace: one process on this machine with a state folder: makes real worlds for the nodes in it. Floor 9.

* The folder belongs to one process (lock with pid and boot id), is checked for what it can not live on (network file
  systems, read-only), and holds one folder for each node.
"""

import os
import sys
from pathlib import Path

from engine.jobs.guard_host import GuardHost
from engine.journal.lock import lock_directory
from engine.journal.snapshots import ProcessSnapshotMaker
from engine.journal.sqlite_store import open_sqlite_store
from engine.ports import SnapshotMaker, Store
from engine.runtime.real_clock import RealClock
from engine.runtime.real_world import RealWorld, next_incarnation
from transports.memory import MemoryHub, MemoryTransport

# A new interpreter may know another path than the host has arranged, and its folder may hold modules called like ours.
_SNAPSHOT = """\
import sys
mark = sys.argv.index("--")
sys.path[:0] = sys.argv[1:mark]
from engine.snapshot import main
main(sys.argv[mark + 1:])
"""


class RealPlace:
    """The nodes of one process share its memory transport and its state folder."""

    def __init__(self, state: Path) -> None:
        """Take the folder; raises StoreFault with a sentence when it can not be had."""
        self.state = state.absolute()
        self.clock = RealClock()
        self._lock = lock_directory(str(self.state))
        self._hub = MemoryHub()
        self._client = self.world("place")

    def node_world(self, node: str, folder: str) -> RealWorld:
        """Return the world of the next incarnation of a node; raises StoreFault."""
        path = self.state / folder
        return self._world(node, path, next_incarnation(path, self.clock.now_ms()))

    def world(self, node: str) -> RealWorld:
        """Return a world for somebody without state, such as a client."""
        return self._world(node, self.state, 0)

    def new_id(self) -> str:
        """Return a random id."""
        return self._client.new_id()

    def _world(self, node: str, folder: Path, incarnation: int) -> RealWorld:
        return RealWorld(
            node,
            folder,
            incarnation=incarnation,
            transports={"memory": MemoryTransport(self._hub, node)},
            open_store=_open_store,
            make_host=GuardHost,
            make_snapshot_maker=_snapshot_maker,
        )

    def close(self) -> None:
        """Give the folder back."""
        self._lock.release()


async def _open_store(path: Path) -> Store:
    # Recovery reads everything behind the snapshot and proves it on the way.
    return await open_sqlite_store(str(path), prove_first=False)


def _snapshot_maker(path: Path, role: str, node: str) -> SnapshotMaker:
    def argv(out: str, upto: int) -> list[str]:
        places = [str(Path(__file__).parent.parent), *(one for one in sys.path if os.path.isabs(one))]
        return [sys.executable, "-P", "-c", _SNAPSHOT, *places, "--", role, node, str(path), str(upto), out]

    return ProcessSnapshotMaker(argv, str(path.with_suffix(".snapshot")))
