"""Lanes: what a simulated run looked like, as bars and points for each node. Floor 10.

* `Watch` looks on while the run lasts, at what no timeline says: which ways are cut, and when the register is away.
  Everything else is read afterwards: from the timeline, and from the truth about processes.
* Bounded: bars and points that say most are kept; what was left out is counted by its kind.
* Times are milliseconds of true virtual time since the cluster was made.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from engine.model import event as events
from engine.simulation.cluster import SimCluster
from engine.simulation.node import AGENT, CONTROLLER
from engine.simulation.simulation import Simulation
from engine.simulation.timeline import brief

ENTRIES_MAX = 20_000
TEXT_CHARS_MAX = 400
FAULTS, NETWORK, REGISTER = "faults", "network", "register"  # lanes that are no nodes
NS_PER_MS = 1_000_000

_PROCESS = re.compile(r"^(.+)#(\d+)$")
_ROLE = re.compile(r"^(\w+) → (\w+), epoch (\d+)$")
_ACTING = ("solo", "joining", "coupled")

# Kinds of points, those that say most first: when there are too many, the last ones are left out first.
POINTS = ("breach", "crash", "takeover", "fault", "start", "register", "event", "log")


class Bar(msgspec.Struct, array_like=True):
    """Something that lasted. `kind`: run, pause, role, acting, attempt, call, cut, clog, down."""

    start_ms: float
    end_ms: float
    kind: str
    label: str
    text: str


class Point(msgspec.Struct, array_like=True):
    """Something that happened. `kind`: one of POINTS."""

    at_ms: float
    kind: str
    text: str


class Lane(msgspec.Struct):
    """A node, or another place where things happen."""

    name: str
    role: str
    bars: list[Bar] = []
    points: list[Point] = []


class Story(msgspec.Struct):
    """A whole run, ready to be drawn. `left_out`: a sentence for each kind that is not there in full."""

    title: str
    subtitle: str
    found: list[str]
    end_ms: float
    lanes: list[Lane]
    left_out: list[str]


class Watch:
    """Looks on while a run lasts; call it with the simulation before it begins."""

    def __init__(self) -> None:
        self.bars: dict[str, list[Bar]] = {NETWORK: [], REGISTER: []}
        self._open: dict[tuple[str, str], tuple[float, str]] = {}  # lane and label → since when, kind

    def __call__(self, simulation: Simulation) -> None:
        cluster = self._cluster = simulation.cluster
        network = cluster.network
        for name in ("cut_one_way", "heal", "heal_between"):
            _after(network, name, self._look_at_network)
        _after(network, "clog", self._clogged)
        if cluster.pair is not None:
            register = cluster.pair.register
            for name in ("cut", "deafen", "heal"):
                _after(register, name, self._look_at_register)
            _after(register, "go_down", self._went_down)
            _after(register, "come_up", self._came_up)

    def _now_ms(self) -> float:
        timeline = self._cluster.lookout.timeline
        return (self._cluster.loop.now_ns - timeline.start_ns) / NS_PER_MS

    def _look_at_network(self, *_: Any) -> None:
        self._compare(NETWORK, "cut", {f"{source} → {target}" for source, target in self._cluster.network._cuts})

    def _clogged(self, source: str, target: str, span_ms: float) -> None:
        now, label = self._now_ms(), f"{source} → {target}"
        self.bars[NETWORK].append(Bar(now, now + span_ms, "clog", label, f"clogged {label} for {span_ms:.0f} ms"))

    def _look_at_register(self, *_: Any) -> None:
        assert self._cluster.pair is not None
        register = self._cluster.pair.register
        cuts = {f"register ↮ {asker}" for asker in register._cut}
        self._compare(REGISTER, "cut", cuts | {f"register → {asker}" for asker in register._deaf})

    def _went_down(self, span_ms: float) -> None:
        now = self._now_ms()
        self.bars[REGISTER].append(Bar(now, now + span_ms, "down", "register down", "the register answers nothing"))

    def _came_up(self) -> None:
        now = self._now_ms()
        for bar in self.bars[REGISTER]:
            if bar.kind == "down":
                bar.end_ms = min(bar.end_ms, now)

    def _compare(self, lane: str, kind: str, labels: set[str]) -> None:
        now = self._now_ms()
        for label in sorted(labels):
            self._open.setdefault((lane, label), (now, kind))
        for key in [one for one in self._open if one[0] == lane and one[1] not in labels]:
            self._close(key, now)

    def _close(self, key: tuple[str, str], end_ms: float) -> None:
        since, kind = self._open.pop(key)
        self.bars[key[0]].append(Bar(since, end_ms, kind, key[1], f"cut: {key[1]}"))

    def end(self) -> None:
        """Close what is still open."""
        for key in list(self._open):
            self._close(key, self._now_ms())


def _after(owner: Any, name: str, then: Callable[..., None]) -> None:
    """Call something with the same arguments after each call of a method."""
    method = getattr(owner, name)

    def called(*arguments: Any, **named: Any) -> Any:
        result = method(*arguments, **named)
        then(*arguments, **named)
        return result

    setattr(owner, name, called)


# --- afterwards -------------------------------------------------------------------------------------------------------


def story_of(
    simulation: Simulation, watch: Watch, found: Sequence[str], title: str, *, entries_max: int = ENTRIES_MAX
) -> Story:
    """Tell a run that has ended. `found`: what was wrong; `title`: which run it is."""
    cluster = simulation.cluster
    watch.end()
    timeline = cluster.lookout.timeline
    end_ms = (cluster.loop.now_ns - timeline.start_ns) / NS_PER_MS
    lanes = {FAULTS: Lane(FAULTS, "what the simulation did")}
    for name in cluster.names(CONTROLLER):
        lanes[name] = Lane(name, CONTROLLER)
    if cluster.pair is not None:
        lanes[REGISTER] = Lane(REGISTER, "register", watch.bars[REGISTER])
    lanes[NETWORK] = Lane(NETWORK, "ways that are cut or clogged", _both_ways(watch.bars[NETWORK]))
    for node in cluster.nodes.values():
        lanes.setdefault(node.name, Lane(node.name, node.role))
    reader = _Reader(lanes, end_ms)
    reader.read(timeline.entries())
    for name, bars in _attempts(cluster, timeline.start_ns, end_ms):
        lanes[name].bars += bars
    processes = {(group.order, group.attempt) for node in cluster.nodes.values() for group in node.machine.groups}
    for key, (subagent, bar) in reader.calls.items():
        if key not in processes and subagent in lanes:
            lanes[subagent].bars.append(bar)
    lanes[FAULTS].points += [Point(end_ms, "breach", _cut(one)) for one in found]
    gone = timeline.forgotten
    left_out = [f"the timeline had forgotten its first {gone:,} lines"] if gone else []
    left_out += _bound(list(lanes.values()), entries_max)
    faults = sum(simulation.storm.counts.values())
    subtitle = f"{end_ms / 1_000:.1f} virtual seconds, {faults} faults, {len(timeline)} lines of timeline"
    kept = [lane for lane in lanes.values() if lane.bars or lane.points or lane.name in cluster.nodes]
    return Story(title, subtitle, [_cut(one) for one in found], end_ms, kept, left_out)


class _Reader:
    """Reads a timeline into lanes."""

    def __init__(self, lanes: dict[str, Lane], end_ms: float) -> None:
        self._lanes = lanes
        self._end_ms = end_ms
        self._open: dict[tuple[str, str], Bar] = {}  # lane and what: run, pause, role
        self.calls: dict[tuple[str, int], tuple[str, Bar]] = {}  # order and attempt → subagent and bar

    def read(self, entries: Iterable[tuple[int, str, Any]]) -> None:
        for at_ns, where, what in entries:
            at_ms = at_ns / NS_PER_MS
            process = _PROCESS.match(where)
            name = (process[1] if process else where) or FAULTS
            lane = self._lanes.setdefault(name, Lane(name, ""))
            kind = self._kind(lane, at_ms, where, what)
            text = what if isinstance(what, str) else brief(what)
            lane.points.append(Point(at_ms, kind, _cut(f"{where}: {text}" if process else text)))

    def _kind(self, lane: Lane, at_ms: float, where: str, what: Any) -> str:
        """Say of which kind an entry is; open and close the bars it is about."""
        if not isinstance(what, str):
            self._call(lane, at_ms, what)
            acts = isinstance(what, events.EpochBegan) and lane.role == CONTROLLER
            return "takeover" if acts else "event"
        if lane.name == FAULTS:
            return "fault"
        if lane.name == REGISTER:
            return "register"
        if what == "process begins":
            self._begin(lane, "run", Bar(at_ms, self._end_ms, "run", where, f"{where} runs"))
            return "start"
        if what.startswith("crash"):
            for kind in ("run", "pause", "role"):
                self._end(lane, kind, at_ms)
            return "crash"
        if what.startswith(("process ends", "node ends")):
            return "crash"
        if what == "paused":
            self._begin(lane, "pause", Bar(at_ms, self._end_ms, "pause", "paused", f"{where} stands still"))
            return "fault"
        if what == "goes on":
            self._end(lane, "pause", at_ms)
            return "start"
        if role := _ROLE.match(what):
            self._end(lane, "role", at_ms)
            kind = "acting" if role[2] in _ACTING else "role"
            text = f"{lane.name} is {role[2]} in epoch {role[3]}"
            self._begin(lane, "role", Bar(at_ms, self._end_ms, kind, f"{role[2]} {role[3]}", text))
            return "takeover"
        return "log"

    def _call(self, lane: Lane, at_ms: float, event: Any) -> None:
        """Follow an attempt as its agent tells of it; a process is its own witness, a callable has no other."""
        if lane.role != AGENT:
            return
        if isinstance(event, events.AttemptAssigned):
            label = f"{event.order}/{event.attempt}"
            bar = Bar(at_ms, self._end_ms, "call", label, f"attempt {event.attempt} of {event.order}, a callable")
            self.calls[event.order, event.attempt] = (event.subagent, bar)
        elif isinstance(event, events.AttemptEnded) and (event.order, event.attempt) in self.calls:
            bar = self.calls[event.order, event.attempt][1]
            bar.end_ms, bar.text = at_ms, _cut(f"{bar.text}: {event.outcome}")

    def _begin(self, lane: Lane, kind: str, bar: Bar) -> None:
        self._end(lane, kind, bar.start_ms)
        self._open[lane.name, kind] = bar
        lane.bars.append(bar)

    def _end(self, lane: Lane, kind: str, at_ms: float) -> None:
        bar = self._open.pop((lane.name, kind), None)
        if bar is not None:
            bar.end_ms = at_ms


def _attempts(cluster: SimCluster, start_ns: int, end_ms: float) -> Iterator[tuple[str, list[Bar]]]:
    """Yield the processes that really ran, by the machine they ran on."""
    for node in cluster.nodes.values():
        bars = []
        for group in node.machine.groups:
            start = (group.started_ns - start_ns) / NS_PER_MS
            end = (group.ended_ns - start_ns) / NS_PER_MS if group.ended_ns else end_ms
            how = f"{group.how}, return code {group.code}" if group.ended_ns else "it runs"
            label = f"{group.label} {group.order}/{group.attempt}"
            text = f"attempt {group.attempt} of {group.order}, job {group.label}: {end - start:.0f} ms, {how}"
            bars.append(Bar(start, end, "attempt", label, _cut(text)))
        yield node.name, bars


def _both_ways(bars: Iterable[Bar]) -> list[Bar]:
    """Make one of two cuts that hold each other's direction at the same time."""
    kept: dict[tuple[float, float, str, str], Bar] = {}
    for bar in bars:
        source, _, target = bar.label.partition(" → ")
        back = kept.get((bar.start_ms, bar.end_ms, bar.kind, f"{target} → {source}"))
        if back is None:
            kept[bar.start_ms, bar.end_ms, bar.kind, bar.label] = bar
        else:
            back.label = f"{target} ↔ {source}"
            back.text = f"{back.kind}: {back.label}"
    return sorted(kept.values(), key=lambda one: (one.start_ms, one.label))


def _bound(lanes: Sequence[Lane], entries_max: int) -> list[str]:
    """Leave out what says least, the earliest first, until so many entries are left; say what was left out."""
    gone: Counter[str] = Counter()
    over = sum(len(lane.bars) + len(lane.points) for lane in lanes) - entries_max
    for kind in reversed(POINTS):
        if over <= 0:
            break
        of_kind = sorted(
            (point.at_ms, number) for number, lane in enumerate(lanes) for point in lane.points if point.kind == kind
        )
        until = of_kind[min(over, len(of_kind)) - 1][0] if of_kind else -1.0
        for lane in lanes:
            kept = [one for one in lane.points if one.kind != kind or one.at_ms > until]
            gone[kind] += len(lane.points) - len(kept)
            lane.points = kept
        over -= gone[kind]
    if over > 0:  # only bars are left
        ends = sorted(bar.end_ms for lane in lanes for bar in lane.bars)
        until = ends[min(over, len(ends)) - 1]
        for lane in lanes:
            kept_bars = [one for one in lane.bars if one.end_ms > until]
            gone["bar"] += len(lane.bars) - len(kept_bars)
            lane.bars = kept_bars
    return [f"the earliest {count:,} of kind “{kind}”" for kind, count in gone.items() if count]


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CHARS_MAX else f"{text[: TEXT_CHARS_MAX - 1]}…"
