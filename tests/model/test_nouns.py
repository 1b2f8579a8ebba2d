"""The nouns: they encode and decode as themselves, and say in one sentence what they are.

Tests: engine/language.py, engine/model/language.py, engine/model/event.py, engine/model/command.py
Tests: engine/model/effect.py, engine/model/query.py, engine/model/item.py, engine/model/job.py
Tests: engine/model/obstacle.py, engine/model/outcome.py, engine/model/workflow.py, engine/model/instruction.py
Tests: engine/ports.py
"""

import typing
from typing import Any

import msgpack
import msgspec
import pytest

from engine.base.ids import AgentId, OrderId, SubagentId
from engine.base.limits import MESSAGE_LENGTH_MAX
from engine.jobs.command import CommandJob
from engine.jobs.process import ProcessJob
from engine.jobs.shell import ShellJob
from engine.language import make_language, standard_language
from engine.model import event as events
from engine.model import query as queries
from engine.model.command import AttachOrder, KillAttempt, ReleaseHeld, StartAttempt
from engine.model.effect import LinksChanged, WakeAt
from engine.model.expression import Expression, Template
from engine.model.item import AgentItem, BundleItem, SubagentItem
from engine.model.job import OnLost, Start
from engine.model.obstacle import AnyObstacle, AttemptLost, JobLimitReached, WaitingUntil
from engine.model.order import TRANSITIONS, Order
from engine.model.outcome import SUCCEEDED, failed, unknown
from engine.model.workflow import Workflow, walk_blocks
from engine.ports import Entry, ProcessSpec, Record
from engine.rules.instructions.fork import Fork
from engine.rules.instructions.if_ import If
from engine.rules.instructions.job import Execute

LANGUAGE = standard_language()
STEP = Execute("a", CommandJob((Template("echo"), Template("${who}"))), environment={"N": Template("${n}")})
WORKFLOW = Workflow("w", "1", (STEP, If(Expression("n > 1"), (Fork({"x": (STEP,), "y": (STEP,)}),))))


def test_a_workflow_with_all_its_leaves_comes_back_as_itself() -> None:
    event = events.WorkflowDeployed(1, WORKFLOW)
    raw = LANGUAGE.encode(event)
    assert LANGUAGE.decode_event(raw) == event
    assert msgpack.unpackb(raw)[0] == "WorkflowDeployed", "the reference reads what we write"


def test_blocks_are_found_by_their_position() -> None:
    assert WORKFLOW.at((0,)) is STEP
    assert WORKFLOW.at((1, "then", 0, "y", 0)) is STEP
    assert WORKFLOW.at((2,)) is None
    assert [key for key, _ in walk_blocks(WORKFLOW.steps)][:2] == [(), (1, "else")]
    with pytest.raises(LookupError):
        WORKFLOW.at((0, "then", 0))


def test_equal_content_has_one_version() -> None:
    unnamed = msgspec.structs.replace(WORKFLOW, version="")
    assert LANGUAGE.versioned(unnamed).version == LANGUAGE.versioned(unnamed).version
    assert LANGUAGE.versioned(WORKFLOW) is WORKFLOW


def test_every_event_of_an_order_has_its_transition() -> None:
    kinds = [kind.__name__ for kind in typing.get_args(events.AnyEvent) if issubclass(kind, events.OrderEvent)]
    untold = {"OrderAdded", "OrderCommanded", "OrderCommandDropped"}
    assert set(kinds) - set(TRANSITIONS) == untold


def test_unknown_leaves_are_refused_and_two_of_one_keyword() -> None:
    raw = msgpack.packb(["WorkflowDeployed", 1, ["w", "1", [["dance"]]]])
    with pytest.raises(msgspec.ValidationError, match="unknown instruction 'dance'"):
        LANGUAGE.decode_event(raw)

    class Other(msgspec.Struct, ProcessJob, array_like=True, tag="shell"):
        keyword: typing.ClassVar[str] = "shell"

    with pytest.raises(ValueError, match="two leaves are called 'shell'"):
        make_language(jobs=[Other])


@pytest.mark.parametrize(
    "command",
    [
        StartAttempt(Start("o/1/1", OrderId("o"), 1, 1, 7, "a", ShellJob("true"), {}, {})),
        KillAttempt("o/1/1"),
    ],
)
def test_what_a_subagent_is_told(command: Any) -> None:
    assert LANGUAGE.decode_to_subagent(LANGUAGE.encode(command)) == command


def test_what_an_agent_is_told() -> None:
    order = Order(id=OrderId("o"), workflow=WORKFLOW.id, added=3, variables={"n": 1})
    for command in (AttachOrder(order), ReleaseHeld(OrderId("o"), 2, OnLost.RERUN)):
        assert LANGUAGE.decode_to_agent(LANGUAGE.encode(command)) == command


@pytest.mark.parametrize(
    "item",
    [
        AgentItem(AgentId("a"), "memory://a"),
        SubagentItem(SubagentId("s"), AgentId("a"), "memory://s", disabled=True),
        BundleItem("b", AgentId("a"), {SubagentId("s"): 2}),  # type: ignore[arg-type]
    ],
)
def test_items_travel_in_events(item: Any) -> None:
    event = events.ItemChanged(1, item)
    assert LANGUAGE.decode_event(LANGUAGE.encode(event)) == event


def test_queries_and_their_pages() -> None:
    for query in (queries.GetOrder(OrderId("o")), queries.ListOrders(limit=5), queries.GetStatus()):
        assert LANGUAGE.decoder(queries.AnyQuery).decode(LANGUAGE.encode(query)) == query


def test_every_obstacle_is_one_sentence() -> None:
    assert str(JobLimitReached("w/a", 2)) == "job w/a already runs 2 times, which is its limit"
    assert "until 1970-01-01T00:00:01.000Z" in str(WaitingUntil(1_000, "sleeping"))
    assert "rerun or fail" in str(AttemptLost(3, "the guard ended"))
    for kind in typing.get_args(AnyObstacle):
        assert kind.__str__ is not msgspec.Struct.__str__, kind


def test_outcomes_are_told_in_words_and_bounded() -> None:
    assert str(failed("it broke", 3)) == "failed with return code 3: it broke"
    assert str(SUCCEEDED) == "succeeded"
    assert (unknown("?").is_success, SUCCEEDED.is_success) == (False, True)
    assert len(failed("x" * 10_000).message) == MESSAGE_LENGTH_MAX


def test_effects_and_records_are_values() -> None:
    assert WakeAt(OrderId("o"), 5) == WakeAt(OrderId("o"), 5)
    assert LinksChanged({"a": ("memory://a",)}).peers == {"a": ("memory://a",)}
    assert Entry(1, 1, b"") == Entry(1, 1, b"", b"")
    assert Record(1, 1, b"", b"", b"h").hash == b"h"
    assert ProcessSpec("k", ("true",), {}, "f").kill_delay_ms == 5_000


@pytest.mark.parametrize("at_ms", [253_402_300_800_000, 2**63 - 1, -(2**63)])
def test_an_instant_that_no_calendar_shows_is_a_sentence_too(at_ms: int) -> None:
    assert str(WaitingUntil(at_ms, "scheduled")) == (
        f"scheduled until a time that no calendar shows ({at_ms} ms after 1970)"
    )
    assert str(WaitingUntil(253_402_300_799_000, "scheduled")).endswith("until 9999-12-31T23:59:59.000Z")
