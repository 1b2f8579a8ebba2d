"""Leases between a director and its subagents: offer, claim, grant, renewal, expiry. In simulated clusters.

Tests: actors/director.py, actors/subagent.py
"""

from typing import Any

import msgspec
import pytest

from actors import director as director_module
from actors.subagent import StartUnreadable, Subagent
from engine.base.codec import encode
from engine.base.ids import SubagentId
from engine.base.problem import Problem
from engine.model.event import AttemptEnded, OrderHeld
from engine.model.job import OnLost, OnPartition
from engine.model.order import OrderState
from engine.model.outcome import OutcomeKind
from engine.rules.agent import AgentMachine
from engine.rules.commands.cancel_order import CancelOrder
from engine.rules.leases import LeaseTimes
from engine.simulation.cluster import SimCluster
from engine.simulation.modelled_jobs import Duration
from tests.simulation.clusters import closed, journaled, quiet, started, step, virtual

TIMES = LeaseTimes(
    lease_ms=6_000,
    grace_ms=300,
    margin_ms=100,
    director_ms=7_000,
    renew_ms=500,
    late_ms=500,
    detection_ms=1_500,
    activation_ms=1_500,
)
LONG = Duration(ms_min=30_000, ms_max=30_000)


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AgentMachine, "lease_times", TIMES)


async def with_job(on_lost: OnLost = OnLost.RERUN, **options: Any) -> SimCluster:
    options.setdefault("jobs", {"one": LONG})
    cluster = await started(step("one", on_lost=on_lost, on_partition=OnPartition.STOP), **options)
    await cluster.add_order("o", "w")
    return cluster


def running(cluster: SimCluster, *names: str) -> list[str]:
    return [group.key for name in names for group in cluster.nodes[name].machine.running()]


def unknown_ends(cluster: SimCluster) -> list[AttemptEnded]:
    ends = [event for event in journaled(cluster, "a") if isinstance(event, AttemptEnded)]
    return [event for event in ends if event.outcome.kind is OutcomeKind.UNKNOWN]


@virtual
async def test_a_leased_job_runs_to_its_end_however_long_it_takes() -> None:
    cluster = await with_job()
    await quiet(cluster)
    assert unknown_ends(cluster) == []
    assert cluster.nodes["a-1"].machine.counts["leases"] >= 50, "thirty seconds, two renewals in each"
    director = cluster.nodes["a"].actor.director
    assert (len(director.leases), director._is_timing, director._renewing) == (0, False, {})
    await closed(cluster)


@virtual
async def test_a_job_that_is_cut_off_ends_there_and_then_runs_elsewhere() -> None:
    cluster = await with_job(agents={"a": 2})
    await cluster.until(lambda: running(cluster, "a-1"), "it runs")
    cluster.network.cut("a", "a-1")
    await cluster.until(lambda: not running(cluster, "a-1"), "its guard has ended it", seconds=7)
    assert running(cluster, "a-2") == []
    await cluster.until(lambda: running(cluster, "a-2") == ["o/11/2"] or running(cluster, "a-2"), "it runs again")
    (end,) = unknown_ends(cluster)
    assert "its lease ran out: subagent a-1 was not heard for 7000 ms" in end.outcome.message
    cluster.network.heal()
    await quiet(cluster)
    await closed(cluster)


@virtual
async def test_without_a_word_of_the_director_it_is_held_or_fails_as_its_job_says() -> None:
    cluster = await with_job(OnLost.HOLD)
    await cluster.until(lambda: running(cluster, "a-1"), "it runs")
    cluster.network.cut("a", "a-1")
    await cluster.until(lambda: any(isinstance(one, OrderHeld) for one in journaled(cluster, "a")), "it is held")
    assert running(cluster, "a-1") == []
    cluster.network.heal()
    await quiet(cluster)
    await closed(cluster)


@virtual
async def test_who_reports_the_end_of_a_lease_is_believed_before_it_expires() -> None:
    cluster = await with_job()
    await cluster.until(lambda: running(cluster, "a-1"), "it runs")
    director = cluster.nodes["a"].actor.director
    director.may_act = lambda: False  # it grants nothing, and hears everything
    await cluster.until(lambda: unknown_ends(cluster), "its end is reported", seconds=7)
    (end,) = unknown_ends(cluster)
    assert end.outcome.message == "its lease ran out, because the director was not heard, and it was ended"
    director.may_act = lambda: True
    await quiet(cluster)
    await closed(cluster)


@virtual
async def test_nothing_begins_at_a_director_that_may_not_act() -> None:
    cluster = await started(step("one", on_lost=OnLost.FAIL, on_partition=OnPartition.STOP), jobs={"one": LONG})
    cluster.nodes["a"].actor.director.may_act = lambda: False
    await cluster.add_order("o", "w")
    await quiet(cluster)
    assert cluster.nodes["a-1"].machine.groups == []
    assert cluster.controller_state.orders["o"].state is OrderState.FAILED
    await closed(cluster)


@virtual
async def test_a_new_director_waits_a_whole_lease_for_what_it_can_not_reach() -> None:
    cluster = await with_job(agents={"a": 2})
    await cluster.until(lambda: running(cluster, "a-1"), "it runs")
    cluster.network.cut("a", "a-1")
    await cluster.until(lambda: not running(cluster, "a-1"), "it was ended")
    cluster.crash("a")
    cluster.boot("a")
    await cluster.until(lambda: cluster.nodes["a"].actor is not None, "it is there again")
    loop, begin = cluster.loop, cluster.loop.time()
    await cluster.until(lambda: running(cluster, "a-2"), "it runs elsewhere")
    assert loop.time() - begin >= TIMES.director_ms / 1_000 - 0.1
    cluster.network.heal()
    await quiet(cluster)
    await closed(cluster)


@virtual
async def test_a_new_director_renews_what_runs_on() -> None:
    cluster = await with_job()
    await cluster.until(lambda: running(cluster, "a-1"), "it runs")
    for _ in range(3):
        cluster.crash("a")
        cluster.boot("a")
        await cluster.until(lambda: cluster.nodes["a"].actor is not None, "it is there again")
    await quiet(cluster)
    assert unknown_ends(cluster) == []
    assert len(cluster.nodes["a-1"].machine.groups) == 1
    await closed(cluster)


@virtual
async def test_a_subagent_that_was_restarted_has_its_jobs_leases_renewed() -> None:
    cluster = await with_job()
    await cluster.until(lambda: running(cluster, "a-1"), "it runs")
    cluster.crash("a-1")
    cluster.boot("a-1")
    await quiet(cluster)
    assert unknown_ends(cluster) == []
    await closed(cluster)


@virtual
async def test_a_kill_ends_what_is_only_claimed() -> None:
    cluster = await started(step("one", on_lost=OnLost.FAIL, on_partition=OnPartition.STOP), jobs={"one": LONG})
    cluster.nodes["a"].actor.director.may_act = lambda: False
    await cluster.add_order("o", "w")
    await cluster.until(lambda: cluster.nodes["a-1"].actor._claimed, "it is claimed")
    await cluster.command(CancelOrder("o", kill=True))
    await quiet(cluster, seconds=5)
    assert cluster.controller_state.orders["o"].state is OrderState.CANCELLED
    ends = [event for event in journaled(cluster, "a") if isinstance(event, AttemptEnded)]
    assert [event.outcome.kind for event in ends] == [OutcomeKind.KILLED]
    assert cluster.nodes["a-1"].machine.groups == []
    await closed(cluster)


@virtual
async def test_what_was_claimed_in_a_session_is_forgotten_with_it_and_offered_again() -> None:
    cluster = await started(step("one", on_partition=OnPartition.STOP), jobs={"one": Duration(ms_max=20)})
    director = cluster.nodes["a"].actor.director
    director.may_act = lambda: False
    await cluster.add_order("o", "w")
    subagent = cluster.nodes["a-1"].actor
    await cluster.until(lambda: subagent._claimed, "it is claimed")
    director.links[SubagentId("a-1")][1].drop(Problem("Test", "a new session"))
    cluster.network.cut("a", "a-1")
    await cluster.until(lambda: not subagent._reception.sessions(), "the session is over")
    cluster.network.heal()
    director.may_act = lambda: True
    await quiet(cluster)
    assert cluster.controller_state.orders["o"].state is OrderState.FINISHED
    assert subagent._claimed == {}
    await closed(cluster)


@virtual
async def test_what_runs_at_a_subagent_that_was_replaced_by_an_older_version_has_not_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It can not read the offer of what its guard still runs."""
    cluster = await with_job()
    await cluster.until(lambda: running(cluster, "a-1"), "it runs")
    await cluster.until(lambda: cluster.nodes["a"].actor.loop.state.orders["o"].begun, "that is known")
    cluster.crash("a-1")
    refuse = lambda _subagent, _session, _number, _raw, reply: reply(encode(StartUnreadable(fault="unknown tag")))
    monkeypatch.setattr(Subagent, "_deliver", refuse)
    cluster.boot("a-1")
    await quiet(cluster)
    assert cluster.controller_state.orders["o"].state is OrderState.FINISHED
    assert len(cluster.nodes["a-1"].machine.groups) == 1
    await closed(cluster)


@virtual
async def test_a_grant_that_was_never_asked_for_begins_nothing() -> None:
    """A clock that began anew must not make an old grant last for years."""
    cluster = await started(step("one", on_lost=OnLost.FAIL, on_partition=OnPartition.STOP), jobs={"one": LONG})
    cluster.nodes["a"].actor.director.may_act = lambda: False
    await cluster.add_order("o", "w")
    subagent = cluster.nodes["a-1"].actor
    await cluster.until(lambda: subagent._claimed, "it is claimed")
    (claim,) = subagent._claimed.values()
    in_an_hour_ms = cluster.nodes["a-1"].machine.clock_ms() + 3_600_000
    subagent._granted(None, msgspec.msgpack.encode(_grant(in_an_hour_ms, claim.start.key)))
    subagent._granted(None, b"nonsense")
    assert subagent._claimed
    await quiet(cluster)
    assert cluster.nodes["a-1"].machine.groups == []
    await closed(cluster)


def _grant(asked_ms: int, key: str) -> tuple[Any, ...]:
    return ("GrantLeases", asked_ms, 6_000, [key])


@virtual
async def test_more_leases_than_a_question_holds_are_asked_for_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(director_module, "KEYS_PER_ASK_MAX", 2)
    cluster = await with_job()
    for number in range(4):
        await cluster.add_order(f"o{number}", "w")
    await cluster.until(lambda: len(running(cluster, "a-1")) == 5, "all run at once")
    await quiet(cluster)
    assert unknown_ends(cluster) == []
    assert len(cluster.nodes["a-1"].machine.groups) == 5
    await closed(cluster)
