"""Trace: what ran, in which order, folded into one digest; and the sentences that say why a loop ended. Floor 10.

* An entry is (nanoseconds since the beginning, node, callback name); none of the three depends on addresses or hashes.
* The digest is blake2b over all entries; only the last few hundred entries themselves are kept.
* While garbage is collected here, at fixed steps, finalizers run at the same place of the trace every time.
"""

import gc
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

from engine.simulation.loop_nodes import NS_PER_SECOND, Lane

FOLD_STEPS = 512  # entries between two updates of the digest
GC_YOUNG_STEPS = 8_192  # where garbage is collected, when it is: the two young generations
GC_WHOLE_STEPS = 262_144  # and everything
WAITING_SHOWN_MAX = 40  # tasks named in the text of a Deadlock; the rest is counted
BUSY_SHOWN_MAX = 3  # callbacks named in the text of a Runaway

Entry = tuple[int, str, str]


class Deadlock(RuntimeError):
    """Nothing is ready, no timer is set, and somebody waits; the sentence lists who and where."""


class Runaway(RuntimeError):
    """The loop made more steps, or went on for longer, than it was allowed."""


class Trace:
    """The rolling digest of a run. Append to `entries`, then call `fold` every FOLD_STEPS entries."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.collects_garbage = False
        self._before: list[Entry] = []
        self._hash = hashlib.blake2b(digest_size=16)

    def fold(self, steps: int) -> None:
        """Hash the entries at hand; `steps` is the loop's counter, which also says when to collect garbage."""
        if self.entries:
            self._hash.update("".join([f"{at_ns} {node} {name}\n" for at_ns, node, name in self.entries]).encode())
            self._before, self.entries = self.entries, []
        if self.collects_garbage and not steps % GC_YOUNG_STEPS:
            gc.collect(1 if steps % GC_WHOLE_STEPS else 2)

    def digest(self) -> str:
        """The digest of every entry so far, as 32 hexadecimal digits."""
        self.fold(1)
        return self._hash.hexdigest()

    def busiest(self) -> str:
        """The callbacks that ran most often of late."""
        recent = Counter(f"[{node or 'environment'}] {name}" for _, node, name in self._before + self.entries)
        return ", ".join(f"{label} ({count} times)" for label, count in recent.most_common(BUSY_SHOWN_MAX))


def deadlock_text(now_ns: int, waiting: Sequence[str], lanes: Iterable[Lane]) -> str:
    """Say who waits for nothing, one per line, and which nodes are paused or crashed."""
    lines = [f"nothing is ready and no timer is set, {now_ns / NS_PER_SECOND:.6f} s after the beginning;"]
    lines.append(f"{len(waiting)} waiting:" if waiting else "no task waits, yet the loop was left running")
    lines += [f"  {line}" for line in waiting[:WAITING_SHOWN_MAX]]
    if len(waiting) > WAITING_SHOWN_MAX:
        lines.append(f"  … and {len(waiting) - WAITING_SHOWN_MAX} more")
    for lane in lanes:
        if lane.crashed:
            lines.append(f"{lane.name} has crashed")
        elif lane.paused:
            lines.append(f"{lane.name} is paused, with {len(lane.ready)} callbacks and {len(lane.timers)} timers")
    return "\n".join(lines)


def runaway_text(what: str, now_ns: int, steps_here: int, busiest: str) -> str:
    """Say which bound was reached, where time stands, and who is busy."""
    stand = f"time has stood at {now_ns / NS_PER_SECOND:.6f} s for {steps_here:,} steps"
    return f"{what}; {stand}; of late mostly {busiest or 'nothing'}"
