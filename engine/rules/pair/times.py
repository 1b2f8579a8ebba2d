"""The times of a pair, and the inequalities that make them safe. Floor 3.

* Milliseconds of a monotonic clock that counts suspend time; docs/failover.md derives each.
* A pair whose times break an inequality is refused at start, on both sides.
"""

from collections.abc import Iterator

import msgspec

MILLION = 1_000_000
CLOCK_ERROR_PPM_MAX = 100_000  # a clock that is a tenth wrong is broken


class Times(msgspec.Struct, frozen=True):
    """All times of a pair, in milliseconds."""

    beat_ms: int = 1_000  # H
    silence_ms: int = 2_500  # U: so long the peer is silent before the owner uncouples
    lease_ms: int = 3_000  # L
    takeover_ms: int = 3_500  # since the last good beat
    wait_ms: int = 3_420  # W: no activation earlier after a lease was granted
    batch_ms: int = 10_000  # a batch that takes so long to be fsynced counts as silence
    good_ms: int = 3_500  # a beat is good while both of its ages are below
    lateness_ms: int = 400  # J: how late the loop may be
    again_ms: int = 500  # a question to the register without an answer is asked again
    clock_error_ppm: int = 500  # ρ
    near: int = 1_000  # records: a peer so far behind is near enough to join


def wait_ms_min(times: Times) -> int:
    """Return the shortest safe W: (L/(1−ρ) + J)·(1+ρ), rounded up.

    The owner's clock may be slow, so its lease lasts L/(1−ρ) of true time; then its loop may be late by J; and the
    clock of the standby that counts W may be fast.
    """
    slow, fast = MILLION - times.clock_error_ppm, MILLION + times.clock_error_ppm
    numerator = (times.lease_ms * MILLION + times.lateness_ms * slow) * fast
    return -(-numerator // (slow * MILLION))


def faults_of(times: Times) -> list[str]:
    """Return a sentence for each inequality that does not hold; empty when the times are safe."""
    faults = [
        f"{name} is {getattr(times, name)}; it must be above 0."
        for name in times.__struct_fields__
        if getattr(times, name) <= 0 and name not in ("clock_error_ppm", "near")
    ]
    if not 0 <= times.clock_error_ppm <= CLOCK_ERROR_PPM_MAX:
        faults.append(f"clock_error_ppm is {times.clock_error_ppm}; it must be from 0 to {CLOCK_ERROR_PPM_MAX}.")
    if times.near < 0:
        faults.append(f"near is {times.near}; it must not be negative.")
    return faults or list(_broken(times))


def _broken(times: Times) -> Iterator[str]:
    beat, silence, lease, takeover = times.beat_ms, times.silence_ms, times.lease_ms, times.takeover_ms
    wait, good, late, least = times.wait_ms, times.good_ms, times.lateness_ms, wait_ms_min(times)
    if wait < least:
        needs = f"a lease of {lease} ms, a loop late by {late} ms and clocks wrong by {times.clock_error_ppm} ppm"
        yield f"wait_ms is {wait}; {needs} need at least {least}, or two nodes may act at once."
    if takeover < wait:
        yield f"takeover_ms is {takeover}, below wait_ms {wait}: who takes over would have to wait, while nobody acts."
    if takeover <= 3 * beat:
        yield f"takeover_ms is {takeover}; three missed beats of {beat} ms need more than {3 * beat}."
    if silence <= 2 * beat:
        yield f"silence_ms is {silence}; two missed beats of {beat} ms need more than {2 * beat}."
    if silence >= lease:
        yield f"silence_ms is {silence}, lease_ms {lease}: the owner would be fenced before it asks to go on alone."
    if silence + late >= takeover:
        why = "on a cut the standby could ask before the healthy owner does"
        yield f"silence_ms {silence} and lateness_ms {late} reach takeover_ms {takeover}: {why}."
    if good < lease:
        yield f"good_ms is {good}, below lease_ms {lease}: a beat would be bad while its sender's lease is valid."
    if times.batch_ms <= good:
        why = "an owner would go on alone because its peer's disk is slow"
        yield f"batch_ms is {times.batch_ms}, not above good_ms {good}: {why}."
    if times.again_ms >= takeover:
        why = "one lost answer would cost more than a whole suspicion"
        yield f"again_ms is {times.again_ms}, not below takeover_ms {takeover}: {why}."
