"""The rows of the failure table that need two directors, as transcripts of simulated clusters, relative to the failure.

Written anew with UNDERSTUDY_REWRITE=1. Cluster: agent `a` with directors `a.1`, `a.2` and subagents `a-1`, `a-2`; one
order whose job runs for 30 s.

Tests: engine/simulation/director_pairs.py
"""

import asyncio
import difflib
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from engine.model.job import OnLost
from engine.simulation.cluster import SimCluster
from tests.simulation.clusters import closed, quiet, virtual
from tests.simulation.test_director_pairs import acting, running, subagent

FOLDER = Path(__file__).parents[1] / "flows" / "directors"
REWRITE = bool(os.environ.get("UNDERSTUDY_REWRITE"))

ABSOLUTE = re.compile(r" (started_ms|pid)=\d+")  # what depends on when the run came so far

Scene = Callable[[SimCluster], Awaitable[None]]


async def _acts(cluster: SimCluster, name: str) -> None:
    await cluster.until(lambda: acting(cluster) == name, f"{name} acts", seconds=20)


async def director_dies(cluster: SimCluster) -> None:
    """The acting director crashes. The other one adopts the job that runs; nothing is begun again."""
    cluster.crash("a.1")
    await _acts(cluster, "a.2")
    cluster.boot("a.1")


async def machine_dies(cluster: SimCluster) -> None:
    """A whole machine dies: the acting director and the subagent that runs the job. Nobody guesses how the job ended
    until the machine is back; then its own rule (hold) decides, and a person is asked."""
    place = subagent(cluster)
    assert place is not None
    cluster.crash("a.1")
    cluster.reboot(place)
    await _acts(cluster, "a.2")
    cluster.boot("a.1")
    cluster.boot(place)


async def zone_dies(cluster: SimCluster) -> None:
    """A zone dies: the active controller and the acting director. Two takeovers in series, since the controllers are
    the register of the directors."""
    cluster.crash("controller")
    cluster.crash("a.1")
    await _acts(cluster, "a.2")
    cluster.boot("controller")
    cluster.boot("a.1")


async def cut_from_register(cluster: SimCluster) -> None:
    """Both directors are cut from the controllers, their register: they go on. A second failure in that time stops the
    agent until the cut heals."""
    pairs = [(one, other) for one in ("a.1", "a.2") for other in ("controller", "controller-2")]
    cluster.lookout.timeline.note("network", "both directors are cut from both controllers")
    for one, other in pairs:
        cluster.network.cut(one, other)
    await asyncio.sleep(8)
    cluster.crash("a.1")
    await asyncio.sleep(8)
    assert acting(cluster) is None
    cluster.lookout.timeline.note("network", "healed")
    for one, other in pairs:
        cluster.network.heal_between(one, other)
    await _acts(cluster, "a.2")
    cluster.boot("a.1")


SCENES: dict[str, tuple[Scene, OnLost]] = {
    "29-director-dies": (director_dies, OnLost.RERUN),
    "30-machine-dies": (machine_dies, OnLost.HOLD),
    "31-zone-dies": (zone_dies, OnLost.RERUN),
    "32-cut-from-register": (cut_from_register, OnLost.RERUN),
}


@pytest.mark.parametrize("name", SCENES)
def test_failure(name: str) -> None:
    path = FOLDER / f"{name}.txt"
    found, known = told(name), path.read_text() if path.exists() else ""
    if found == known:
        return
    if REWRITE:
        path.write_text(found)
        return
    changes = difflib.unified_diff(known.splitlines(), found.splitlines(), path.name, "as it would be", lineterm="")
    pytest.fail("\n".join(changes) + "\nIs this right? Then `make flows-rewrite`, and review the difference.")


def test_every_transcript_has_its_scene() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.txt")) == sorted(SCENES)


def told(name: str) -> str:
    """Play a scene; return its transcript, in tenths of a second since the failure."""
    scene, on_lost = SCENES[name]
    lines: list[str] = []

    @virtual
    async def play() -> None:
        cluster = await running(on_lost, controllers=2)
        assert cluster.pair is not None
        await cluster.until(cluster.pair.has_two_copies, "both controllers have everything")
        before = len(list(cluster.lookout.timeline.lines()))
        await scene(cluster)
        await quiet(cluster)
        after = list(cluster.lookout.timeline.lines())[before:]
        start_s = float(after[0].split(maxsplit=1)[0]) if after else 0.0
        for line in after:
            at_s, rest = line.split(maxsplit=1)
            lines.append(f"{float(at_s) - start_s:7.1f}  {ABSOLUTE.sub('', rest)}")
        await closed(cluster)

    play()
    words = " ".join((scene.__doc__ or "").split())
    return "\n".join([f"# {words}", "----", *lines, ""])
