"""The cluster of a test and its other settings: what is refused, and what a digest tells apart."""

from typing import Any

import pytest

from engine.simulation.cluster import SimCluster
from engine.simulation.disk import DiskPace
from engine.simulation.faults import Faults
from engine.simulation.modelled_draws import Drawn, Uniform
from engine.simulation.modelled_jobs import Duration, JobRun
from engine.simulation.network import Weather
from engine.simulation.settings import Agents, Cluster, Settings
from tests.simulation.clusters import virtual, virtual_loop


def test_agents_are_names_or_numbers_or_agents() -> None:
    assert Cluster().each_agent() == {"local": Agents(1, 1)}
    assert Cluster(agents=["b", "a"]).each_agent() == {"b": Agents(), "a": Agents()}
    assert Cluster(agents={"a": 2, "b": Agents(subagents=3)}).each_agent() == {"a": Agents(2), "b": Agents(3)}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"controllers": 3}, "controllers must be a number from 1 to 2, not 3"),
        ({"controllers": True}, "not True"),
        ({"parallel_max": 0}, "parallel_max must be"),
        ({"agents": "local"}, "give a list of names"),
        ({"agents": ["a", "a"]}, "each once"),
        ({"agents": {}}, "the number of agents must be"),
        ({"agents": {"a": 0}}, "the number of subagents of a"),
        ({"agents": ["no name"]}, "no agent can be called 'no name'"),
        ({"agents": ["controller-2"]}, "no agent can be called 'controller-2'"),
        ({"agents": {"a": Agents(directors=3)}}, "the number of directors of a"),
    ],
)
def test_a_cluster_that_can_not_be_is_refused_when_it_is_written(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Cluster(**fields)


@virtual
async def test_the_cluster_is_made_as_it_was_described() -> None:
    described = Cluster(
        controllers=2,
        agents={"a": 2, "b": 1},
        parallel_max=3,
        disks=DiskPace(fsync_ms_max=9.0),
        weather=Weather(latency_ms_max=7.0),
    )
    cluster = described.made(virtual_loop(), 5, jobs={"x": Duration()}, callables={})
    assert isinstance(cluster, SimCluster)
    assert cluster.names("controller", "agent") == ["controller", "controller-2", "a", "b"]
    assert cluster.names("subagent") == ["a-1", "a-2", "b-1"]
    assert cluster.nodes["a"].disk.pace.fsync_ms_max == 9.0
    assert cluster.network.weather.latency_ms_max == 7.0
    assert cluster.seed == 5
    assert cluster.directors == {}


@virtual
async def test_two_directors_are_a_pair_of_nodes() -> None:
    described = Cluster(agents={"a": Agents(subagents=1, directors=2), "b": 1})
    assert described.directors == ("a",)
    cluster = described.made(virtual_loop(), 5, jobs={}, callables={})
    assert list(cluster.directors) == ["a"]
    assert len(cluster.names("agent")) == 3


async def job(_: JobRun) -> None: ...


async def other_job(_: JobRun) -> None: ...


DIFFERENT: list[dict[str, Any]] = [
    {},
    {"cluster": Cluster(controllers=2)},
    {"cluster": Cluster(agents={"local": 2})},
    {"cluster": Cluster(agents=["b", "a"])},
    {"cluster": Cluster(agents=["a", "b"])},
    {"cluster": Cluster(disks=DiskPace(slow_rate=0.5))},
    {"faults": Faults(seconds=5)},
    {"faults": Faults(seconds=5, kinds={"pause": 1.0})},
    {"jobs": {"x": Duration()}},
    {"jobs": {"x": Duration(ms_max=1)}},
    {"jobs": {"x": Drawn(ms=Uniform(1, 2))}},
    {"jobs": {"x": Drawn(ms=Uniform(1, 3))}},
    {"jobs": {"x": job}},
    {"jobs": {"x": other_job}},
    {"work": "5 orders"},
]


def test_settings_that_draw_differently_have_different_digests() -> None:
    digests = [Settings(seeds=1, **fields).digest() for fields in DIFFERENT]
    assert len(set(digests)) == len(DIFFERENT)
    assert digests == [Settings(seeds=1, **fields).digest() for fields in DIFFERENT]


def test_what_draws_nothing_is_no_part_of_the_digest() -> None:
    assert Settings(seeds=1).digest() == Settings(seeds=99, may_rest=lambda _: True).digest()
    names, numbers = Cluster(agents=["a"]), Cluster(agents={"a": 1})
    assert Settings(seeds=1, cluster=names).digest() == Settings(seeds=1, cluster=numbers).digest()
