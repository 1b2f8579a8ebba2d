"""The leases of jobs (`on_partition: stop`): their times, and when an attempt has surely ended. Floor 3.

* A lease counts on the subagent from the instant *before* it asked, on the director from the instant it granted. So the
  one is over before the other, whatever the network does, as long as `faults_of` has nothing to say about the times.
* The director's table is volatile: whoever begins to act takes it that every attempt was granted a lease just now.
* All instants are milliseconds of a monotonic clock that counts suspend time, each of its own machine.
* Who shortens `lease_ms` waits one old `director_ms` before anything may act by the new times.
"""

from collections.abc import Iterable, Iterator

import msgspec

from engine.base.ids import SubagentId
from engine.model.job import LeaseTerms

MILLION = 1_000_000
CLOCK_ERROR_PPM_MAX = 100_000  # a clock that is a tenth wrong is broken


class LeaseTimes(msgspec.Struct, frozen=True):
    """All times of leases, in milliseconds. docs/leases.md explains each."""

    lease_ms: int = 60_000  # L_S: a lease, on the subagent's clock
    grace_ms: int = 5_000  # G: from TERM to KILL
    margin_ms: int = 500  # K: KILL goes out so long before the lease ends
    director_ms: int = 66_000  # L_D: a lease, on the director's clock
    renew_ms: int = 5_000  # so often a lease is renewed
    late_ms: int = 5_000  # J_S: how late the guard may be, beyond K
    grain_ms: int = 10  # J_q: what reading two clocks in whole milliseconds, twice each, can hide
    detection_ms: int = 10_000  # until a dead director is suspected
    activation_ms: int = 30_000  # from there until the next one has reached the subagents
    clock_error_ppm: int = 500  # ρ


def director_ms_min(times: LeaseTimes) -> int:
    """Return the shortest safe L_D: (L_S + J_S)·(1+ρ)/(1−ρ) + J_q, rounded up.

    The subagent's clock may be slow and the director's fast, each by ρ.
    """
    slow, fast = MILLION - times.clock_error_ppm, MILLION + times.clock_error_ppm
    return -(-(times.lease_ms + times.late_ms) * fast // slow) + times.grain_ms


def faults_of(times: LeaseTimes) -> list[str]:
    """Return a sentence for each inequality that does not hold; empty when the times are safe."""
    may_be_0 = ("clock_error_ppm", "late_ms", "grain_ms", "grace_ms")
    faults = [
        f"{name} is {getattr(times, name)}; it must be {'at least' if name in may_be_0 else 'above'} 0."
        for name in times.__struct_fields__
        if getattr(times, name) < (0 if name in may_be_0 else 1)
    ]
    if times.clock_error_ppm > CLOCK_ERROR_PPM_MAX:
        faults.append(f"clock_error_ppm is {times.clock_error_ppm}; it must be from 0 to {CLOCK_ERROR_PPM_MAX}.")
    return faults or list(_broken(times))


def _broken(times: LeaseTimes) -> Iterator[str]:
    least = director_ms_min(times)
    if times.director_ms < least:
        needs = (
            f"a lease of {times.lease_ms} ms, a guard late by {times.late_ms} ms and clocks wrong by"
            f" {times.clock_error_ppm} ppm"
        )
        yield f"director_ms is {times.director_ms}; {needs} need at least {least}, or a job may run twice at once."
    usable = times.lease_ms - times.grace_ms - times.margin_ms
    needed = times.detection_ms + times.activation_ms + 2 * times.renew_ms
    if usable <= needed:
        yield (
            f"lease_ms {times.lease_ms} less grace_ms {times.grace_ms} and margin_ms {times.margin_ms} is {usable}; a"
            f" failover (detection_ms {times.detection_ms}, activation_ms {times.activation_ms}) and two renewals of"
            f" {times.renew_ms} ms need more than {needed}, or it would stop healthy jobs."
        )


def terms_of(times: LeaseTimes) -> LeaseTerms:
    """Return what a subagent is told with an offer."""
    return LeaseTerms(times.grace_ms, times.margin_ms)


# --- the subagent and its guard ---------------------------------------------------------------------------------------


def lease_end(asked_ms: int, _granted_ms: int, span_ms: int) -> int:
    """Return until when a lease lasts: counted from before it was asked for, not from when the grant came."""
    return asked_ms + span_ms


def fence_at(until_ms: int, grace_ms: int, margin_ms: int) -> int:
    """Return when TERM goes out to an attempt whose lease lasts until then; KILL goes out `grace_ms` later."""
    return until_ms - grace_ms - margin_ms


def extended(until_ms: int, wanted_ms: int, fence_ms: int, now_ms: int) -> int:
    """Return the deadline after a grant, by the guard's rule: raised, unless the attempt is being ended already."""
    return max(until_ms, wanted_ms) if now_ms < fence_ms else until_ms


# --- the director -----------------------------------------------------------------------------------------------------


def expiry(expires_ms: int, now_ms: int, director_ms: int) -> int:
    """Return when an attempt that is granted a lease now, or may have been, has surely ended."""
    return max(expires_ms, now_ms + director_ms)


def has_expired(expires_ms: int, now_ms: int) -> bool:
    """Tell whether nothing of an attempt can be running any more."""
    return now_ms >= expires_ms


class Lease(msgspec.Struct):
    """An attempt as its director sees it."""

    subagent: SubagentId
    expires_ms: int
    is_over: bool = False  # it counts as ended: no lease is granted for it any more


class Leases:
    """What a director knows of leases, by attempt key."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}

    def __len__(self) -> int:
        return len(self._leases)

    def __contains__(self, key: object) -> bool:
        return key in self._leases

    def note(self, key: str, subagent: SubagentId, now_ms: int, director_ms: int) -> None:
        """Know of an attempt under way. Whoever acted before may have granted a lease up to this instant."""
        if key not in self._leases:
            self._leases[key] = Lease(subagent, expiry(0, now_ms, director_ms))

    def grant(self, subagent: SubagentId, keys: Iterable[str], now_ms: int, director_ms: int) -> tuple[str, ...]:
        """Note the instant, and return for which of these the subagent gets a lease; say so only afterwards."""
        granted: list[str] = []
        for key in keys:
            lease = self._leases.get(key)
            if lease is not None and lease.subagent == subagent and not lease.is_over:
                lease.expires_ms = expiry(lease.expires_ms, now_ms, director_ms)
                granted.append(key)
        return tuple(granted)

    def expire(self, now_ms: int) -> list[str]:
        """Return the attempts that have surely ended by now, each once; from here on they are granted nothing."""
        found = [key for key, one in self._leases.items() if not one.is_over and has_expired(one.expires_ms, now_ms)]
        for key in found:
            self._leases[key].is_over = True
        return found

    def keep_only(self, is_under_way: Iterable[str]) -> None:
        """Forget all attempts but these."""
        kept = dict.fromkeys(is_under_way)
        self._leases = {key: lease for key, lease in self._leases.items() if key in kept}

    def by_subagent(self) -> dict[SubagentId, list[str]]:
        """Return the attempts that may be granted a lease, by subagent."""
        found: dict[SubagentId, list[str]] = {}
        for key, lease in self._leases.items():
            if not lease.is_over:
                found.setdefault(lease.subagent, []).append(key)
        return found

    def known(self) -> list[str]:
        """Return all attempts that are known."""
        return list(self._leases)

    def next_ms(self) -> int | None:
        """Return when the next one expires, None when none will."""
        return min((one.expires_ms for one in self._leases.values() if not one.is_over), default=None)
