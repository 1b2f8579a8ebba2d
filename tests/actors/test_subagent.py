"""The subagent against a director made of a bare link: nothing starts twice, nothing that ends stays untold.

Tests: actors/subagent.py
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.subagent import Subagent
from engine.base.codec import encode
from engine.base.ids import START, Cursor, OrderId, attempt_key
from engine.base.problem import Problem
from engine.base.wire import Accepted, Identity, WireRecord
from engine.boot import boot_subagent
from engine.embed import CLUSTER
from engine.jobs.command import CommandJob
from engine.jobs.guard_host import LINE_BYTES_MAX
from engine.jobs.python import PythonJob
from engine.jobs.shell import ShellJob
from engine.language import standard_language
from engine.model.command import (
    AnyReport,
    AskRenewals,
    KillAttempt,
    OfferAttempt,
    Renewals,
    ReportEnded,
    StartAttempt,
)
from engine.model.expression import Template
from engine.model.job import Job, LeaseTerms, Start
from engine.model.outcome import OutcomeKind
from engine.real import RealPlace
from engine.runtime.link import Link
from tests.embed.engines import WAIT_S_MAX, true

URL = "memory://subagent"
_reports = msgspec.msgpack.Decoder(tuple[AnyReport, ...]).decode


def start(job: Job, number: int = 1, **options: Any) -> StartAttempt:
    order = OrderId(f"o{number}")
    options.setdefault("arguments", {})
    one = Start(attempt_key(order, 1, 1), order, 1, 1, 1, "job", job, environment={}, **options)
    return StartAttempt(one)


class Director:
    """A link that takes every report, and acknowledges when it is told to."""

    def __init__(self, place: RealPlace) -> None:
        self.reports: list[Any] = []
        self.last = START
        self.link = Link(
            place.world("director"),
            (URL,),
            Identity(CLUSTER, "director", "local", 1),
            peer_role="subagent",
            on_failure=self.failed,
            cursor=lambda: START,
            owed=self.owed,
            on_records=self.take,
        )

    def failed(self, error: BaseException) -> None:
        raise error

    def owed(self) -> list[bytes]:
        return []

    def take(self, records: list[WireRecord]) -> None:
        self.reports += [report for record in records for report in _reports(record.events)]
        self.last = Cursor(records[-1].index, records[-1].epoch)

    async def tell(self, *commands: Any) -> None:
        """Send commands in one message and wait until they were taken."""
        encode_command = standard_language().encode
        replies = [self.link.request(encode_command(one)) for one in commands]
        assert all(isinstance(one, Accepted) for one in await asyncio.gather(*replies))

    async def ended(self, count: int = 1) -> list[ReportEnded]:
        await true(lambda: sum(isinstance(one, ReportEnded) for one in self.reports) >= count)
        return [one for one in self.reports if isinstance(one, ReportEnded)]


class Bench:
    def __init__(self, place: RealPlace, subagent: Subagent) -> None:
        self.place = place
        self.subagent = subagent
        self.director = Director(place)

    async def couple(self) -> Director:
        """Begin a session; whatever waits is reported before commands are taken."""
        await self.director.link.close()
        self.director = Director(self.place)
        self.director.link.start()
        await true(lambda: self.director.link.peer is not None)
        tip = len(self.subagent.outbox)
        if tip:
            await true(lambda: self.director.last.index >= 1)
            self.director.link.acknowledge(self.director.last)
        async with asyncio.timeout(WAIT_S_MAX):
            await self.director.link.until_coupled()
        return self.director


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    place = RealPlace(tmp_path / "state")
    ended: list[BaseException] = []
    known = {"forever": asyncio.Event().wait}
    subagent = await boot_subagent(place.node_world("subagent", "subagent"), URL, CLUSTER, ended.append, known)
    one = Bench(place, subagent)
    await one.couple()
    yield one
    await one.director.link.close()
    await subagent.close()
    place.close()
    assert ended == []


async def test_an_attempt_begins_once_however_often_it_is_asked_for(bench: Bench, tmp_path: Path) -> None:
    command = start(ShellJob(f"echo x >> {tmp_path}/runs"))
    await bench.director.tell(command, command)
    await bench.director.ended()
    await bench.director.tell(command)
    director = await bench.couple()
    assert len(await director.ended()) == 1
    await director.tell(command)
    assert (tmp_path / "runs").read_text() == "x\n"


async def test_a_start_that_comes_behind_the_ack_of_its_end_starts_nothing(bench: Bench, tmp_path: Path) -> None:
    """A link sends an Ack before commands that wait: the start was owed when its attempt was still running."""
    command = start(ShellJob(f"echo x >> {tmp_path}/runs; while ! test -e {tmp_path}/go_on; do sleep 0.01; done"))
    await bench.director.tell(command)
    await true((tmp_path / "runs").exists)
    director = await bench.couple()
    (tmp_path / "go_on").touch()
    await director.ended()
    director.link.acknowledge(director.last)
    await true(lambda: len(bench.subagent.outbox) == 0)
    await director.tell(command)
    assert bench.subagent._started == {}
    assert (tmp_path / "runs").read_text() == "x\n"
    await director.tell(start(ShellJob("true"), 2))
    assert [one.order for one in await director.ended(2)] == ["o1", "o2"]


async def test_what_began_and_is_not_known_here_is_unknown_and_not_begun_again(bench: Bench, tmp_path: Path) -> None:
    """The subagent's state directory was lost, or is an older one from a backup."""
    command = start(ShellJob(f"echo x >> {tmp_path}/runs"), begun=True)
    await bench.director.tell(command, command)
    (ended,) = await bench.director.ended()
    assert ended.outcome.kind is OutcomeKind.UNKNOWN
    assert "record of it is gone" in ended.outcome.message
    director = await bench.couple()
    await director.tell(command)
    assert len(await director.ended()) == 1
    assert not (tmp_path / "runs").exists()


async def test_what_began_with_a_lease_and_is_not_known_here_is_left_to_its_lease(bench: Bench, tmp_path: Path) -> None:
    """Its process may be running, under the guard of the lost directory: to rerun it now would run it twice."""
    command = OfferAttempt(start(ShellJob(f"echo x >> {tmp_path}/runs"), begun=True).start, LeaseTerms(300, 100))
    await bench.director.tell(command, start(ShellJob("true"), 2))
    assert [one.order for one in await bench.director.ended()] == ["o2"]
    renewals = await bench.director.link.ask(encode(AskRenewals((command.start.key,))))
    assert msgspec.msgpack.decode(renewals, type=Renewals).keys == ()
    assert not (tmp_path / "runs").exists()


def changed(command: StartAttempt, **fields: Any) -> Start:
    return msgspec.structs.replace(command.start, **fields)


@pytest.mark.parametrize(
    "command",
    [
        StartAttempt(changed(start(ShellJob("true")), key="nonsense")),
        StartAttempt(changed(start(ShellJob("true")), attempt=2)),
        OfferAttempt(changed(start(ShellJob("true")), key="nonsense"), LeaseTerms(300, 100)),
        OfferAttempt(start(ShellJob("true")).start, LeaseTerms(-60_000, 100)),
    ],
    ids=["key", "attempt", "offer", "terms"],
)
async def test_a_malformed_start_is_refused_and_ends_nothing_else(bench: Bench, command: Any) -> None:
    refused = await bench.director.link.request(standard_language().encode(command))
    assert isinstance(refused, Problem)
    assert refused.code == "StartUnreadable"
    await bench.director.tell(start(ShellJob("true"), 2))
    assert [one.order for one in await bench.director.ended()] == ["o2"]


async def test_a_key_that_is_too_long_for_the_guard_does_not_reach_it(bench: Bench) -> None:
    """The guard ends the connection at so long a line, and would get it again and again."""
    order = OrderId("o" * (LINE_BYTES_MAX + (1 << 20)))
    long = changed(start(ShellJob("true")), order=order, key=attempt_key(order, 1, 1))
    await bench.director.tell(KillAttempt(long.key), StartAttempt(long))
    (refused,) = await bench.director.ended()
    assert "must not be longer" in refused.outcome.message
    bench.director.link.acknowledge(bench.director.last)
    await true(lambda: len(bench.subagent.outbox) == 0)
    await bench.director.tell(start(ShellJob("true"), 2))
    assert [one.order for one in await bench.director.ended(2)][1:] == ["o2"]


async def test_one_that_is_killed_before_its_first_step_is_told_ended(bench: Bench) -> None:
    command = start(PythonJob("forever"))
    await bench.director.tell(command, KillAttempt(command.start.key))
    (ended,) = await bench.director.ended()
    assert ended.outcome.kind is OutcomeKind.KILLED


async def test_an_attempt_that_can_not_be_begun_ends_alone(bench: Bench) -> None:
    class Unheard(msgspec.Struct, Job, frozen=True, array_like=True, tag="unheard"):
        keyword = "unheard"
        outlives = False

    await bench.director.tell(
        start(CommandJob((Template("${x}"),)), 1),  # its argument is missing: a mistake of ours, not the node's end
        start(CommandJob(()), 2),
        start(PythonJob("forever"), 3, timeout_ms=0),
    )
    bench.subagent._begin(start(Unheard(), 4).start)
    outcomes = {one.order: str(one.outcome) for one in await bench.director.ended(4)}
    assert "could not be started" in outcomes[OrderId("o1")]
    assert "no program" in outcomes[OrderId("o2")]
    assert outcomes[OrderId("o3")].startswith("timed out")
    assert "no way to run" in outcomes[OrderId("o4")]


async def test_killing_what_is_not_there_is_no_harm(bench: Bench) -> None:
    await bench.director.tell(KillAttempt("o9/1/1"), start(ShellJob("true")))
    await bench.director.ended()


async def test_what_is_no_command_is_refused(bench: Bench) -> None:
    reply = await bench.director.link.request(encode(["Nonsense", 1]))
    assert "can not be read" in str(reply)
