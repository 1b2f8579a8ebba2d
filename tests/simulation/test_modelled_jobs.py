"""Modelled jobs: durations from the seed, coroutines as processes, TERM and KILL."""

import asyncio
from random import Random
from typing import Any

import pytest

from engine.ports import ProcessSpec
from engine.simulation.modelled_jobs import Duration, JobEnd, JobModel, JobRun, Process, job_end, run_of
from tests.simulation.clusters import virtual, virtual_loop

SPEC = ProcessSpec(
    "o/1/2",
    ("work", "hard"),
    {"UNDERSTUDY_ORDER": "o", "UNDERSTUDY_LABEL": "one", "UNDERSTUDY_ATTEMPT": "2", "UNDERSTUDY_FENCE": "7"},
    "attempts/o/1-2",
)


def begin(model: JobModel, seed: int = 0) -> tuple[Process, list[JobEnd]]:
    ends: list[JobEnd] = []
    return Process(run_of(SPEC, "m"), model, virtual_loop(), Random(seed), ends.append), ends


async def ended(ends: list[JobEnd]) -> JobEnd:
    for _ in range(10_000):
        if ends:
            return ends[0]
        await asyncio.sleep(0.001)
    raise AssertionError("it does not end")


def test_an_attempt_is_read_back_from_its_program() -> None:
    run = run_of(SPEC, "m")
    assert (run.key, run.order, run.label, run.attempt, run.fence) == ("o/1/2", "o", "one", 2, 7)
    assert (run.argv, run.machine) == (("work", "hard"), "m")


def test_what_a_job_returns_is_a_code_or_results_or_both() -> None:
    assert job_end(None) == JobEnd()
    assert job_end(3) == JobEnd(3)
    assert job_end({"x": 1}) == JobEnd(0, {"x": 1})
    assert job_end(JobEnd(1, {"x": 1})) == JobEnd(1, {"x": 1})
    with pytest.raises(TypeError, match="returns a return code"):
        job_end("done")  # type: ignore[arg-type]


@virtual
async def test_a_duration_is_drawn_from_the_seed() -> None:
    model = Duration(ms_min=100, ms_max=900, results={"x": 1})
    spans = []
    for seed in (1, 1, 2):
        start = virtual_loop().time()
        _, ends = begin(model, seed)
        assert await ended(ends) == JobEnd(0, {"x": 1}, out_bytes=10)
        spans.append(round(virtual_loop().time() - start, 3))
    assert spans[0] == spans[1] != spans[2]
    assert all(0.1 <= span <= 0.91 for span in spans)


@virtual
async def test_one_that_fails_has_its_return_code_and_no_results() -> None:
    _, ends = begin(Duration(fail_rate=1, return_code=9, results={"x": 1}))
    assert await ended(ends) == JobEnd(9)


@virtual
async def test_term_ends_one_that_listens_and_kill_ends_every_one() -> None:
    process, ends = begin(Duration(endless_rate=1))
    process.term()
    process.term()
    assert await ended(ends) == JobEnd(-15)
    stubborn, ends = begin(Duration(endless_rate=1, stubborn_rate=1))
    stubborn.term()
    await asyncio.sleep(5)
    assert ends == []
    stubborn.kill()
    stubborn.kill()
    assert ends == [JobEnd(-9)]


@virtual
async def test_a_coroutine_is_a_process_in_a_lane_of_its_own() -> None:
    seen: list[Any] = []

    async def job(run: JobRun) -> dict[str, Any]:
        seen.append(run.label)
        await asyncio.sleep(2)
        return {"y": run.attempt}

    process, ends = begin(job)
    assert process.lane == "process m:o/1/2"
    await asyncio.sleep(1)
    assert ends == []
    assert await ended(ends) == JobEnd(0, {"y": 2})
    assert seen == ["one"]


@virtual
async def test_a_coroutine_that_raises_or_returns_nonsense_fails() -> None:
    async def raises(_: JobRun) -> None:
        raise ValueError("no luck")

    async def nonsense(_: JobRun) -> Any:
        return object()

    for job, kind in ((raises, ValueError), (nonsense, TypeError)):
        process, ends = begin(job)
        assert await ended(ends) == JobEnd(1)
        assert isinstance(process.fault, kind)


@virtual
async def test_term_cancels_a_coroutine_and_kill_ends_it_without_a_last_word() -> None:
    words: list[str] = []

    async def job(_: JobRun) -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            words.append("finally")

    process, ends = begin(job)
    await asyncio.sleep(1)
    process.term()
    assert await ended(ends) == JobEnd(-15)
    assert words == ["finally"]
    process, ends = begin(job)
    await asyncio.sleep(1)
    process.kill()
    assert ends == [JobEnd(-9)]
    assert words == ["finally"]
