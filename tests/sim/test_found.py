"""What simulated seeds have found, each in the smallest form that shows it again.

Tests: engine/rules/branches.py
"""

import asyncio

from engine.base.ids import AgentId, Cursor, OrderId
from engine.jobs.shell import ShellJob
from engine.model.command import MarkOrder
from engine.model.expression import Template
from engine.model.order import Mark, OrderState
from engine.model.outcome import failed
from engine.model.workflow import Workflow
from engine.rules.commands.cancel_order import CancelOrder
from engine.rules.commands.delete_order import DeleteOrder
from engine.rules.commands.resume_order import ResumeOrder
from engine.rules.instructions.fork import Fork
from engine.rules.instructions.job import Execute
from engine.rules.instructions.sleep import Sleep
from engine.runtime.supervisor import Supervisor
from engine.simulation.audit import unsettled
from engine.simulation.cluster import SimCluster
from engine.simulation.loop import VirtualLoop, run
from tests.rules.steps import job
from tests.runtime.linked import end, pair, until, virtual
from tests.support.pure import PureCluster


def test_a_fork_joins_without_a_cancelled_branch_although_failed_ones_would_stay() -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.deploy(Fork({"x": (Sleep(Template("1h")),), "y": (job(),)}, join_if_failed=False))
    cluster.add()
    cluster.end(cluster.running("o|y"))
    assert cluster.command(CancelOrder("o|x")) is None
    assert cluster.order().state is OrderState.FAILED, "nobody could resume the branch, so nobody need wait for it"


def test_an_order_that_was_cancelled_in_line_does_not_stand_in_the_way_of_the_next() -> None:
    cluster = PureCluster(script=lambda _: None, parallel_max=1)
    cluster.deploy(job())
    for order in ("first", "second", "third"):
        cluster.add(order)
    cluster.cut("local")  # so that the agent keeps what it gives back
    agent = cluster.agents["local"]
    state = cluster.agent_state()
    assert agent.command(MarkOrder(OrderId("second"), Mark.CANCEL), cluster.now_ms) is None
    assert list(state.lines) == ["third"]
    assert list(state.detached) == ["second"]


def test_a_mark_that_came_too_late_does_not_keep_a_failed_branch_from_being_resumed() -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.deploy(Fork({"x": (job(),)}, join_if_failed=False))
    cluster.add()
    start = cluster.running("o|x")
    assert cluster.decide(CancelOrder("o|x", kill=True)) is None  # it waits in the controller …
    cluster.cut("local")
    cluster.subagents["local-1"].end(start.key, cluster.now_ms, failed("no luck"))  # … while the branch fails by itself
    cluster.deliver_reports("local-1")
    cluster.couple("local")
    cluster.run()
    assert cluster.order("o|x").state is OrderState.FAILED
    assert cluster.order("o|x").mark is Mark.NONE
    assert cluster.command(ResumeOrder("o|x")) is None
    assert cluster.order("o|x").state is OrderState.PROCESSING


def test_a_branch_is_not_taken_for_that_of_an_earlier_order_of_the_same_id() -> None:
    cluster = PureCluster(("a", "b"), script=lambda _: None)
    both = Fork({"x": (job("one", agent=AgentId("a")),), "y": (job("two", agent=AgentId("b")),)})
    alone = Fork({"x": (job("one", agent=AgentId("a")),)})
    cluster.deploy(both, name="both")
    cluster.deploy(alone, name="alone")
    cluster.add("o", "both")  # forked at the controller: each branch is attached and given back by itself
    cluster.end(cluster.running("o|y"))
    cluster.cut("a")
    cluster.end(cluster.running("o|x"))
    cluster.couple("a")  # the controller adopts the end; the agent is not told so before the next records
    state = cluster.agent_state("a")
    assert "o|x" in state.detached
    assert cluster.command(DeleteOrder("o")) is None
    cluster.add("o", "alone")  # forked at the agent, which makes the same branch anew
    assert state.orders[OrderId("o|x")].state is OrderState.PROCESSING
    assert "o|x" not in state.detached, "it would be forgotten with the old one"


@virtual
async def test_an_ack_does_not_overtake_a_command_that_was_given_before_it() -> None:
    """Else a subagent forgets an attempt that has ended, and then is told to start it: it would run twice."""
    _, lower, upper = await pair("memory")
    upper.acknowledges = False
    upper.link.start()
    await until(lambda: upper.coupled)
    seen: list[str] = []
    lower.reception._on_ack = lambda session, cursor: seen.append("ack")
    lower.reception._deliver = lambda session, number, raw, reply: seen.append("command")
    lower.log.append(b"\x01")
    lower.log.publish()
    await until(lambda: len(upper.records) == 1)
    assert upper.link.send(b"\x02")
    upper.link.acknowledge(Cursor(1, 1))
    assert upper.link.send(b"\x03")
    await until(lambda: len(seen) == 3)
    assert seen == ["command", "ack", "command"]
    upper.make_durable()
    await end(upper, lower)


async def _cluster(seed: int = 0) -> SimCluster:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    cluster = SimCluster(loop, seed, agents={"a": 1})
    await cluster.start()
    await cluster.deploy(Workflow("w", "", (Execute("one", ShellJob("true"), agent=AgentId("a")),)))
    return cluster


def test_the_cursor_of_a_new_session_counts_as_acknowledged() -> None:
    """Else an agent keeps what it gave back until something else happens, if the last Ack was lost."""

    async def main() -> None:
        cluster = await _cluster()
        await cluster.add_order("o", "w")
        controller = cluster.nodes["controller"]

        def is_journaled_above() -> bool:
            tip = cluster.nodes["a"].disk.image.tip.index
            return bool(cluster.state("a").detached) and controller.loop.shown_marks["agent a"].index == tip

        await cluster.until(cluster.nodes["a-1"].machine.running, "the job runs")
        cluster.network.cut_one_way("controller", "a")  # the Ack will not arrive
        await cluster.until(is_journaled_above, "the controller has journaled the detaching")
        cluster.crash("controller")
        cluster.network.heal()
        cluster.boot("controller")
        await cluster.until(lambda: not any(unsettled(cluster)), "all is quiet", seconds=60)
        await cluster.close()
        cluster.raise_breaches()

    run(main(), seed=0)


def test_a_subagent_that_fails_is_booted_again_once() -> None:
    """What breaks because its world was revoked is no second failure."""

    async def main() -> None:
        cluster = await _cluster()
        node = cluster.nodes["a-1"]
        assert node.process is not None
        supervisor = node.process.supervisor
        assert isinstance(supervisor, Supervisor)
        assert cluster.fail("a-1")
        await cluster.until(lambda: supervisor.restarts, "it is booted again")
        await asyncio.sleep(10)
        assert supervisor.restarts == 1
        await cluster.close()
        cluster.raise_breaches()

    run(main(), seed=0)
