"""What nodes log goes into the timeline of their own run.

Tests: engine/simulation/logs.py, engine/simulation/loop.py
"""

import asyncio
import logging
import threading

import pytest

from engine.base.log import logger
from engine.simulation.cluster import SimCluster
from engine.simulation.logs import logs_go_to
from engine.simulation.loop import run
from tests.simulation.clusters import closed, quiet, started, virtual
from tests.simulation.loops import start, virtual_loop

Told = list[tuple[str, str]]
log = logger("of the simulation's tests")


def test_lines_of_a_run_go_to_its_loop_with_their_node_and_fields(caplog: pytest.LogCaptureFixture) -> None:
    heard: Told = []

    async def speak() -> None:
        log.warning("disk nearly full", free_bytes=7)
        try:
            raise ValueError("no luck")
        except ValueError:
            log.exception("it failed")

    async def main() -> None:
        virtual_loop().on_log = lambda node, sentence: heard.append((node, sentence))
        await start("a#1", speak())

    run(main(), seed=0)
    log.warning("outside")
    assert heard == [
        ("a#1", "warning: disk nearly full free_bytes=7"),
        ("a#1", "error: it failed exception=ValueError: no luck"),
    ]
    assert caplog.messages == ["outside"], "what is logged outside of a run goes where it always goes"


def test_what_the_dead_log_when_a_run_ends_belongs_to_it_too(caplog: pytest.LogCaptureFixture) -> None:
    heard: Told = []

    async def forgotten() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            log.error("too late")

    async def main() -> None:
        virtual_loop().on_log = lambda node, sentence: heard.append((node, sentence))
        start("a#1", forgotten())
        await asyncio.sleep(1)
        virtual_loop().crash("a#1")

    run(main(), seed=0)
    assert [sentence for _, sentence in heard] == ["error: too late"]
    assert caplog.messages == []


def test_other_threads_are_not_diverted(caplog: pytest.LogCaptureFixture) -> None:
    heard: Told = []
    with logs_go_to(lambda node, sentence: heard.append((node, sentence))):
        other = threading.Thread(target=log.warning, args=("from elsewhere",))
        other.start()
        other.join()
        log.warning("from here")
    assert caplog.messages == ["from elsewhere"]
    assert heard == [("", "warning: from here")]


def test_an_inner_run_gives_back_to_the_outer_and_an_error_to_everybody() -> None:
    outer: Told = []
    inner: Told = []
    ours = logging.getLogger("understudy")
    handlers = list(ours.handlers)
    with pytest.raises(KeyError), logs_go_to(lambda *one: outer.append(one)):
        with logs_go_to(lambda *one: inner.append(one)):
            log.warning("1")
        log.warning("2")
        raise KeyError
    assert (inner, outer) == ([("", "warning: 1")], [("", "warning: 2")])
    assert ours.propagate
    assert ours.handlers == handlers


@virtual
async def end_a_node(cluster_seen: list[SimCluster]) -> None:
    cluster = await started()
    cluster_seen.append(cluster)
    cluster.fail("a")
    await quiet(cluster)
    await closed(cluster)


def test_a_cluster_writes_them_into_its_timeline(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[SimCluster] = []
    end_a_node(seen)
    lines = [line for line in seen[0].lookout.timeline.lines() if "error: node ends" in line]
    assert lines
    assert "planted by the simulation" in lines[0]
    assert lines[0].split()[1] == "a#1"
    assert caplog.messages == []
