"""Faults: what goes wrong in a simulated cluster, when, and how often, drawn from the seed. Floor 10.

* Phase 1, `Storm.rage`: faults at random instants; safety must hold all the while.
* Phase 2, `Storm.heal`: cuts are healed, clocks set right, everybody is started; then everything must come to rest.
* A run does not have every kind of fault: which ones, and how dense, is drawn too, so that some runs meet many of one.
"""

import asyncio
import errno
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

import msgspec

from engine.model import event as events
from engine.model.event import Event
from engine.model.order import OrderState
from engine.simulation.cluster import SimCluster
from engine.simulation.director_faults import DIRECTOR_FAULTS, DIRECTOR_WEIGHTS
from engine.simulation.disk import QUICK, DiskPace
from engine.simulation.network import CALM, Weather
from engine.simulation.node import AGENT, CLIENT, CONTROLLER, SUBAGENT
from engine.simulation.pair_faults import PAIR_FAULTS, PAIR_WEIGHTS, same_version
from engine.simulation.pair_losses import mend

WALL_JUMP_MS_MAX = 600_000
DRIFT_PPM_MAX = 500
PAUSE_NOTICED_MS = 3_500.0  # longer than three beats
BOOT_CRASH_RATE = 0.25  # of crashes that are followed by another one while the node boots again
BOOT_MS_MAX = 25.0
LOOPS_MAX = 7
LOOP_WAIT_MS_MAX = 400.0  # until the next start
LOOP_MS_MAX = 60.0  # until the next crash
SWIZZLE_STEP_MS_MAX = 2_500.0
AMBUSHES: tuple[type[Event], ...] = (
    events.OrderAdded,
    events.OrderAttaching,
    events.OrderAttached,
    events.OrderDetached,
    events.OrderForked,
    events.OrderJoined,
    events.OrderWaiting,
    events.OrderMarked,
    events.OrderCommanded,
    events.OrderHeld,
    events.OrderExpecting,
    events.AttemptAssigned,
    events.AttemptStarted,
    events.AttemptEnded,
    events.AttemptReleased,
    events.OrdersForgotten,
    events.AgentCoupled,
    events.SubagentCoupled,
    events.EpochBegan,
)


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """How wild it gets. `kinds`: name → weight (names of FAULTS); None: drawn from the seed.

    `ambushes` and `victims`: at which events the fault `ambush` crashes a node, and of which roles.
    """

    seconds: float = 20.0  # of phase 1
    every_ms_min: float = 50.0
    every_ms_max: float = 2_500.0
    kinds: dict[str, float] | None = None
    ambushes: tuple[type[Event], ...] = AMBUSHES
    victims: tuple[str, ...] = (CONTROLLER, AGENT, SUBAGENT)


NO_FAULTS = Faults(seconds=0.0)


class Storm:
    """The faults of one run."""

    def __init__(self, cluster: SimCluster, faults: Faults = NO_FAULTS) -> None:
        self.cluster = cluster
        self.random = Random(f"{cluster.seed}/faults")
        self.counts: dict[str, int] = {}
        self.faults = faults
        self.is_fallen = False  # the register of a pair has lost its state, and nobody has seeded it yet
        self._is_over = False
        self.ambushes: list[tuple[type[Event], str, float]] = []
        cluster.lookout.also(on_event=self._spring)
        self.kinds = dict(faults.kinds) if faults.kinds is not None else self._draw_kinds()
        self._pace_ms = self.random.uniform(faults.every_ms_min, faults.every_ms_max)

    def _draw_kinds(self) -> dict[str, float]:
        weights = WEIGHTS if self.cluster.pair is None else WEIGHTS | PAIR_WEIGHTS
        if self.cluster.directors:  # whose register a forced controller would be: that is a person's work
            weights = {name: weight for name, weight in weights.items() if name != "force"} | DIRECTOR_WEIGHTS
        chosen = {
            name: weight * self.random.uniform(0.2, 2) for name, weight in weights.items() if self.random.random() < 0.7
        }
        return chosen or dict(weights)

    @property
    def seconds(self) -> float:
        """How long phase 1 lasts."""
        return self.faults.seconds

    async def rage(self) -> None:
        """Cause faults for as long as phase 1 lasts; raises AssertionError as soon as a checker finds a breach."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.faults.seconds
        while loop.time() < end:
            await asyncio.sleep(min(self.random.expovariate(1 / self._pace_ms), 10 * self._pace_ms) / 1_000)
            self.cause(self.random.choices(list(self.kinds), list(self.kinds.values()))[0])
            self.cluster.raise_breaches()

    def cause(self, kind: str) -> bool:
        """Cause one fault of a kind now; False when there is nothing it could be done to (no pair, nobody up)."""
        if kind in DIRECTOR_FAULTS:
            done = DIRECTOR_FAULTS[kind](self, self.random.choice(list(self.cluster.directors.values())))
        else:
            done = PAIR_FAULTS[kind](self, self.cluster.pair) if kind in PAIR_FAULTS else FAULTS[kind](self)
        if done:
            self.counts[kind] = self.counts.get(kind, 0) + 1
        return done

    def _spring(self, _node: str, event: Event) -> None:
        for ambush in self.ambushes:
            kind, name, delay_ms = ambush
            if isinstance(event, kind) and self.cluster.nodes[name].process is not None:
                self.ambushes.remove(ambush)
                self.note(f"{name} is ambushed at {kind.__name__}")
                self.later(delay_ms, partial(self._strike, name))
                return

    def _strike(self, name: str) -> None:
        self.cluster.crash(name, notice=self.random.random() < 0.8)
        self.later(self.span_ms(4_000), partial(self.cluster.boot, name))

    def heal(self) -> None:
        """End all faults: what comes after this is good weather."""
        self._is_over = True
        self.ambushes.clear()
        cluster = self.cluster
        cluster.lookout.timeline.note("", "everything is healed")
        cluster.keep_up = True
        cluster.network.heal()
        cluster.network.weather = CALM
        if cluster.pair is not None:
            cluster.pair.heal()
            mend(self, cluster.pair)
            same_version(self, cluster.pair)
        for name, node in cluster.nodes.items():
            node.disk.pace, node.disk.fails_with = QUICK, 0
            node.machine.wall_offset_ms = 0
            cluster.drift(name, 0)
            cluster.resume(name)
            cluster.boot(name)

    # --- for the faults

    def pick(self, *roles: str) -> str:
        """Choose a node of these roles."""
        return self.random.choice(self.cluster.names(*roles))

    def controller(self) -> str:
        """Choose a controller."""
        return CONTROLLER if self.cluster.pair is None else self.pick(CONTROLLER)

    def span_ms(self, most_ms: float) -> float:
        """Draw a span: mostly short, sometimes long."""
        return most_ms * self.random.random() ** 2

    def later(self, delay_ms: float, act: Callable[[], object]) -> None:
        """Do something in phase 1; once it is healed, the healing has done it."""

        def in_time() -> None:
            if not self._is_over:
                act()

        self.cluster.nodes[CONTROLLER].machine.later(delay_ms, in_time)

    def note(self, sentence: str) -> bool:
        """Write a fault into the timeline."""
        self.cluster.lookout.timeline.note("", sentence)
        return True


# --- nodes ------------------------------------------------------------------------------------------------------------


def _crash_of(roles: Sequence[str], *, notice: bool = True) -> Callable[[Storm], bool]:
    def crash(storm: Storm) -> bool:
        name = storm.pick(*roles)
        if storm.cluster.nodes[name].process is None:
            return False
        storm.cluster.crash(name, notice=notice)
        down_ms = storm.span_ms(8_000)
        storm.later(down_ms, partial(storm.cluster.boot, name))
        if storm.random.random() < BOOT_CRASH_RATE:
            storm.later(
                down_ms + storm.random.uniform(0, BOOT_MS_MAX), partial(storm.cluster.crash, name, notice=notice)
            )
            storm.later(down_ms + 2_000, partial(storm.cluster.boot, name))
        return True

    return crash


def _stop(storm: Storm) -> bool:
    """End a node by its own close."""
    name, cluster = storm.pick(CONTROLLER, AGENT, SUBAGENT), storm.cluster
    if not cluster.is_up(name):
        return False
    cluster.stop_soon(name)
    storm.later(1_000 + storm.span_ms(4_000), lambda: cluster.boot(name))
    return True


def _pause(storm: Storm) -> bool:
    name, cluster = storm.pick(CONTROLLER, AGENT, SUBAGENT), storm.cluster
    if not cluster.is_up(name):
        return False
    span_ms = storm.span_ms(9_000)
    cluster.pause(name)
    cluster.lookout.sometimes("node: paused", span_ms > PAUSE_NOTICED_MS)
    storm.later(span_ms, lambda: cluster.resume(name))
    return True


def _mistake(storm: Storm) -> bool:
    """Let a node end by itself, as a mistake of ours would."""
    return storm.cluster.fail(storm.pick(CONTROLLER, AGENT, SUBAGENT))


def _ambush(storm: Storm) -> bool:
    """Crash a node in the moment in which the next event of some kind has become durable on it or on its peer."""
    kind, name = storm.random.choice(storm.faults.ambushes), storm.pick(*storm.faults.victims)
    delay_ms = storm.random.choice((0.0, 0.0, storm.random.uniform(0, 6)))
    storm.ambushes.append((kind, name, delay_ms))
    return True


def _restart_loop(storm: Storm) -> bool:
    """Let a node be started again and again, and crash each time before or soon after it is there."""
    name, rounds = storm.pick(CONTROLLER, AGENT, SUBAGENT), storm.random.randint(3, LOOPS_MAX)

    def again(left: int) -> None:
        cluster = storm.cluster
        cluster.lookout.sometimes("node: restart loop", not left and not cluster.is_up(name))
        cluster.crash(name, notice=storm.random.random() < 0.5)
        if left:
            storm.later(storm.span_ms(LOOP_WAIT_MS_MAX), partial(cluster.boot, name))
            storm.later(LOOP_WAIT_MS_MAX + storm.random.uniform(0, LOOP_MS_MAX), partial(again, left - 1))
        else:
            storm.later(storm.span_ms(3_000), partial(cluster.boot, name))

    again(rounds)
    return storm.note(f"{name} crashes {rounds} times while it boots")


def _guard_crash(storm: Storm) -> bool:
    return storm.cluster.crash_guard(storm.pick(SUBAGENT))


def _reboot(storm: Storm) -> bool:
    name = storm.pick(SUBAGENT, SUBAGENT, AGENT, CONTROLLER)
    storm.cluster.reboot(name)
    storm.later(500 + storm.span_ms(8_000), lambda: storm.cluster.boot(name))
    return True


def _clock(storm: Storm) -> bool:
    name, cluster = storm.pick(CONTROLLER, AGENT, SUBAGENT), storm.cluster
    offset_ms = storm.random.randint(-WALL_JUMP_MS_MAX, WALL_JUMP_MS_MAX)
    loop = cluster.nodes[name].loop
    waits = loop is not None and any(one.state is OrderState.WAITING for one in loop.state.orders.values())
    cluster.lookout.sometimes("clock: jumped back", waits and offset_ms < cluster.nodes[name].machine.wall_offset_ms)
    cluster.nodes[name].machine.wall_offset_ms = offset_ms
    storm.later(storm.span_ms(10_000), lambda: setattr(cluster.nodes[name].machine, "wall_offset_ms", 0))
    return storm.note(f"the wall clock of {name} is set wrong by {offset_ms} ms")


def _drift(storm: Storm) -> bool:
    name, ppm = storm.pick(CONTROLLER, AGENT, SUBAGENT), storm.random.randint(-DRIFT_PPM_MAX, DRIFT_PPM_MAX)
    storm.cluster.drift(name, ppm)
    return storm.note(f"the clock of {name} drifts by {ppm} ppm")


# --- disks ------------------------------------------------------------------------------------------------------------


def _disk_fault(storm: Storm) -> bool:
    name = storm.pick(CONTROLLER, AGENT)
    number = storm.random.choice((errno.EIO, errno.ENOSPC))
    storm.cluster.nodes[name].disk.fails_with = number
    return storm.note(f"the disk of {name} is going to fail with {errno.errorcode[number]}")


def _slow_disk(storm: Storm) -> bool:
    name = storm.pick(CONTROLLER, AGENT)
    disk = storm.cluster.nodes[name].disk
    disk.pace = DiskPace(fsync_ms_min=5, fsync_ms_max=100, slow_rate=0.1, slow_ms_max=3_000)
    storm.later(storm.span_ms(6_000), lambda: setattr(disk, "pace", QUICK))
    return storm.note(f"the disk of {name} is slow")


def _snapshot(storm: Storm) -> bool:
    return storm.cluster.snapshot_soon(storm.pick(CONTROLLER, AGENT))


# --- the network ------------------------------------------------------------------------------------------------------


def _pair(storm: Storm) -> tuple[str, str]:
    """Two nodes that speak with each other."""
    kind = storm.random.randrange(4)
    if kind == 0:
        return CLIENT, storm.controller()
    if kind == 1:
        return storm.controller(), storm.pick(AGENT)
    agent = storm.pick(AGENT)
    return agent, storm.random.choice(storm.cluster.subagents(agent))


def _cut(storm: Storm) -> bool:
    first, second = _pair(storm)
    network, span_ms = storm.cluster.network, storm.span_ms(9_000)
    if storm.random.random() < 0.5:
        network.cut(first, second)
        storm.note(f"cut between {first} and {second} for {span_ms:.0f} ms")
    else:
        source, target = (first, second) if storm.random.random() < 0.5 else (second, first)
        network.cut_one_way(source, target)
        storm.note(f"cut from {source} to {target} for {span_ms:.0f} ms")
    storm.later(span_ms, lambda: network.heal_between(first, second))
    return True


def _partition(storm: Storm) -> bool:
    names = [*storm.cluster.nodes, CLIENT]
    storm.random.shuffle(names)
    count = storm.random.randint(1, len(names) - 1)
    one_side, other_side, span_ms = names[:count], names[count:], storm.span_ms(9_000)
    storm.cluster.network.partition(one_side, other_side)
    storm.later(span_ms, storm.cluster.network.heal)
    return storm.note(f"partition {' '.join(one_side)} | {' '.join(other_side)} for {span_ms:.0f} ms")


def _clog(storm: Storm) -> bool:
    first, second = _pair(storm)
    span_ms = storm.span_ms(4_000)
    storm.cluster.network.clog(*storm.random.choice(((first, second), (second, first))), span_ms)
    return storm.note(f"clog at {first} and {second} for {span_ms:.0f} ms")


def _reset(storm: Storm) -> bool:
    first, second = _pair(storm)
    broken = storm.cluster.network.reset(first, second)
    return bool(broken) and storm.note(f"{broken} connections between {first} and {second} are reset")


def _half_open(storm: Storm) -> bool:
    first, second = storm.random.sample(_pair(storm), 2)
    broken = storm.cluster.network.half_open(first, second)
    storm.cluster.lookout.sometimes("link: half-open", broken)
    return bool(broken) and storm.note(f"{broken} connections of {second} with {first} are half-open")


def _swizzle(storm: Storm) -> bool:
    """Cut some nodes off from all others, one by one, and heal them one by one in another order."""
    names = [*storm.cluster.nodes, CLIENT]
    chosen = storm.random.sample(names, storm.random.randint(2, len(names)))
    network, at_ms = storm.cluster.network, 0.0
    for name in chosen:
        storm.later(at_ms, partial(network.partition, [name], [one for one in names if one != name]))
        at_ms += storm.span_ms(SWIZZLE_STEP_MS_MAX)
    for name in storm.random.sample(chosen, len(chosen)):
        at_ms += storm.span_ms(SWIZZLE_STEP_MS_MAX)
        storm.later(at_ms, partial(_join_again, storm, name, names))
    storm.later(at_ms, partial(storm.cluster.lookout.sometimes, "network: swizzled"))
    return storm.note(f"{' '.join(chosen)} are cut off one by one")


def _join_again(storm: Storm, name: str, names: Sequence[str]) -> None:
    for other in names:
        if other != name:
            storm.cluster.network.heal_between(name, other)


def _weather(storm: Storm) -> bool:
    draw = storm.random.random
    storm.cluster.network.weather = Weather(
        latency_ms_max=0.3 + storm.span_ms(100),
        tail_rate=draw() * 0.1,
        tail_ms_max=storm.span_ms(2_000),
        reset_rate=draw() ** 3 * 0.02,
        straggle_rate=draw(),
    )
    storm.later(storm.span_ms(8_000), lambda: setattr(storm.cluster.network, "weather", CALM))
    return storm.note("the weather gets bad")


FAULTS: dict[str, Callable[[Storm], bool]] = {
    "crash controller": _crash_of((CONTROLLER,)),
    "crash agent": _crash_of((AGENT,)),
    "crash subagent": _crash_of((SUBAGENT,)),
    "lose machine": _crash_of((CONTROLLER, AGENT, SUBAGENT), notice=False),
    "stop": _stop,
    "pause": _pause,
    "mistake": _mistake,
    "ambush": _ambush,
    "restart loop": _restart_loop,
    "guard crash": _guard_crash,
    "reboot": _reboot,
    "clock": _clock,
    "drift": _drift,
    "disk fault": _disk_fault,
    "slow disk": _slow_disk,
    "snapshot": _snapshot,
    "cut": _cut,
    "partition": _partition,
    "clog": _clog,
    "reset": _reset,
    "half open": _half_open,
    "swizzle": _swizzle,
    "weather": _weather,
}

WEIGHTS: dict[str, float] = {
    "crash controller": 3,
    "crash agent": 4,
    "crash subagent": 4,
    "lose machine": 2,
    "stop": 1,
    "pause": 3,
    "mistake": 1,
    "ambush": 8,
    "restart loop": 1,
    "guard crash": 2,
    "reboot": 2,
    "clock": 1,
    "drift": 0.5,
    "disk fault": 1,
    "slow disk": 1,
    "snapshot": 2,
    "cut": 4,
    "partition": 1,
    "clog": 2,
    "reset": 4,
    "half open": 2,
    "swizzle": 1,
    "weather": 1,
}
