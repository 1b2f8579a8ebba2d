"""Retention: up to which record a journal may be trimmed, and which readers it waits for no longer. Floor 4.

* Never above the snapshot, nor above what everybody in sync has acknowledged.
* A reader keeps back the record at its cursor and everything behind it, so that it can show where it stands and go on.
* A reader that keeps back more than the bounds allow loses its hold and is answered TooOld; peers in sync never do.
* How large and how old the journal behind an index is, is known from samples, in favour of the reader.
"""

from bisect import bisect_left
from collections.abc import Sequence

import msgspec

SAMPLES_MAX = 1_024  # beyond it every second one is forgotten
SAMPLE_BYTES = 1 << 20
SAMPLE_MS = 60_000

BYTES_MAX = 4 << 30  # default of the bounds: N GiB or D days
AGE_MS_MAX = 7 * 86_400_000


class Bounds(msgspec.Struct, frozen=True):
    """How far a reader may keep the journal back."""

    bytes_max: int = BYTES_MAX
    age_ms_max: int = AGE_MS_MAX


class Hold(msgspec.Struct, frozen=True):
    """A reader that is known by name, and the last index it has acknowledged."""

    name: str
    index: int


class Sample(msgspec.Struct, frozen=True):
    """At this time the journal ended at `index` and had taken in `written_bytes` since it was opened."""

    index: int
    at_ms: int
    written_bytes: int


class Decision(msgspec.Struct, frozen=True):
    """Trim up to `upto` (0: nothing); the readers in `lost` have no hold any more."""

    upto: int
    lost: tuple[str, ...]


class Growth:
    """How the journal grew: a bounded list of samples, oldest first; the more there are, the wider they stand apart."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self._apart = 1

    def note(self, sample: Sample) -> None:
        """Add a sample when the last one is minutes or MiB away; a shorter log forgets the samples above its end."""
        samples = self.samples
        while samples and samples[-1].index > sample.index:
            samples.pop()
        if samples:
            age_ms, size_bytes = sample.at_ms - samples[-1].at_ms, sample.written_bytes - samples[-1].written_bytes
            if age_ms < SAMPLE_MS * self._apart and size_bytes < SAMPLE_BYTES * self._apart:
                return
        samples.append(sample)
        if len(samples) > SAMPLES_MAX:
            del samples[1::2]
            self._apart *= 2

    def forget(self, upto: int) -> None:
        """Drop samples that lie below the log's first record; the last of them stays, as the log's beginning."""
        place = bisect_left(self.samples, upto + 1, key=lambda one: one.index)
        del self.samples[: max(place - 1, 0)]
        if self._apart > 1 and len(self.samples) < SAMPLES_MAX // 4:
            self._apart //= 2

    def behind(self, index: int, now: Sample) -> tuple[int, int]:
        """Return bytes and age in ms of what stands behind `index`, rather too small than too large."""
        place = bisect_left(self.samples, index, key=lambda one: one.index)
        if place == len(self.samples):
            return 0, 0
        found = self.samples[place]
        return max(now.written_bytes - found.written_bytes, 0), max(now.at_ms - found.at_ms, 0)


def decide_trim(
    *,
    snapshot_index: int,
    acknowledged_index: int,
    holds: Sequence[Hold],
    growth: Growth,
    now: Sample,
    bounds: Bounds,
) -> Decision:
    """Decide up to which index the journal may be trimmed now.

    `acknowledged_index` is what every peer in sync has (the journal's end when there is none).
    """
    ceiling = min(snapshot_index, acknowledged_index)
    upto = ceiling
    lost: list[str] = []
    for hold in holds:
        if hold.index > ceiling:
            continue
        size_bytes, age_ms = growth.behind(hold.index, now)
        if size_bytes > bounds.bytes_max or age_ms > bounds.age_ms_max:
            lost.append(hold.name)
        else:
            upto = min(upto, hold.index - 1)
    return Decision(max(upto, 0), tuple(lost))
