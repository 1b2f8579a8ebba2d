"""Faults of two directors: what happens to them, between them, and between them and the controllers. Floor 10.

* What needs nothing of a pair but its nodes is the controllers' fault, done to directors.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from engine.simulation.director_pairs import SimDirectors
from engine.simulation.pair_faults import PAIR_FAULTS
from engine.simulation.pair_moments import Storm, crash, span_ms

CUT_MS_MAX = 12_000.0
BORROWED = {
    "crash active": 4.0,
    "crash standby": 2.0,
    "crash joining": 2.0,
    "crash both": 1.0,
    "pause active": 3.0,
    "cut pair": 4.0,
    "clog pair": 2.0,
    "reset pair": 1.0,
    "hung disk": 1.0,
    "snapshot alone": 2.0,
    "half open pair": 1.0,
    "clocks apart": 1.0,
}

DirectorFault = Callable[[Storm, SimDirectors], bool]


def _cut_register(storm: Storm, pair: SimDirectors) -> bool:
    """Cut one director, or both, from all controllers."""
    names = pair.names if storm.random.random() < 0.5 else (storm.random.choice(pair.names),)
    network, lasts_ms = storm.cluster.network, span_ms(storm, CUT_MS_MAX)
    network.partition(list(names), list(storm.cluster.controllers))
    for name in names:
        for controller in storm.cluster.controllers:
            storm.later(lasts_ms, partial(network.heal_between, name, controller))
    return storm.note(f"{' and '.join(names)} cut from the controllers for {lasts_ms:.0f} ms")


def _zone(storm: Storm, pair: SimDirectors) -> bool:
    """A zone dies: who leads, and who directs."""
    acting, director = storm.cluster.acting, pair.acting()
    if acting is None or director is None:
        return False
    done = [crash(storm, node.name, notice=storm.random.random() < 0.5) for node in (acting, director)]
    pair.sometimes("a zone died")
    return all(done)


def _machine(storm: Storm, pair: SimDirectors) -> bool:
    """The machine of the acting director dies, with a subagent on it: guard and processes end at once."""
    director, place = pair.acting(), storm.random.choice(storm.cluster.subagents(pair.agent))
    if director is None or storm.cluster.nodes[place].process is None:
        return False
    storm.cluster.reboot(place)
    storm.later(span_ms(storm, 8_000), lambda: storm.cluster.boot(place))
    pair.sometimes("its machine died with a subagent")
    return crash(storm, director.name, notice=False)


def _empty_disk(storm: Storm, pair: SimDirectors) -> bool:
    """Put an empty disk in place of one (R16); not while it may be the only one with everything."""
    if not pair.is_at_rest():
        return False
    name = storm.random.choice(pair.names)
    storm.cluster.crash(name)
    storm.cluster.nodes[name].disk.replace()
    storm.later(span_ms(storm, 6_000), lambda: storm.cluster.boot(name))
    return storm.note(f"the disk of {name} is replaced by an empty one")


def _switch_over(storm: Storm, pair: SimDirectors) -> bool:
    return pair.switch_over() and storm.note(f"a switch-over of {pair.agent} is asked for")


def _lone_active(storm: Storm, pair: SimDirectors) -> bool:
    """Cut the acting director from the other one and from the controllers: only its subagents hear it."""
    director = pair.acting()
    if director is None:
        return False
    others = [pair.other(director.name), *storm.cluster.controllers]
    network, lasts_ms = storm.cluster.network, span_ms(storm, CUT_MS_MAX)
    network.partition([director.name], others)
    for other in others:
        storm.later(lasts_ms, partial(network.heal_between, director.name, other))
    return storm.note(f"{director.name} reaches only its subagents for {lasts_ms:.0f} ms")


def _borrowed(name: str) -> DirectorFault:
    fault: Any = PAIR_FAULTS[name]
    return lambda storm, pair: bool(fault(storm, pair))


DIRECTOR_FAULTS: dict[str, DirectorFault] = {
    **{f"directors: {name}": _borrowed(name) for name in BORROWED},
    "directors: cut register": _cut_register,
    "directors: zone": _zone,
    "directors: machine": _machine,
    "directors: empty disk": _empty_disk,
    "directors: switch over": _switch_over,
    "directors: lone active": _lone_active,
}

DIRECTOR_WEIGHTS: dict[str, float] = {
    **{f"directors: {name}": weight for name, weight in BORROWED.items()},
    "directors: cut register": 3,
    "directors: zone": 2,
    "directors: machine": 2,
    "directors: empty disk": 2,
    "directors: switch over": 3,
    "directors: lone active": 3,
}
