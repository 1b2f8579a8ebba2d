"""Each checker with its violation planted, to see it reported.

Tests: engine/simulation/checkers.py, engine/simulation/audit.py, engine/simulation/leftovers.py
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from engine.base.ids import AgentId, OrderId, SubagentId
from engine.model import event as events
from engine.model.command import MarkOrder, ReportEnded
from engine.model.event import Event
from engine.model.job import OnLost
from engine.model.obstacle import AgentMissing, AttemptLost, NoSubagent
from engine.model.order import Attachment, Mark, Order, OrderState
from engine.model.outcome import SUCCEEDED, Outcome, OutcomeKind, failed, unknown
from engine.model.position import FIRST
from engine.model.workflow import WorkflowId
from engine.rules.commands.cancel_order import CancelOrder
from engine.rules.commands.suspend_order import SuspendOrder
from engine.simulation.audit import audit, rests, unsettled
from engine.simulation.checkers import BREACHES_KEPT_MAX, AttemptBook, Breaches, Ledger, bound_breaches
from engine.simulation.cluster import SimCluster
from engine.simulation.leftovers import leftovers
from engine.simulation.modelled_jobs import Duration
from engine.simulation.processes import ProcessGroup
from tests.simulation.clusters import closed, quiet, started, step, virtual, virtual_loop

DONE = Outcome(OutcomeKind.SUCCEEDED, 0)  # of a process; SUCCEEDED alone is that of a callable
O, A, S = OrderId("o"), AgentId("a"), SubagentId("a-1")


def added(order: str = "o") -> Event:
    return events.OrderAdded(OrderId(order), 0, WorkflowId("w@1"), {})


def assigned(attempt: int, order: str = "o", subagent: str = "a-1") -> Event:
    return events.AttemptAssigned(OrderId(order), 0, FIRST, attempt, SubagentId(subagent))


def ended(attempt: int, order: str = "o", outcome: Outcome = SUCCEEDED) -> Event:
    return events.AttemptEnded(OrderId(order), 0, attempt, outcome)


def forked(*children: str) -> Event:
    branches = tuple(events.Branch(OrderId(f"o|{one}"), one, (0, one, 0)) for one in children)
    return events.OrderForked(O, 0, branches)


def told(*found: Event) -> list[str]:
    breaches = Breaches()
    book = AttemptBook("controller", breaches.tell)
    for event in found:
        book.note(event, 7)
    return list(breaches)


# --- S5 by events -----------------------------------------------------------------------------------------------------


def test_attempts_that_rise_by_one_and_end_once_are_fine() -> None:
    life = [added(), assigned(1), ended(1), forked("x", "y"), assigned(2, "o|x"), ended(2, "o|x"), assigned(3, "o|x")]
    life += [ended(3, "o|x"), assigned(2, "o|y"), ended(2, "o|y"), events.OrderJoined(O, 0, SUCCEEDED, {}), assigned(4)]
    assert told(*life, ended(4), events.OrdersDeleted(0, (O,)), added(), assigned(1)) == []


@pytest.mark.parametrize(
    ("life", "sentence"),
    [
        ([added(), assigned(2)], "attempt 2 follows attempt 0"),
        ([added(), assigned(1), ended(1), assigned(1)], "attempt 1 follows attempt 1"),
        ([added(), assigned(1), assigned(2)], "attempt 2 is assigned, while attempt 1 runs"),
        ([added(), assigned(1), ended(1), ended(1)], "attempt 1 ends (succeeded), while none runs"),
        ([added(), assigned(1), ended(1), assigned(2), ended(1)], "attempt 1 ends (succeeded), while attempt 2 runs"),
        ([added(), forked("x"), assigned(2, "o|x")], "attempt 2 follows attempt 0"),
        ([assigned(1)], "journals AttemptAssigned of o, which it does not have"),
    ],
)
def test_s5_attempts_that_do_anything_else_are_told(life: list[Event], sentence: str) -> None:
    found = told(*life)
    assert len(found) == 1
    assert found[0].startswith("S5: controller")
    assert sentence in found[0]


def test_s5_an_agent_goes_on_from_the_attempt_it_was_given() -> None:
    order = Order(id=O, workflow=WorkflowId("w@1"), added=3, variables={}, attempt=4)
    attached = events.OrderAttached(O, 0, A, order)
    assert told(attached, assigned(5)) == []
    assert "attempt 1 follows attempt 4" in told(attached, assigned(1))[0]


# --- S5 by processes, S7 ----------------------------------------------------------------------------------------------


def ledger() -> Ledger:
    book = Ledger({"a-1": "a", "a-2": "a"}.get, Breaches())
    book.durable("a", 1, [added(), assigned(1)])
    return book


def group(attempt: int = 1, machine: str = "a-1", ended_ns: int = 0, order: str = "o") -> ProcessGroup:
    return ProcessGroup(f"{order}/1/{attempt}", order, attempt, "one", machine, 1, 1, ended_ns)


def test_s5_a_process_that_was_assigned_durably_is_fine() -> None:
    book = ledger()
    book.begun(group(ended_ns=5))
    book.durable("a", 2, [ended(1, outcome=DONE), assigned(2, subagent="a-2")])
    book.begun(group(2, "a-2"))
    assert book.breaches == []
    assert book.added_of("o", 2) == 1
    assert book.added_of("o", 9) == 0


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        ([group(2)], "o/1/2 was started on a-1 without a durable AttemptAssigned"),
        ([group(1, "a-2")], "o/1/1 was started on a-2, assigned was a-1"),
        ([group(1, "elsewhere")], "o/1/1 runs on elsewhere, which is no subagent"),
        ([group(ended_ns=5), group()], "o/1/1 was started twice, on a-1 and on a-1"),
    ],
)
def test_s5_a_process_that_should_not_be_there_is_told(groups: list[ProcessGroup], sentence: str) -> None:
    book = ledger()
    for one in groups:
        book.begun(one)
    assert book.breaches == [f"S5: {sentence}"]


def test_s5_two_processes_of_one_order_at_once_are_told() -> None:
    book = ledger()
    book.begun(group())
    book.durable("a", 2, [ended(1, outcome=unknown("nobody saw it")), assigned(2)])
    book.begun(group(2))
    assert book.breaches == [
        "S5: a journals the end of o/1/1 (unknown: nobody saw it), but its process runs",
        "S5: attempt 2 of o began while attempt 1 was still running",
    ]


def ending(outcome: Outcome, *groups: ProcessGroup) -> list[str]:
    """What is found when the first attempt of `o` ends so, with these processes."""
    book = ledger()
    for one in groups:
        book.begun(one)
    book.durable("a", 2, [ended(1, outcome=outcome)])
    return [one.partition(", but ")[2] for one in book.breaches]


def exited(code: int) -> ProcessGroup:
    return msgspec.structs.replace(group(ended_ns=5), code=code)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (DONE, 0),
        (failed("no luck", 3), 3),
        (failed("its results can not be read", 0), 0),
        (Outcome(OutcomeKind.KILLED, -15), -15),
        (Outcome(OutcomeKind.TIMED_OUT, -9), -9),
        (unknown("its guard was killed, and nobody saw how it ended"), 0),
        (unknown("its machine was restarted"), -9),
    ],
)
def test_s5_an_end_that_is_that_of_the_process_is_fine(outcome: Outcome, code: int) -> None:
    assert ending(outcome, exited(code)) == []


@pytest.mark.parametrize(
    "outcome",
    [
        SUCCEEDED,  # a callable
        failed("it could not be started"),
        Outcome(OutcomeKind.KILLED),
        Outcome(OutcomeKind.KILLED, -15, "it was killed before it began"),
        unknown("it ran inside a process of ours, which has ended since"),
    ],
)
def test_s5_an_end_without_a_process_is_fine_when_none_need_have_begun(outcome: Outcome) -> None:
    assert ending(outcome) == []


@pytest.mark.parametrize(
    ("outcome", "groups", "truth"),
    [
        (DONE, [], "no such process ever began"),
        (failed("no luck", 3), [], "no such process ever began"),
        (Outcome(OutcomeKind.TIMED_OUT, -9), [], "no such process ever began"),
        (DONE, [group()], "its process runs"),
        (SUCCEEDED, [group()], "its process runs"),
        (Outcome(OutcomeKind.KILLED, -9), [group()], "its process runs"),
        (unknown("nobody saw it"), [group()], "its process runs"),
        (DONE, [exited(3)], "its process ended with 3"),
        (SUCCEEDED, [exited(0)], "its process ended with 0"),
        (failed("no luck", 3), [exited(0)], "its process ended with 0"),
        (failed("it could not be started"), [exited(0)], "its process ended with 0"),
        (Outcome(OutcomeKind.KILLED, -15), [exited(0)], "its process ended with 0"),
    ],
)
def test_s5_an_end_that_the_process_did_not_have_is_told(
    outcome: Outcome, groups: list[ProcessGroup], truth: str
) -> None:
    assert ending(outcome, *groups) == [truth]


def test_s5_the_end_of_an_attempt_is_not_taken_for_that_of_another_or_of_an_earlier_order() -> None:
    book = ledger()
    book.begun(exited(0))
    book.durable("a", 2, [ended(1, outcome=DONE), assigned(2)])
    book.durable("a", 3, [ended(2, outcome=DONE)])
    assert len(book.breaches) == 1
    assert "the end of o/1/2 (" in book.breaches[0]
    again = ledger()
    again.begun(exited(0))
    again.durable("a", 2, [ended(1, outcome=DONE), events.OrdersDeleted(0, (O,))])
    again.durable("a", 4, [added(), assigned(1), ended(1, outcome=DONE)])
    assert len(again.breaches) == 1
    assert "the end of o/4/1 (" in again.breaches[0]


@virtual
async def test_s5_processes_that_are_adopted_killed_lost_or_survive_their_guard_end_truthfully() -> None:
    """The truth of real runs, so that the check is not too strict: each way in which a process may end."""
    jobs = {"long": Duration(ms_min=5_000, ms_max=5_000), "bad": Duration(fail_rate=1.0, return_code=3)}
    steps = (step("long", on_lost=OnLost.FAIL), step("bad"))
    cluster = await started(*steps, jobs=jobs)
    machine = cluster.nodes["a-1"].machine
    ends: list[str] = []

    def look(node: str, event: Event) -> None:
        if node == "a" and isinstance(event, events.AttemptEnded):
            ends.append(event.outcome.kind)

    cluster.lookout.also(on_event=look)
    for number, act in enumerate(("crash", "kill", "reboot", "guard", "fail")):
        await cluster.add_order(f"o{number}", "w")
        await cluster.until(machine.running, "the job runs")
        if act == "kill":
            await cluster.command(CancelOrder(f"o{number}", kill=True))
        elif act == "guard":
            cluster.crash_guard("a-1")
        elif act == "fail":
            cluster.fail("a-1")
        else:
            cluster.crash("a-1") if act == "crash" else cluster.reboot("a-1")
            cluster.boot("a-1")
        await quiet(cluster)
    assert ends == ["succeeded", "failed", "killed", "unknown", "unknown", "succeeded", "failed"]
    await closed(cluster)


def test_s7_what_is_shown_is_durable_and_stays_so() -> None:
    book = ledger()
    book.shown("a", 1, "to controller")
    book.lost_power("a", 1)
    assert book.breaches == []
    assert book.promised("a") == 1
    book.shown("a", 2, "to controller")
    assert book.breaches == ["S7: a shows record 2 (to controller) while its durable log ends at 1"]
    book.lost_power("a", 0)
    assert book.breaches[1:] == [
        "S7: a has lost record 2, which it had shown; its log ends at 0",
        "S7: a has lost durable records: 1 became 0",
    ]


def test_breaches_are_kept_once_and_not_without_end() -> None:
    breaches = Breaches()
    for number in range(BREACHES_KEPT_MAX + 10):
        breaches.tell("the same")
        breaches.tell(f"breach {number}")
    assert len(breaches) == BREACHES_KEPT_MAX
    assert breaches.count("the same") == 1


# --- S9 ---------------------------------------------------------------------------------------------------------------


def test_s9_queues_beyond_their_bounds_are_told() -> None:
    assert list(bound_breaches("a", {"mailbox": 5, "batches_in_flight": 8})) == []
    found = list(bound_breaches("a", {"mailbox": 10**6, "batches_in_flight": 99, "unanswered": 10**6}))
    assert [one.split(":")[0] for one in found] == ["S9"] * 3


# --- S4, L3, L4 on a living cluster -----------------------------------------------------------------------------------


async def resting(**options: Any) -> SimCluster:
    """A cluster with one order that is held on its agent."""
    cluster = await started(
        step("one", on_lost=OnLost.HOLD), jobs={"one": Duration(ms_min=5_000, ms_max=5_000)}, **options
    )
    await cluster.add_order("o", "w")
    await cluster.until(cluster.nodes["a-1"].machine.running, "the job runs")
    cluster.reboot("a-1")
    cluster.boot("a-1")
    await quiet(cluster)
    return cluster


@virtual
async def test_s4_a_state_that_its_journal_does_not_give_is_told() -> None:
    cluster = await resting()
    for name in ("controller", "a"):
        order = cluster.state(name).orders[O]
        order.priority += 1
    found = list(audit(cluster))
    assert [one.partition(" do not give")[0] for one in found] == [
        "S4: controller: snapshot and records",
        "S4: controller: all records",
        "S4: a: snapshot and records",
        "S4: a: all records",
    ]
    assert "orders" in found[0]
    for name in ("controller", "a"):
        cluster.state(name).orders[O].priority -= 1
    await closed(cluster)


@virtual
async def test_s4_marks_that_the_journal_does_not_give_are_told() -> None:
    cluster = await resting()
    marks = cluster.nodes["controller"].loop.shown_marks
    kept = dict(marks)
    marks.clear()
    assert any("give the marks" in one for one in audit(cluster))
    marks.update(kept)
    await closed(cluster)


@virtual
async def test_s4_copies_that_differ_are_told() -> None:
    cluster = await resting()
    mine, theirs = cluster.controller_state.orders[O], cluster.state("a").orders
    mine.mark = theirs[O].mark = Mark.CANCEL
    assert not any("the controller's" in one for one in audit(cluster))
    mine.mark = Mark.NONE
    assert "S4: o: the controller's mark is <Mark.NONE: ''>, a's is <Mark.CANCEL: 'cancel'>" in list(audit(cluster))
    theirs[O].mark = Mark.NONE
    taken = theirs.pop(O)
    assert "S4: o is attached to a, which does not have it" in list(audit(cluster))
    theirs[O] = taken
    mine.attachment = Attachment.NONE
    assert "S4: a owns o, which the controller does not know to be there" in list(audit(cluster))
    mine.attachment = Attachment.ATTACHED
    assert list(audit(cluster)) == []
    await closed(cluster)


def _owes(cluster: SimCluster) -> None:
    entry = cluster.controller_state.agents[A]
    entry.owed["mark o"] = MarkOrder(O, Mark.CANCEL)


def _detached(cluster: SimCluster) -> None:
    cluster.state("a").detached[O] = 1


def _outbox(cluster: SimCluster) -> None:
    report = ReportEnded(OrderId("nobody"), 1, 1, 0, SUCCEEDED, 0, {})
    cluster.nodes["a-1"].actor.outbox._waiting.append(msgspec.structs.replace(report))


def _record(cluster: SimCluster) -> None:
    cluster.nodes["a-1"].machine.records["nobody/1/1"] = None  # type: ignore[assignment]


def _ready(cluster: SimCluster) -> None:
    cluster.controller_state.orders[O].state = OrderState.READY


def _down(cluster: SimCluster) -> None:
    cluster.crash("a-1")


def _paused(cluster: SimCluster) -> None:
    cluster.pause("a-1")


@pytest.mark.parametrize(
    ("plant", "sentence"),
    [
        (_owes, "L4: controller owes a ['mark o']"),
        (_detached, "L4: a keeps detached orders: ['o']"),
        (_outbox, "L4: a-1 has 1 reports in its outbox"),
        (_record, "L4: the guard of a-1 keeps records of ['nobody/1/1']"),
        (_ready, "L3: order o is ready at (0,), attached a: "),
        (_down, "a-1 is down"),
        (_paused, "a-1 is paused"),
    ],
)
@virtual
async def test_l3_and_l4_what_is_not_at_rest_is_told(plant: Callable[[SimCluster], None], sentence: str) -> None:
    cluster = await resting()
    assert list(unsettled(cluster)) == []
    plant(cluster)
    assert any(one.startswith(sentence) for one in unsettled(cluster)), list(unsettled(cluster))


@virtual
async def test_l4_links_and_cursors_that_lag_behind_are_told() -> None:
    cluster = await started()
    cluster.network.cut("controller", "a")
    await asyncio.sleep(10)
    assert any("the link from controller to a is" in one for one in unsettled(cluster))
    cluster.network.heal()
    await quiet(cluster)
    asking = virtual_loop().create_task(cluster.submit(SuspendOrder("nobody")))
    await asyncio.sleep(0)
    assert "L4: the client waits for the answer to SuspendOrder" in list(unsettled(cluster))
    await asking
    await closed(cluster)


def held(**changes: Any) -> Order:
    fields: dict[str, Any] = {"id": O, "workflow": WorkflowId("w@1"), "added": 1, "variables": {}}
    return Order(**(fields | changes))


def test_l3_only_orders_that_wait_for_a_person_may_rest() -> None:
    assert rests(held(state=OrderState.EXPECTING, obstacle=AttemptLost(1, "x")))
    assert rests(held(state=OrderState.SUSPENDED))
    assert rests(held(state=OrderState.EXPECTING, obstacle=AgentMissing(A)))
    assert not rests(held(state=OrderState.EXPECTING, obstacle=NoSubagent("")))
    for state in (OrderState.READY, OrderState.WAITING, OrderState.PROCESSING, OrderState.FORKED, OrderState.FRESH):
        assert not rests(held(state=state))


# --- L5, S10 ----------------------------------------------------------------------------------------------------------


@virtual
async def test_l5_tasks_and_timers_that_a_closed_node_leaves_are_told() -> None:
    loop = virtual_loop()
    assert list(leftovers(loop, "a#1")) == []
    context = loop.context_of("a#1")
    forgotten = loop.create_task(asyncio.sleep(1_000), name="forgotten", context=context)
    loop.create_task(asyncio.sleep(1_000), name="a#1 ours", context=context)
    loop.create_task(asyncio.sleep(1_000), name="of another", context=loop.context_of("b#1"))
    timer = loop.call_later(1_000, forgotten.cancel, context=context)
    await asyncio.sleep(0)
    found = list(leftovers(loop, "a#1"))
    assert found[0] == "a#1 was closed and left the task forgotten"
    assert len(found) >= 3, "the sleeps have set timers too"
    assert all("left a timer" in one for one in found[1:])
    timer.cancel()
    loop.crash("a#1")
    loop.crash("b#1")


@virtual
async def test_l5_a_node_that_leaves_something_behind_is_told_when_it_is_stopped() -> None:
    cluster = await started()
    process = cluster.nodes["a"].process
    assert process is not None
    left = virtual_loop().create_task(
        asyncio.sleep(1_000), name="forgotten", context=virtual_loop().context_of(process.lane)
    )
    await asyncio.sleep(0)
    await cluster.stop("a")
    assert "L5: a#1 was closed and left the task forgotten" in cluster.breaches
    assert not left.done()
    cluster.lookout.breaches.clear()
    await closed(cluster)


@virtual
async def test_s10_what_a_node_does_after_its_crash_is_told() -> None:
    cluster = await started()
    actor = cluster.nodes["a"].actor
    cluster.crash("a")
    cluster.network.heal()
    with pytest.raises(Exception, match="may not"):
        virtual_loop().context_of("a#1").run(actor.agent.world.transport, "sim://controller")
    assert cluster.breaches == ["S10: a#1 wants to use sim://controller, called by a#1"]
    cluster.lookout.breaches.clear()
    cluster.boot("a")
    await quiet(cluster)
    await closed(cluster)
