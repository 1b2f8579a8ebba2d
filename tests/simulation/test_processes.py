"""The simulated machine: keys are started once, the guard outlives its owner, and nothing outlives a reboot.

Tests: engine/simulation/processes.py, engine/simulation/process_host.py
"""

import asyncio
from random import Random
from typing import Any

import pytest

from engine.base.problem import EngineClosed
from engine.ports import ProcessReport, ProcessSpec
from engine.simulation.modelled_jobs import Duration, JobModel
from engine.simulation.process_host import SimHost
from engine.simulation.processes import LOST, REBOOTED, SimMachine
from tests.simulation.clusters import virtual, virtual_loop

SECOND = Duration(ms_min=1_000, ms_max=1_000)


def spec(key: str = "o/1/1", label: str = "one", **fields: Any) -> ProcessSpec:
    order, _, attempt = key.split("/")
    environment = {
        "UNDERSTUDY_ORDER": order,
        "UNDERSTUDY_LABEL": label,
        "UNDERSTUDY_ATTEMPT": attempt,
        "UNDERSTUDY_RESULT": f"/machines/m/attempts/{key}/result",
    }
    return ProcessSpec(key, ("work", "{script}"), environment, f"attempts/{key}", **fields)


def machine(**jobs: JobModel) -> SimMachine:
    return SimMachine("m", virtual_loop(), Random(1), {"one": SECOND, **jobs})


async def opened(computer: SimMachine) -> tuple[SimHost, list[ProcessReport]]:
    host = SimHost(computer)
    return host, await host.open()


async def heard(host: SimHost, count: int) -> list[str]:
    """The kinds of the next reports."""
    kinds: list[str] = []
    while len(kinds) < count:
        kinds += [report.kind for report in await host.reports()]
    return kinds


@virtual
async def test_a_process_is_started_runs_and_ends_and_leaves_its_results() -> None:
    computer = machine(one=Duration(ms_min=1_000, ms_max=1_000, results={"x": 1}))
    host, known = await opened(computer)
    assert known == []
    host.start(spec(script="echo"))
    first = (await host.reports())[0]
    assert (first.kind, first.key) == ("started", "o/1/1")
    assert first.pid > 0
    assert [group.key for group in computer.running()] == ["o/1/1"]
    last = (await host.reports())[0]
    assert (last.kind, last.return_code, last.cause) == ("ended", 0, "exited")
    assert computer.running() == []
    group = computer.groups[0]
    assert group.ended_ns - group.started_ns == 1_000_000_000
    assert computer.files["/machines/m/attempts/o/1/1/result"] == b'{"x":1}'
    assert host.path("attempts/x") == "/machines/m/attempts/x"
    await host.close()


@virtual
async def test_a_key_is_started_once_whoever_asks() -> None:
    computer = machine()
    host, _ = await opened(computer)
    host.start(spec())
    host.start(spec())
    assert await heard(host, 1) == ["started"]
    host.start(spec())
    assert await heard(host, 2) == ["started", "ended"]
    host.start(spec())
    assert await heard(host, 1) == ["ended"]
    await host.close()
    again, known = await opened(computer)
    assert [report.kind for report in known] == ["ended"]
    again.start(spec())
    assert await heard(again, 1) == ["ended"]
    assert len(computer.groups) == 1
    assert computer.counts["repeated_starts"] == 4
    again.forget(["o/1/1"])
    await asyncio.sleep(1)
    assert computer.records == {}
    await again.close()


@virtual
async def test_the_guard_lives_on_and_the_next_owner_adopts_what_runs() -> None:
    computer = machine()
    host, _ = await opened(computer)
    host.start(spec())
    assert await heard(host, 1) == ["started"]
    host.end("crashed")
    again, known = await opened(computer)
    assert [report.kind for report in known] == ["started"]
    assert await heard(again, 1) == ["ended"]
    assert computer.counts["adopted"] == 1
    assert len(computer.groups) == 1
    with pytest.raises(EngineClosed):
        host.start(spec("p/1/1"))
    await again.close()


@virtual
async def test_what_a_dead_guard_watched_is_lost_but_only_when_it_is_gone() -> None:
    computer = machine()
    host, _ = await opened(computer)
    host.start(spec())
    assert await heard(host, 1) == ["started"]
    assert computer.crash_guard()
    assert not computer.crash_guard()
    ended_ns = virtual_loop().now_ns + 900_000_000
    report = (await host.reports())[0]
    assert (report.kind, report.sentence) == ("lost", LOST)
    assert virtual_loop().now_ns > ended_ns, "it ran on, and was lost only when it was gone"
    assert computer.running() == []
    await host.close()


@virtual
async def test_requests_on_their_way_to_a_dead_guard_are_repeated() -> None:
    computer = machine()
    host, _ = await opened(computer)
    host.start(spec())
    computer.crash_guard()
    assert await heard(host, 2) == ["started", "ended"]
    assert len(computer.groups) == 1
    await host.close()


@virtual
async def test_a_start_whose_record_survived_its_guard_is_lost_not_begun() -> None:
    outcomes = set()
    for seed in range(12):
        computer = SimMachine("m", virtual_loop(), Random(seed), {"one": SECOND})
        host, _ = await opened(computer)
        host.start(spec())
        await asyncio.sleep(0.0006)  # the guard has heard of it, its disk has not
        computer.crash_guard()
        outcomes.add((await heard(host, 1))[0])
        assert len(computer.groups) <= 1
        await host.close()
    assert outcomes == {"lost", "started"}


@virtual
async def test_nothing_lives_through_a_reboot() -> None:
    computer = machine()
    host, _ = await opened(computer)
    host.start(spec())
    assert await heard(host, 1) == ["started"]
    host.end("crashed")
    computer.reboot()
    assert computer.running() == []
    assert computer.groups[0].how == "reboot"
    again, known = await opened(computer)
    assert [(report.kind, report.sentence) for report in known] == [("lost", REBOOTED)]
    again.start(spec())
    assert await heard(again, 1) == ["lost"]
    assert len(computer.groups) == 1
    await again.close()


@virtual
async def test_a_kill_is_term_and_after_the_delay_kill() -> None:
    computer = machine(soft=Duration(endless_rate=1), hard=Duration(endless_rate=1, stubborn_rate=1))
    host, _ = await opened(computer)
    host.start(spec("o/1/1", "soft", kill_delay_ms=2_000))
    host.start(spec("p/1/1", "hard", kill_delay_ms=2_000))
    assert await heard(host, 2) == ["started", "started"]
    start = virtual_loop().time()
    host.kill("o/1/1")
    host.kill("p/1/1")
    host.kill("nobody")
    soft, hard = (await host.reports())[0], (await host.reports())[0]
    assert (soft.key, soft.return_code, soft.cause) == ("o/1/1", -15, "killed")
    assert (hard.key, hard.return_code, hard.cause) == ("p/1/1", -9, "killed")
    assert virtual_loop().time() - start >= 2
    await host.close()


@virtual
async def test_kill_at_once_and_before_the_beginning() -> None:
    computer = machine(one=Duration(endless_rate=1, stubborn_rate=1))
    host, _ = await opened(computer)
    host.start(spec())
    host.kill("o/1/1")
    report = (await host.reports())[0]
    assert (report.kind, report.sentence) == ("ended", "it was killed before it began")
    assert computer.groups == []
    host.start(spec("p/1/1"))
    assert await heard(host, 1) == ["started"]
    host.kill("p/1/1", now=True)
    assert (await host.reports())[0].return_code == -9
    await host.close()


@virtual
async def test_a_timeout_is_kept_also_by_the_next_guard() -> None:
    computer = machine(one=Duration(endless_rate=1))
    host, _ = await opened(computer)
    host.start(spec(timeout_ms=3_000))
    assert await heard(host, 1) == ["started"]
    report = (await host.reports())[0]
    assert (report.kind, report.cause) == ("ended", "timed_out")
    host.start(spec("p/1/1", timeout_ms=3_000))
    assert await heard(host, 1) == ["started"]
    computer.crash_guard()
    assert await heard(host, 1) == ["lost"]
    group = computer.groups[1]
    assert 3_000 <= (group.ended_ns - group.started_ns) / 1e6 < 3_200
    await host.close()


@virtual
async def test_who_may_do_nothing_is_refused_at_each_use() -> None:
    asked: list[str] = []

    def check(what: str) -> None:
        asked.append(what)
        if len(asked) > 3:
            raise EngineClosed("it is over")

    host = SimHost(machine(), check)
    await host.open()
    host.start(spec())
    with pytest.raises(EngineClosed):
        host.kill("o/1/1")
    assert asked == ["open the process host", "begin the guard", "start a process", "kill a process"]
    await host.close()
    with pytest.raises(EngineClosed):
        await host.reports()


def leased(computer: SimMachine, until_ms: int, **fields: Any) -> ProcessSpec:
    return spec(lease_until_ms=computer.clock_ms() + until_ms, lease_grace_ms=200, lease_margin_ms=50, **fields)


@virtual
async def test_a_process_ends_with_its_lease_and_lives_on_with_a_longer_one() -> None:
    computer = machine(one=Duration(ms_min=60_000, ms_max=60_000, stubborn_rate=1.0))
    host, _ = await opened(computer)
    begin_ms = computer.clock_ms()
    host.start(leased(computer, 1_000))
    await asyncio.sleep(0.5)
    host.lease(["o/1/1", "unknown/1/1"], begin_ms + 2_000)
    host.lease(["o/1/1"], begin_ms + 1_500)
    report = (await host.reports())[-1]
    while report.kind == "started":
        report = (await host.reports())[-1]
    assert (report.kind, report.cause) == ("ended", "fenced")
    (group,) = computer.groups
    assert 1_940 <= (group.ended_ns - group.started_ns) / 1e6 <= 1_960, "KILL comes a margin before the end"
    assert computer.counts["fenced"] == 1


@virtual
async def test_a_lease_that_is_over_is_not_extended_and_begins_nothing() -> None:
    computer = machine(one=Duration(ms_min=60_000, ms_max=60_000, stubborn_rate=1.0))
    host, _ = await opened(computer)
    host.start(leased(computer, 1_000))
    await asyncio.sleep(0.8)  # TERM is out
    host.lease(["o/1/1"], computer.clock_ms() + 60_000)
    await asyncio.sleep(0.2)
    assert computer.running() == []
    host.start(leased(computer, 250, key="p/1/1"))
    assert await heard(host, 3) == ["started", "ended", "ended"]
    assert len(computer.groups) == 1


@virtual
async def test_the_next_guard_keeps_a_lease_and_clocks_that_are_wrong_are_the_nodes_own() -> None:
    computer = machine(one=Duration(ms_min=60_000, ms_max=60_000, stubborn_rate=1.0))
    loop = virtual_loop()

    async def as_node() -> None:
        host, _ = await opened(computer)
        host.start(leased(computer, 4_000))
        await asyncio.sleep(0.1)

    loop.drift("m#1", -200_000)  # a fifth too slow
    await loop.create_task(as_node(), context=loop.context_of("m#1"))
    computer.crash_guard()
    await asyncio.sleep(3.5)
    assert len(computer.running()) == 1, "its own clock shows less than three seconds"
    await asyncio.sleep(1.5)
    assert computer.running() == []
    (group,) = computer.groups
    assert 4_870 <= (group.ended_ns - group.started_ns) / 1e6 <= 4_960
