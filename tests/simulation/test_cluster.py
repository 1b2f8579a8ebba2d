"""A simulated cluster: it runs orders, and its nodes can be crashed, paused, stopped, rebooted and followed.

Tests: engine/simulation/cluster.py, engine/simulation/node.py, engine/simulation/observe.py
Tests: engine/simulation/trimming.py
"""

import asyncio
from typing import Any

import pytest

from engine.base.problem import Refused
from engine.jobs.python import PythonJob
from engine.model import event as events
from engine.model.job import OnLost
from engine.model.order import OrderState
from engine.model.outcome import OutcomeKind
from engine.rules.commands.release_attempt import ReleaseAttempt
from engine.rules.instructions.job import Execute
from engine.simulation.cluster import SimCluster
from engine.simulation.disk import DiskPace
from engine.simulation.loop import run
from engine.simulation.modelled_jobs import Duration
from tests.simulation.clusters import closed, journaled, kinds, quiet, started, step, virtual, virtual_loop

LONG = Duration(ms_min=5_000, ms_max=5_000)


@virtual
async def test_an_order_runs_over_two_agents_and_the_accounts_agree() -> None:
    jobs = {"one": Duration(results={"x": 1}), "two": Duration(results={"y": 2})}
    cluster = await started(step("one", "a"), step("two", "b"), agents={"a": 2, "b": 1}, jobs=jobs)
    await cluster.add_order("o", "w")
    await quiet(cluster)
    order = cluster.controller_state.orders["o"]
    assert order.state is OrderState.FINISHED
    assert order.variables == {"x": 1, "y": 2}
    ran = [group for node in cluster.nodes.values() for group in node.machine.groups]
    assert [group.label for group in ran] == ["one", "two"]
    assert cluster.subagents("a") == ["a-1", "a-2"]
    assert cluster.names("agent", "controller") == ["controller", "a", "b"]
    await closed(cluster)


@pytest.mark.parametrize("node", ["controller", "a", "a-1"])
@pytest.mark.parametrize("notice", [True, False])
@virtual
async def test_an_order_survives_the_crash_of_any_node(node: str, notice: bool) -> None:
    cluster = await started(jobs={"one": LONG})
    await cluster.add_order("o", "w")
    await cluster.until(cluster.nodes["a-1"].machine.running, "the job runs")
    cluster.crash(node, notice=notice)
    assert not cluster.is_up(node)
    cluster.crash(node)  # a second one does nothing
    await asyncio.sleep(2)
    cluster.boot(node)
    cluster.boot(node)
    await quiet(cluster)
    assert cluster.controller_state.orders["o"].state is OrderState.FINISHED
    assert len(cluster.nodes["a-1"].machine.groups) == 1
    assert cluster.nodes[node].number == 2
    await closed(cluster)


@virtual
async def test_the_agent_goes_on_alone_while_the_controller_is_down() -> None:
    cluster = await started(step("one"), step("two"), jobs={"*": LONG})
    await cluster.add_order("o", "w")
    await cluster.until(cluster.nodes["a-1"].machine.running, "the first job runs")
    cluster.crash("controller")
    with pytest.raises(LookupError):
        assert cluster.controller_state
    detached = lambda: "OrderDetached" in kinds(cluster, "a", "o")
    await cluster.until(detached, "the order is through", seconds=60)
    assert "alone: order detached" in cluster.lookout.sometimes.met
    cluster.boot("controller")
    await quiet(cluster)
    assert cluster.controller_state.orders["o"].state is OrderState.FINISHED
    await closed(cluster)


@virtual
async def test_a_paused_node_loses_its_links_and_finds_them_again() -> None:
    cluster = await started(jobs={"one": LONG})
    await cluster.add_order("o", "w")
    await cluster.until(cluster.nodes["a-1"].machine.running, "the job runs")
    cluster.pause("a")
    assert not cluster.is_up("a")
    await asyncio.sleep(20)
    lost = [event for event in journaled(cluster, "controller") if isinstance(event, events.AgentLost)]
    assert len(lost) == 1
    cluster.resume("a")
    await quiet(cluster)
    assert cluster.controller_state.orders["o"].state is OrderState.FINISHED
    assert {"link: peer silent", "alone: job ended"} & set(cluster.lookout.sometimes.met)
    await closed(cluster)


@virtual
async def test_a_stopped_node_leaves_nothing_and_comes_back() -> None:
    cluster = await started()
    for name in ("a-1", "a", "controller"):
        await cluster.stop(name)
        await cluster.stop(name)
        assert cluster.nodes[name].process is None
        cluster.boot(name)
    cluster.stop_soon("a")  # while it boots
    await asyncio.sleep(1)
    cluster.boot("a")
    await cluster.add_order("o", "w")
    await quiet(cluster)
    await closed(cluster)


@virtual
async def test_a_machine_that_is_rebooted_has_lost_what_ran_and_the_job_says_what_follows() -> None:
    steps = (step("one", on_lost=OnLost.RERUN), step("two", on_lost=OnLost.HOLD))
    cluster = await started(*steps, jobs={"*": LONG})
    await cluster.add_order("o", "w")
    machine = cluster.nodes["a-1"].machine
    for label in ("one", "two"):
        await cluster.until(lambda label=label: [g for g in machine.running() if g.label == label], f"{label} runs")  # type: ignore[misc]
        cluster.reboot("a-1")
        cluster.boot("a-1")
    await quiet(cluster)
    assert [group.label for group in machine.groups] == ["one", "one", "two"]
    order = cluster.controller_state.orders["o"]
    assert order.is_held
    await cluster.command(ReleaseAttempt("o", OnLost.RERUN))
    await quiet(cluster)
    assert cluster.controller_state.orders["o"].state is OrderState.FINISHED
    assert [group.attempt for group in machine.groups] == [1, 2, 3, 4]
    assert {"process: lost with machine", "lost: rerun", "lost: held", "lost: released"} <= set(
        cluster.lookout.sometimes.met
    )
    await closed(cluster)


@virtual
async def test_what_a_killed_guard_watched_is_unknown_when_it_has_ended() -> None:
    cluster = await started(jobs={"one": LONG})
    await cluster.add_order("o", "w")
    machine = cluster.nodes["a-1"].machine
    await cluster.until(machine.running, "the job runs")
    assert cluster.crash_guard("a-1")
    await quiet(cluster)
    ended = [event for event in journaled(cluster, "a") if isinstance(event, events.AttemptEnded)]
    assert [event.outcome.kind for event in ended] == [OutcomeKind.UNKNOWN]
    assert cluster.controller_state.orders["o"].is_held
    await closed(cluster)


@virtual
async def test_callables_run_inside_the_subagent_and_die_with_it() -> None:
    calls: list[str] = []

    async def slow() -> dict[str, Any]:
        calls.append("slow")
        await asyncio.sleep(5)
        return {"x": 1}

    def quick() -> dict[str, Any]:
        calls.append("quick")
        return {"y": 2}

    steps = tuple(
        Execute(name, PythonJob(name), agent="a", on_lost=OnLost.RERUN)  # type: ignore[arg-type]
        for name in ("slow", "quick")
    )
    cluster = await started(*steps, callables={"slow": slow, "quick": quick})
    await cluster.add_order("o", "w")
    await cluster.until(lambda: calls, "it was called")
    cluster.crash("a-1")
    cluster.boot("a-1")
    await quiet(cluster)
    assert calls == ["slow", "slow", "quick"]
    assert cluster.controller_state.orders["o"].variables == {"x": 1, "y": 2}
    assert {"callable: unknown", "crash: callable running"} <= set(cluster.lookout.sometimes.met)
    await closed(cluster)


@virtual
async def test_a_node_whose_disk_fails_ends_and_is_started_again_from_outside() -> None:
    cluster = await started()
    cluster.nodes["controller"].disk.fails_with = 5
    await cluster.add_order("o", "w")  # sent until it is answered
    await quiet(cluster)
    assert cluster.nodes["controller"].number == 2
    assert cluster.controller_state.orders["o"].state is OrderState.FINISHED
    assert "disk: fault" in cluster.lookout.sometimes.met
    assert cluster.asked["repeated"] >= 1
    await closed(cluster)


@pytest.mark.parametrize("node", ["controller", "a", "a-1"])
@virtual
async def test_a_node_that_ends_by_a_mistake_is_booted_again_by_its_supervisor(node: str) -> None:
    cluster = await started()
    assert cluster.fail(node)
    await cluster.until(lambda: cluster.nodes[node].restarts, "it is booted again")
    await cluster.add_order("o", "w")
    await quiet(cluster)
    assert cluster.nodes[node].number == 1
    await closed(cluster)


@virtual
async def test_a_mistake_that_nobody_planted_is_a_breach() -> None:
    cluster = await started()
    loop = cluster.nodes["a"].loop
    virtual_loop().call_soon(loop.fail, ValueError("a real one"), context=virtual_loop().context_of("a#1"))
    await asyncio.sleep(1)
    with pytest.raises(AssertionError, match="a#1 ended by ValueError: a real one"):
        cluster.raise_breaches()
    cluster.lookout.breaches.clear()
    await closed(cluster)


@virtual
async def test_a_failed_task_that_nobody_asks_about_is_a_breach() -> None:
    cluster = await started()
    virtual_loop().call_soon(lambda: 1 / 0, context=virtual_loop().context_of("a#1"))
    await asyncio.sleep(1)
    assert "ZeroDivisionError" in cluster.breaches[0]
    assert cluster.breaches[0].startswith("a#1")
    cluster.lookout.breaches.clear()
    await closed(cluster)


@virtual
async def test_snapshots_and_trimmed_logs_give_the_same_state() -> None:
    cluster = await started(jobs={"one": LONG})
    for number in range(5):
        await cluster.add_order(f"o{number}", "w")
    await cluster.until(cluster.nodes["a-1"].machine.running, "the jobs run")
    for name in ("controller", "a"):
        assert cluster.snapshot_soon(name)
    await asyncio.sleep(1)
    await cluster.add_order("behind", "w")  # so that there are records behind the snapshots
    for name in ("controller", "a"):
        image = cluster.nodes[name].disk.image
        assert image.saved is not None
        assert image.base.index > 0
        cluster.crash(name)
        cluster.boot(name)
    assert not cluster.snapshot_soon("a"), "it boots"
    await quiet(cluster)
    assert "disk: snapshot" in cluster.lookout.sometimes.met
    await closed(cluster)


@virtual
async def test_commands_are_sent_until_they_are_answered_and_refusals_are_told() -> None:
    cluster = await started()
    cluster.network.cut("client", "controller")
    adding = virtual_loop().create_task(cluster.add_order("o", "w"))
    await asyncio.sleep(10)
    assert not adding.done()
    assert list(cluster.pending.values()) == ["AddOrder"]
    cluster.network.heal_between("client", "controller")
    await adding
    with pytest.raises(Refused, match="no workflow"):
        await cluster.add_order("p", "nobody")
    assert cluster.asked["refused"] == 1
    await quiet(cluster)
    await closed(cluster)


@virtual
async def test_an_agent_with_another_disk_is_refused_and_nothing_runs_twice() -> None:
    cluster = await started()
    await cluster.add_order("o", "w")
    await quiet(cluster)
    cluster.crash("a")
    cluster.nodes["a"].disk.replace()
    cluster.boot("a")
    await asyncio.sleep(20)
    link = cluster.nodes["controller"].actor.agents["a"].link
    assert link.problem.code in {"PeerBehind", "Diverged"}
    await cluster.add_order("p", "w")
    await asyncio.sleep(20)
    assert len(cluster.nodes["a-1"].machine.groups) == 1
    await cluster.close()


def test_the_same_seed_gives_the_same_trace_and_another_one_another() -> None:
    async def main(seed: int) -> tuple[str, list[str]]:
        cluster = await started(step("one"), seed=seed, disks=DiskPace(slow_rate=0.1))
        for number in range(5):
            await cluster.add_order(f"o{number}", "w")
        cluster.crash("a")
        await asyncio.sleep(1)
        cluster.boot("a")
        await quiet(cluster)
        await closed(cluster)
        return virtual_loop().digest(), list(cluster.lookout.timeline.lines())

    first, again, other = (run(main(seed), seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first[0] != other[0]


@virtual
async def test_waiting_for_what_does_not_come_ends_with_a_sentence() -> None:
    cluster: SimCluster = await started()
    with pytest.raises(TimeoutError, match="still not so that pigs fly"):
        await cluster.until(lambda: False, "pigs fly", seconds=30)
    await closed(cluster)
