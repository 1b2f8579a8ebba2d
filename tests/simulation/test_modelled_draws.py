"""Drawn jobs: durations, return codes and results come from the seed and the attempt alone."""

import asyncio
import statistics
from random import Random
from typing import Any

import pytest

from engine.ports import ProcessSpec
from engine.simulation.loop import run
from engine.simulation.modelled_draws import Choice, Drawn, Exponential, LogNormal, Uniform, chances
from engine.simulation.modelled_jobs import JobEnd, JobRun, Process, run_of
from tests.simulation.clusters import virtual, virtual_loop

SPEC = ProcessSpec("o/1/2", ("work",), {"UNDERSTUDY_ORDER": "o", "UNDERSTUDY_LABEL": "one"}, "attempts/o/1-2")


@pytest.mark.parametrize(
    ("draw", "median", "low", "high"),
    [
        (Uniform(10, 30), 20, 10, 30),
        (Exponential(10), 6.9, 0, 1_000),
        (LogNormal(100, 0.5), 100, 1, 10_000),
    ],
)
def test_draws_have_the_shape_they_are_called_by(draw: Any, median: float, low: float, high: float) -> None:
    random = Random(1)
    found = [draw.draw(random) for _ in range(2_000)]
    assert statistics.median(found) == pytest.approx(median, rel=0.1)
    assert low <= min(found) <= max(found) <= high


def test_a_choice_follows_its_weights() -> None:
    random = Random(1)
    found = [Choice(("a", "b", "c"), (8, 2, 0)).draw(random) for _ in range(1_000)]
    assert 700 < found.count("a") < 900
    assert "c" not in found
    assert {Choice((1, 2)).draw(random) for _ in range(50)} == {1, 2}


def ends_of(model: Drawn, seed: int, key: str = "o/1/2") -> tuple[JobEnd, float]:
    async def main() -> tuple[JobEnd, float]:
        loop = asyncio.get_running_loop()
        end = await model(run_of(ProcessSpec(key, ("work",), SPEC.environment, "attempts"), "m"))
        return end, loop.time()

    return run(main(), seed=seed)


MODEL = Drawn(
    ms=Uniform(100, 9_000), return_codes={0: 3, 7: 1}, results={"x": Choice(("a", "b")), "y": 5, "z": Uniform(0, 1)}
)


def test_the_same_seed_and_attempt_end_the_same_and_others_do_not() -> None:
    assert ends_of(MODEL, 1) == ends_of(MODEL, 1)
    assert len({ends_of(MODEL, seed)[1] for seed in range(5)}) == 5
    assert ends_of(MODEL, 1, "o/1/3")[1] != ends_of(MODEL, 1)[1]


def test_return_codes_have_weights_and_only_0_gives_results() -> None:
    found = [ends_of(MODEL, seed)[0] for seed in range(40)]
    assert {end.return_code for end in found} == {0, 7}
    for end in found:
        assert set(end.results) == (set("xyz") if end.return_code == 0 else set())
    assert {end.results["x"] for end in found if end.results} == {"a", "b"}
    assert {end.results["y"] for end in found if end.results} == {5}


@virtual
async def test_term_ends_a_drawn_job_unless_it_is_stubborn() -> None:
    ends: list[JobEnd] = []

    def begin(model: Drawn) -> Process:
        return Process(run_of(SPEC, "m"), model, virtual_loop(), Random(0), ends.append)

    begin(Drawn(ms=Uniform(5_000, 5_000))).term()
    await asyncio.sleep(0.1)
    assert ends == [JobEnd(-15)]
    stubborn = begin(Drawn(ms=Uniform(5_000, 5_000), stubborn_rate=1))
    await asyncio.sleep(1)
    stubborn.term()
    await asyncio.sleep(1)
    assert len(ends) == 1
    await asyncio.sleep(3.1)
    assert ends[1:] == [JobEnd(0)]


@virtual
async def test_a_coroutine_draws_from_its_attempt() -> None:
    one, same = run_of(SPEC, "m"), run_of(SPEC, "m")
    other: JobRun = run_of(SPEC, "n")
    assert chances(one).random() == chances(same).random() != chances(other).random()
