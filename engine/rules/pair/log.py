"""The shape of a log: which epoch each index belongs to, without the records. Floor 3.

* Records with the same index and epoch are the same record: an epoch has one owner, and an owner writes an index once.
* Below `base` lies a snapshot; nothing there can be dropped again, for it covers only what is acknowledged.
"""

from collections.abc import Sequence

import msgspec

Run = tuple[int, int]  # first index, epoch


class LogShape(msgspec.Struct, frozen=True, array_like=True):
    """Runs of one epoch each, in rising order; the first begins at `base` + 1, unless the log is empty behind it."""

    base: int = 0
    base_epoch: int = 0
    last: int = 0
    runs: tuple[Run, ...] = ()

    @property
    def last_epoch(self) -> int:
        """The epoch of the last record, 0 of an empty log."""
        return self.runs[-1][1] if self.runs else self.base_epoch

    def epoch_at(self, index: int) -> int | None:
        """Return the epoch of a record; None where it is not known (below the snapshot, beyond the end)."""
        if index == self.base:
            return self.base_epoch
        if not self.base < index <= self.last:
            return None
        for first, epoch in reversed(self.runs):
            if first <= index:
                return epoch
        return None

    def has(self, index: int, epoch: int) -> bool:
        """Tell whether the log reaches so far and agrees there."""
        return self.epoch_at(index) == epoch

    def appended(self, epochs: Sequence[int]) -> "LogShape":
        """Return the shape with further records behind the last."""
        runs, last = list(self.runs), self.last
        for epoch in epochs:
            last += 1
            if not runs or runs[-1][1] != epoch:
                runs.append((last, epoch))
        return LogShape(self.base, self.base_epoch, last, tuple(runs))

    def cut_after(self, index: int) -> "LogShape":
        """Return the shape without the records above index; raises ValueError below the snapshot."""
        if index < self.base:
            raise ValueError(f"nothing below {self.base} can be dropped: a snapshot covers it")
        runs = tuple(run for run in self.runs if run[0] <= index)
        return LogShape(self.base, self.base_epoch, min(self.last, index), runs)

    def based_on(self, index: int, epoch: int) -> "LogShape":
        """Return the shape with a snapshot up to `index` under it; what lies behind stays."""
        runs = tuple((max(first, index + 1), epoch) for first, epoch in self.runs_behind(index))
        return LogShape(index, epoch, max(index, self.last), runs)

    def runs_behind(self, index: int) -> list[Run]:
        """Return the runs that reach beyond an index."""
        ends = [first - 1 for first, _ in self.runs[1:]] + [self.last]
        return [run for run, end in zip(self.runs, ends, strict=True) if end > index] if self.runs else []


class Edit(msgspec.Struct, frozen=True, array_like=True):
    """What a Rep does to a log: drop all above `drop_after` (None: nothing), then append from entry `skip` on."""

    drop_after: int | None
    skip: int


def edit_of(shape: LogShape, prev_index: int, epochs: Sequence[int]) -> Edit:
    """Compare entries with a log that agrees at `prev_index`.

    Entries that are there already are left alone, and so is what lies beyond them: only from the first index whose
    epoch differs is a suffix dropped. Entries below the snapshot are covered by it.
    """
    for place, epoch in enumerate(epochs):
        index = prev_index + 1 + place
        if index <= shape.base:
            continue
        if index > shape.last:
            return Edit(None, place)
        if shape.epoch_at(index) != epoch:
            return Edit(index - 1, place)
    return Edit(None, len(epochs))
