"""Leases as rules: the times, the director's table, what an agent decides when one has run out, and a person's word.

Tests: engine/rules/agent.py, engine/rules/agent_state.py, engine/rules/instructions/job.py
Tests: engine/rules/commands/release_attempt.py, engine/model/job.py, engine/model/command.py
"""

from typing import Any

import msgspec
import pytest

from engine.base.ids import OrderId, SubagentId
from engine.base.problem import Problem
from engine.model.command import GrantLeases, OfferAttempt, StartAttempt
from engine.model.job import LeaseTerms, OnLost, OnPartition
from engine.model.order import OrderState
from engine.model.outcome import unknown
from engine.rules.agent import LeaseExpired
from engine.rules.commands.release_attempt import ReleaseAttempt
from engine.rules.leases import (
    Leases,
    LeaseTimes,
    director_ms_min,
    expiry,
    extended,
    faults_of,
    fence_at,
    has_expired,
    lease_end,
    terms_of,
)
from tests.rules.steps import call, job
from tests.support.pure import PureCluster

S, O = SubagentId("local-1"), OrderId("o")
TIMES = LeaseTimes()


def with_times(**changed: int) -> list[str]:
    return faults_of(msgspec.structs.replace(TIMES, **changed))


# --- times ------------------------------------------------------------------------------------------------------------


def test_the_default_times_are_safe_and_the_shortest_is_as_derived() -> None:
    assert faults_of(TIMES) == []
    assert director_ms_min(TIMES) == 65_076  # 65,000 · 1.0005 / 0.9995 + 10, rounded up
    assert with_times(director_ms=65_076) == []


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"director_ms": 65_075}, "need at least 65076, or a job may run twice at once"),
        ({"late_ms": 6_000}, "a guard late by 6000 ms"),
        ({"clock_error_ppm": 10_000}, "clocks wrong by 10000 ppm"),
        ({"activation_ms": 34_500}, "need more than 54500, or it would stop healthy jobs"),
        ({"grace_ms": 10_000}, "would stop healthy jobs"),
        ({"renew_ms": 8_000}, "two renewals of 8000 ms"),
        ({"lease_ms": 0}, "lease_ms is 0; it must be above 0"),
        ({"margin_ms": -1}, "margin_ms is -1"),
        ({"grain_ms": -1}, "grain_ms is -1; it must be at least 0"),
        ({"clock_error_ppm": 200_000}, "from 0 to 100000"),
    ],
)
def test_times_that_break_an_inequality_are_named(changed: dict[str, int], sentence: str) -> None:
    assert sentence in " ".join(with_times(**changed))


def test_what_may_be_nothing_may_be_nothing() -> None:
    assert with_times(late_ms=0, grain_ms=0, grace_ms=0, clock_error_ppm=0) == []


# --- the subagent's side ----------------------------------------------------------------------------------------------


def test_a_lease_counts_from_before_it_was_asked_for() -> None:
    assert lease_end(100, 5_000, 60_000) == 60_100


def test_a_deadline_is_raised_only_while_it_has_not_come() -> None:
    fence = fence_at(1_000, 100, 20)
    assert fence == 880
    assert extended(1_000, 2_000, fence, 879) == 2_000
    assert extended(1_000, 2_000, fence, 880) == 1_000, "it is being ended, and a grant does not bring it back"
    assert extended(1_000, 900, fence, 0) == 1_000, "an old grant that comes late shortens nothing"


# --- the director's table ---------------------------------------------------------------------------------------------


def test_an_attempt_that_becomes_known_counts_as_granted_at_that_instant() -> None:
    table = Leases()
    table.note("o/1/1", S, 500, 100)
    table.note("o/1/1", S, 550, 100)
    assert table.next_ms() == 600, "the first time counts: nobody granted anything since"
    assert table.expire(599) == []
    assert table.expire(600) == ["o/1/1"]
    assert table.expire(700) == [], "told once"
    assert table.next_ms() is None


def test_a_grant_raises_the_expiry_and_never_lowers_it() -> None:
    table = Leases()
    table.note("o/1/1", S, 0, 100)
    assert table.grant(S, ["o/1/1", "p/1/1"], 50, 100) == ("o/1/1",)
    assert table.expire(149) == []
    table.grant(S, ["o/1/1"], 40, 100)
    assert table.next_ms() == 150
    assert expiry(150, 40, 100) == 150
    assert has_expired(150, 150)


def test_what_has_expired_or_is_elsewhere_is_granted_nothing() -> None:
    table = Leases()
    table.note("o/1/1", S, 0, 100)
    assert table.grant(SubagentId("other"), ["o/1/1"], 50, 100) == ()
    table.expire(100)
    assert table.grant(S, ["o/1/1"], 100, 100) == ()
    assert table.by_subagent() == {}
    assert table.known() == ["o/1/1"]


def test_what_is_over_is_forgotten() -> None:
    table = Leases()
    table.note("o/1/1", S, 0, 100)
    table.note("p/1/1", S, 0, 100)
    assert table.by_subagent() == {S: ["o/1/1", "p/1/1"]}
    table.keep_only(["p/1/1"])
    assert len(table) == 1
    assert "o/1/1" not in table


# --- the agent's decisions --------------------------------------------------------------------------------------------


def leased(cluster: PureCluster, **fields: Any) -> PureCluster:
    cluster.deploy(job(on_partition=OnPartition.STOP, **fields))
    cluster.add()
    return cluster


def expire(cluster: PureCluster, attempt: int = 1, added: int | None = None) -> Problem | None:
    command = LeaseExpired(O, cluster.order().added if added is None else added, attempt)
    problem = cluster.agents["local"].command(command, cluster.now_ms)
    cluster.run()
    return problem


def die_there(cluster: PureCluster, subagent: str) -> None:
    """Cut a subagent off, and let what runs there end unseen."""
    first = cluster.running("o")
    cluster.cut_subagent(subagent)
    cluster.subagents[subagent].end(first.key, cluster.now_ms, unknown("its lease ran out"))


def quiet(**options: Any) -> PureCluster:
    return PureCluster(script=lambda _: None, **options)


def test_a_leased_attempt_is_offered_and_another_is_started() -> None:
    cluster = leased(quiet())
    state, machine = cluster.agent_state(), cluster.agents["local"].machine
    offer = machine.start_command(state, state.orders[O], 0)
    assert isinstance(offer, OfferAttempt)
    assert offer.terms == terms_of(machine.lease_times) == LeaseTerms(5_000, 500)
    assert machine.leased(state) == [(offer.start.key, S)]
    assert isinstance(cluster.language.decode_to_subagent(cluster.language.encode(offer)), OfferAttempt)
    other = quiet()
    other.deploy(job())
    other.add()
    state = other.agent_state()
    assert isinstance(other.agents["local"].machine.start_command(state, state.orders[O], 0), StartAttempt)
    assert other.agents["local"].machine.leased(state) == []


@pytest.mark.parametrize(
    ("on_lost", "state"),
    [(OnLost.HOLD, OrderState.EXPECTING), (OnLost.FAIL, OrderState.FAILED), (OnLost.RERUN, OrderState.PROCESSING)],
)
def test_what_follows_a_lease_that_ran_out_is_what_follows_any_lost_attempt(on_lost: OnLost, state: OrderState) -> None:
    cluster = PureCluster(script=lambda _: None, subagents={"s1": "local", "s2": "local"})
    leased(cluster, on_lost=on_lost)
    die_there(cluster, "s1")
    assert expire(cluster) is None
    assert cluster.order().state is state
    if on_lost is OnLost.RERUN:
        assert (cluster.order().attempt, cluster.order().subagent) == (2, "s2")
    elif on_lost is OnLost.HOLD:
        assert "its lease ran out: subagent s1 was not heard for 66000 ms" in str(cluster.order().obstacle)


def test_an_expiry_that_comes_late_ends_nothing() -> None:
    cluster = leased(quiet(), on_lost=OnLost.RERUN)
    for command in ({"attempt": 2}, {"added": 99}):
        assert expire(cluster, **command) is None
    assert cluster.order().state is OrderState.PROCESSING
    cluster.end(cluster.running("o"))
    assert expire(cluster) is None
    assert cluster.order().state is OrderState.FINISHED


def test_an_attempt_without_a_lease_expires_never() -> None:
    cluster = quiet()
    cluster.deploy(job(on_lost=OnLost.RERUN))
    cluster.add()
    assert expire(cluster) is None
    assert cluster.order().attempt == 1


def test_a_report_of_an_attempt_that_expired_changes_nothing() -> None:
    cluster = PureCluster(script=lambda _: None, subagents={"s1": "local", "s2": "local"})
    leased(cluster, on_lost=OnLost.RERUN)
    die_there(cluster, "s1")
    expire(cluster)
    cluster.couple_subagent("s1")
    cluster.run()
    assert cluster.order().state is OrderState.PROCESSING
    cluster.end(cluster.running("o", 2))
    assert cluster.order().state is OrderState.FINISHED


def test_callables_hold_no_lease() -> None:
    (sentence,) = call(on_partition=OnPartition.STOP).faults()
    assert "on_partition: stop is for programs" in sentence
    assert not call(on_partition=OnPartition.STOP).is_leased
    assert list(job(on_partition=OnPartition.STOP).faults()) == []


def test_a_director_that_takes_over_gives_higher_fences_than_the_one_before() -> None:
    cluster = leased(quiet())
    cluster.add("p")
    first = cluster.running("o").fence
    before = cluster.agent_state().epoch
    cluster.restart_agent("local")
    cluster.couple("local")
    state, machine = cluster.agent_state(), cluster.agents["local"].machine
    assert state.epoch > before
    again = machine.start_command(state, state.orders[O], 0).start.fence
    assert again == (state.epoch << 32) + 1 > first
    assert again > (before << 32) + 0xFFFF_FFFF, "no attempt number of an earlier epoch reaches it"


# --- a person's word --------------------------------------------------------------------------------------------------


def test_a_person_may_vouch_that_an_attempt_nobody_can_reach_has_ended() -> None:
    cluster = PureCluster(script=lambda _: None, subagents={"s1": "local", "s2": "local"})
    cluster.deploy(job())
    cluster.add()
    refused = cluster.command(ReleaseAttempt("o", OnLost.RERUN))
    assert refused is not None
    assert refused.code == "NotVouchedFor"
    assert "say so with has_ended" in refused.sentence
    die_there(cluster, "s1")
    assert cluster.command(ReleaseAttempt("o", OnLost.RERUN, has_ended=True)) is None
    assert (cluster.order().state, cluster.order().attempt) == (OrderState.PROCESSING, 2)
    assert cluster.order().subagent == "s2"
    assert cluster.controller_state.agents["local"].owed == {}  # type: ignore[index]


def test_or_that_its_step_is_to_fail() -> None:
    cluster = quiet()
    cluster.deploy(job())
    cluster.add()
    cluster.cut_subagent("local-1")
    assert cluster.command(ReleaseAttempt("o", OnLost.FAIL, has_ended=True)) is None
    assert cluster.order().state is OrderState.FAILED


def test_no_word_counts_while_its_subagent_is_connected() -> None:
    cluster = quiet()
    cluster.deploy(job())
    cluster.add()
    assert cluster.command(ReleaseAttempt("o", OnLost.RERUN, has_ended=True)) is None, "only its agent knows"
    (refused,) = cluster.refused
    assert refused.code == "NotUnreachable"
    assert cluster.order().attempt == 1
    assert cluster.controller_state.agents["local"].owed == {}  # type: ignore[index]
    cluster.end(cluster.running("o"))
    assert cluster.order().state is OrderState.FINISHED


def test_grants_are_one_message_on_the_wire() -> None:
    grant = GrantLeases(5, 60_000, ("o/1/1",))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(grant), type=GrantLeases) == grant
