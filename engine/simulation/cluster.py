"""SimCluster: a controller, agents, subagents and a client in one virtual loop, each on a machine of its own. Floor 10.

* The nodes are booted by engine.boot and kept by the real Supervisor; only their World is simulated.
* A node's name stays, each of its processes is a lane of the loop: `a#1`, `a#2`, … A crash ends the lane, not the name.
* Call everything here from outside of the nodes. What a node is asked to do runs in its own lane.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any

from engine.base.ids import AgentId, SubagentId
from engine.base.problem import EngineClosed
from engine.base.tasks import TaskScope
from engine.boot import boot_agent, boot_controller, boot_subagent
from engine.client.client import Client
from engine.language import standard_language
from engine.model.item import AgentItem, SubagentItem
from engine.model.language import Language
from engine.ports import Machine, StoreFault
from engine.rules.agent import AgentMachine
from engine.rules.controller import ControllerMachine
from engine.runtime.supervisor import SteppedDown, Supervisor
from engine.simulation.director_pairs import SimDirectors, names_of
from engine.simulation.disk import QUICK, DiskPace, SimDisk
from engine.simulation.leftovers import leftovers
from engine.simulation.loop import NODE, VirtualLoop
from engine.simulation.modelled_jobs import JobModel
from engine.simulation.network import CALM, SimNetwork, Weather
from engine.simulation.node import (
    AGENT,
    CLIENT,
    CONTROLLER,
    SUBAGENT,
    PlantedMistake,
    SimNode,
    SimProcess,
)
from engine.simulation.observe import Lookout
from engine.simulation.pairs import SECOND, SimPair
from engine.simulation.people import People, Result
from engine.simulation.processes import SimMachine
from engine.simulation.trimming import keep_journal
from engine.simulation.watched_pair import WatchedPair
from engine.simulation.world import SimClock, SimWorld

CLUSTER = "simulated"
RESTART_MS = 2_000.0  # after which a node that gave up, or could not boot, is started again from outside
SUBAGENT_PARALLEL_MAX = 8

EXPECTED_ENDS = (StoreFault, PlantedMistake, SteppedDown)  # of a node by itself; anything else is a mistake of ours


class SimCluster(People):
    """A whole cluster. `await start()` boots it, `await close()` ends it without a fault."""

    def __init__(
        self,
        loop: VirtualLoop,
        seed: int,
        *,
        controllers: int = 1,
        agents: Mapping[str, int] | None = None,
        directors: Sequence[str] = (),
        jobs: Mapping[str, JobModel] | None = None,
        callables: Mapping[str, Callable[..., Any]] | None = None,
        weather: Weather = CALM,
        disks: DiskPace = QUICK,
        language: Language | None = None,
        parallel_max: int = SUBAGENT_PARALLEL_MAX,
    ) -> None:
        """`agents`: name → number of subagents. `jobs`: label → model (`*`: the others). `callables`: for python jobs.

        `controllers`: 2 are a pair. `directors`: agents with two directors. `parallel_max`: how many attempts each
        subagent may run at once.
        """
        super().__init__()
        self.seed = seed
        self.loop = loop
        self.language = language or standard_language()
        self.network = SimNetwork(Random(f"{seed}/network"), weather)
        self.nodes: dict[str, SimNode] = {}
        self.agents = dict(agents if agents is not None else {"local": 1})
        self.client: Client
        self.keep_up = False  # whether every node that goes down is started again
        self._jobs = dict(jobs or {})
        self._callables = callables if callables is not None else {}  # looked at for each attempt
        self._parallel_max = parallel_max
        self._agent_of = {f"{agent}-{one + 1}": agent for agent, count in self.agents.items() for one in range(count)}
        self.controllers = (CONTROLLER, SECOND)[:controllers]
        self.agent_nodes = {agent: names_of(agent) if agent in directors else (agent,) for agent in self.agents}
        pair_of = {name: agent for agent in directors for name in self.agent_nodes[agent]}
        pair_of |= dict.fromkeys(self.controllers, CONTROLLER) if controllers > 1 else {}
        self.lookout = Lookout(
            self.language, lambda: loop.now_ns, self._agent_of.get, self.is_up, self.controllers, pair_of
        )
        self.lookout.is_served = self.is_served
        self.on_answered = partial(self.lookout.ledger.shown, CONTROLLER)
        for name in self.controllers:
            self._add(name, CONTROLLER, disks)
        for names in self.agent_nodes.values():
            for name in names:
                self._add(name, AGENT, disks)
        for subagent in self._agent_of:
            self._add(subagent, SUBAGENT, disks)
        self.pair = None if controllers == 1 else SimPair(seed, CLUSTER, self.nodes, self.lookout, loop)
        if self.pair is not None:
            self.on_answered = self.pair.book.shown
        self.directors = {
            agent: SimDirectors(agent, CLUSTER, self.nodes, self.controllers, self.lookout, loop) for agent in directors
        }
        self._client_node = SimNode(CLIENT, CLIENT, self._machine(CLIENT), SimDisk(Random(f"{seed}/disk/client")))
        self._closing = False
        self._scope = TaskScope("cluster", self._failed)
        loop.set_exception_handler(self._complain)
        loop.on_log = self.lookout.timeline.note

    def _failed(self, error: BaseException) -> None:
        self.lookout.breaches.tell(f"the simulation's own work failed: {type(error).__name__}: {error}")

    def _complain(self, _loop: Any, context: dict[str, Any]) -> None:
        error, handle = context.get("exception"), context.get("handle")
        home = (
            getattr(context.get("task") or context.get("future"), "home", None) if handle is None else handle._context
        )
        node = NODE.get() if home is None else home.get(NODE, "")
        text = "" if error is None else f": {type(error).__name__}: {error}"
        self.lookout.breaches.tell(f"{node or 'the environment'}: {context.get('message')}{text}")

    def _add(self, name: str, role: str, disks: DiskPace) -> None:
        disk = SimDisk(Random(f"{self.seed}/disk/{name}"), disks, partial(self.lookout.durable, name))
        self.nodes[name] = SimNode(name, role, self._machine(name), disk)

    def _machine(self, name: str) -> SimMachine:
        random = Random(f"{self.seed}/machine/{name}")
        machine = SimMachine(name, self.loop, random, self._jobs, self.lookout.timeline.note)
        machine.on_begun, machine.on_exited = self.lookout.begun, self.lookout.exited
        return machine

    def machine_for(self, role: str, node: str) -> Machine[Any, Any, Any, Any]:
        """Return fresh rules of a node with a journal."""
        if role == CONTROLLER:
            return ControllerMachine(self.language)
        return AgentMachine(self.language, AgentId(self.agent_of_director(node)))

    def agent_of_director(self, node: str) -> str:
        """Return which agent a director's node serves."""
        return next(agent for agent, names in self.agent_nodes.items() if node in (agent, *names))

    # --- accessors ----------------------------------------------------------------------------------------------------

    def is_up(self, name: str) -> bool:
        """Tell whether a node has booted and is neither down nor paused."""
        node = self.nodes[name]
        return node.actor is not None and not node.paused

    def names(self, *roles: str) -> list[str]:
        """The names of all nodes of these roles."""
        return [name for name, node in self.nodes.items() if node.role in roles]

    def subagents(self, agent: str) -> list[str]:
        """The names of an agent's subagents; a director's node serves as well as the agent's name."""
        return [name for name, owner in self._agent_of.items() if owner == self.agent_of_director(agent)]

    def agent_node(self, agent: str) -> SimNode | None:
        """The node at which an agent acts; None while none does."""
        if agent in self.directors:
            return self.directors[agent].acting()
        node = self.nodes[agent]
        return None if node.loop is None else node

    def pairs(self) -> list[WatchedPair]:
        """All pairs: of controllers, and of directors."""
        return [*([] if self.pair is None else [self.pair]), *self.directors.values()]

    def pair_with(self, name: str) -> WatchedPair | None:
        """The pair that a node is of, if it is of one."""
        return next((pair for pair in self.pairs() if name in pair.names), None)

    def state(self, name: str) -> Any:
        """The live state of a controller or agent; raises LookupError while it is down."""
        node = self.agent_node(name) if name in self.directors else self.nodes[name]
        loop = None if node is None else node.loop
        if loop is None:
            raise LookupError(f"{name} is down or has no state")
        return loop.state

    @property
    def acting(self) -> SimNode | None:
        """The controller that serves: of a pair the one that acts. None while there is none."""
        if self.pair is not None:
            return self.pair.acting()
        node = self.nodes[CONTROLLER]
        return None if node.loop is None else node

    def is_served(self) -> bool:
        """Tell whether a controller acts and is not paused."""
        return self.acting is not None and not self.acting.paused

    @property
    def controller_state(self) -> Any:
        """The live state of the controller that serves; raises LookupError while there is none."""
        if self.acting is None:
            raise LookupError("no controller serves")
        return self.acting.loop.state

    @property
    def breaches(self) -> list[str]:
        """What the checkers found so far."""
        return self.lookout.breaches

    def raise_breaches(self) -> None:
        """Raise AssertionError with everything the checkers found, if anything."""
        found = [*self.breaches, *(f"escape: {one}" for one in self.loop.escapes)]
        if found:
            raise AssertionError("\n".join(found))

    # --- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Boot all nodes, connect the client, and make agents and subagents known."""
        for name in self.nodes:
            self.boot(name)
        await self.until(lambda: all(node.actor is not None for node in self.nodes.values()), "all nodes are booted")
        if self.pair is not None:
            await self.pair.initialize()
        self._begin_process(self._client_node)
        await self.in_client(self._open_client())
        for agent, names in self.agent_nodes.items():
            url, *others = (self.nodes[one].url for one in names)
            await self.change_item(AgentItem(AgentId(agent), url, standby_url=next(iter(others), None)))
        for directors in self.directors.values():
            await self.in_client(directors.initialize(self._world(self._client_node), self._failed))
        for subagent, agent in self._agent_of.items():
            url = self.nodes[subagent].url
            await self.change_item(SubagentItem(SubagentId(subagent), AgentId(agent), url, self._parallel_max))

    async def _open_client(self) -> None:
        world = self._world(self._client_node)
        self.client = Client(world, tuple(self.nodes[one].url for one in self.controllers), CLUSTER, self.language)
        await self.client.open()

    async def close(self) -> None:
        """End the client and all nodes that run, each by its own close; nodes that are down stay so."""
        self._closing = True
        for asking in list(self.pending):
            asking.cancel()
        await self.in_client(self.client.close("the simulation ends"))
        for name in reversed(self.nodes):
            await self.stop(name)
        await self._scope.close()

    def boot(self, name: str) -> None:
        """Start a node's next process; returns before it has booted. Nothing happens when one is there."""
        node = self.nodes[name]
        if node.process is None and not self._closing:
            process = self._begin_process(node)
            self.lookout.timeline.note(process.lane, "process begins")
            self._in_lane(process.lane, self._live(node, process), "boot")

    def _begin_process(self, node: SimNode) -> SimProcess:
        node.number += 1
        node.paused = False
        node.process = SimProcess(f"{node.name}#{node.number}")
        if node.drift_ppm:
            self.loop.drift(node.process.lane, node.drift_ppm)
        return node.process

    def _in_lane(self, lane: str, work: Coroutine[Any, Any, Result], name: str) -> "asyncio.Task[Result]":
        return self.loop.create_task(work, name=f"{lane} {name}", context=self.loop.context_of(lane))

    async def _live(self, node: SimNode, process: SimProcess) -> None:
        clock = SimClock(self.loop, node.machine)

        def given_up(error: BaseException) -> None:
            self._ended(node, process, f"given up: {error}")

        process.supervisor = Supervisor(node.name, partial(self._boot, node, process), clock, given_up)
        try:
            await process.supervisor.start()
        except Exception as error:  # noqa: BLE001 - whatever keeps a node from booting, it is tried again later
            if not isinstance(error, (*EXPECTED_ENDS, EngineClosed)):
                self.lookout.breaches.tell(f"{process.lane} could not boot: {type(error).__name__}: {error}")
            self._ended(node, process, f"could not boot: {type(error).__name__}: {error}")
        else:
            process.booted = True

    async def _boot(self, node: SimNode, process: SimProcess, on_closed: Callable[[BaseException], None]) -> Any:
        node.restarts += bool(process.worlds)
        self.lookout.sometimes("node: restarted by supervisor", process.worlds)
        world = self._world(node)

        def closed(error: BaseException) -> None:
            self.lookout.timeline.note(process.lane, f"node ends: {type(error).__name__}: {error}")
            self.lookout.sometimes("disk: fault", isinstance(error, StoreFault))
            if not isinstance(error, EXPECTED_ENDS):
                self.lookout.breaches.tell(f"{process.lane} ended by {type(error).__name__}: {error}")
            on_closed(error)

        role, url, language = node.role, node.url, self.language
        image, adopted = node.disk.image, node.machine.counts["adopted"]
        self.lookout.sometimes("disk: snapshot", image.saved is not None and image.tip.index > image.saved.index)
        try:
            if role == CONTROLLER and self.pair is not None:
                return await self.pair.boot(world, node, closed, language)
            if role == CONTROLLER:
                controller = await boot_controller(world, url, CLUSTER, closed, language)
                self.lookout.watch_controller(controller)
                self.lookout.watch_feed(CONTROLLER, controller.feed, node.disk.image.records)
                return controller
            if role == AGENT and self.pair_with(node.name) is not None:
                return await self.directors[self.agent_of_director(node.name)].boot(world, node, closed, language)
            if role == AGENT:
                agent = await boot_agent(world, url, CLUSTER, closed, language)
                self.lookout.watch_agent(agent.agent)
                return agent
            subagent = await boot_subagent(world, url, CLUSTER, closed, self._callables, language)
            self.lookout.watch_subagent(subagent, lambda: node.disk.image.cells)
            self.lookout.sometimes("process: adopted", node.machine.counts["adopted"] > adopted)
            return subagent
        except BaseException as error:
            world.revoke(str(error))
            raise

    def _world(self, node: SimNode) -> SimWorld:
        assert node.process is not None
        breach = lambda sentence: self.lookout.breaches.tell(f"S10: {sentence}")
        world = SimWorld(
            node.name,
            lane=node.process.lane,
            loop=self.loop,
            network=self.network,
            machine=node.machine,
            disk=node.disk,
            machine_for=self.machine_for,
            on_breach=breach,
        )
        node.process.worlds.append(world)
        return world

    def _ended(self, node: SimNode, process: SimProcess, reason: str) -> None:
        """A process has ended by itself: what was not fsynced may be lost; it is started again after a while."""
        self.lookout.timeline.note(process.lane, f"process ends: {reason}")
        process.gone.set()
        node.machine.later(0, self._bury, node, process)

    def _bury(self, node: SimNode, process: SimProcess) -> None:
        if node.process is process:
            self.crash(node.name)
            if not self.keep_up:
                node.machine.later(RESTART_MS, self.boot, node.name)

    # --- faults -------------------------------------------------------------------------------------------------------

    def crash(self, name: str, *, notice: bool = True) -> None:
        """End a node's process at once, as kill -9 does; without `notice` its peers hear nothing of it."""
        node = self.nodes[name]
        process, node.process = node.process, None
        if process is None:
            return
        self.lookout.timeline.note(process.lane, f"crash{'' if notice else ' without notice'}")
        if process.actor is not None and (pair := self.pair_with(name)) is not None:
            pair.look_at_crash(process.actor)
        self.lookout.look_at_crash(node, process, None if self.acting is None else self.acting.loop.state)
        self.loop.crash(process.lane)
        for world in process.worlds:
            world.end("the node crashed", notice=notice)
        self.network.drop_node(name, notice=notice)
        process.gone.set()
        if node.role != CLIENT:
            lost, kept, torn = (node.disk.counts[one] for one in ("lost_writes", "kept_writes", "torn_writes"))
            node.disk.lose_power()
            self.lookout.sometimes("disk: tail lost", node.disk.counts["lost_writes"] > lost)
            self.lookout.sometimes("disk: tail kept", node.disk.counts["kept_writes"] > kept)
            self.lookout.sometimes("disk: tail torn", node.disk.counts["torn_writes"] > torn)
            self.lookout.ledger.lost_power(name, node.disk.image.tip.index)
        if self.keep_up:
            node.machine.later(RESTART_MS, self.boot, name)

    def look_around(self) -> None:
        """Look at all nodes that run for what is worth remembering."""
        for node in self.nodes.values():
            if node.acting is not None:
                self.lookout.look_around(node.role, node.acting)

    def pause(self, name: str) -> None:
        """Stop a node as SIGSTOP does."""
        node = self.nodes[name]
        if node.process is not None and not node.paused:
            node.paused = True
            self.lookout.timeline.note(node.process.lane, "paused")
            self.loop.pause(node.process.lane)

    def resume(self, name: str) -> None:
        """Let a paused node go on."""
        node = self.nodes[name]
        if node.process is not None and node.paused:
            node.paused = False
            self.lookout.timeline.note(node.process.lane, "goes on")
            self.loop.resume(node.process.lane)

    async def stop(self, name: str) -> None:
        """End a node's process by its own close, as SIGTERM does; a paused one goes on first."""
        node = self.nodes[name]
        self.resume(name)
        process = node.process
        if process is None:
            return
        self.lookout.timeline.note(process.lane, "is stopped")
        if not process.booted:
            self.crash(name)
            return
        assert process.supervisor is not None
        closing = self._in_lane(process.lane, process.supervisor.close("it was stopped"), "close")
        await self._or_gone(closing, process)
        if node.process is process:
            for sentence in leftovers(self.loop, process.lane):
                self.lookout.breaches.tell(f"L5: {sentence}")
            self.crash(name)

    async def _or_gone(self, work: "asyncio.Task[Result]", process: SimProcess) -> Result | None:
        """Wait for what runs in a lane, or until that lane is dead."""
        gone = self.loop.create_task(process.gone.wait())
        try:
            await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
        return work.result() if work.done() else None

    def stop_soon(self, name: str) -> None:
        """Begin to stop a node, without waiting for it."""
        self._scope.start(self.stop(name), f"stop {name}")

    def fail(self, name: str) -> bool:
        """Let a node end as if a part of it had failed: its supervisor boots it again. False while it is down."""
        node = self.nodes[name]
        if node.process is None or not self.is_up(name):
            return False
        if node.role == SUBAGENT:
            failing = node.actor._failed
        else:
            failing = node.actor._ended if node.loop is None else node.loop.fail  # a standby has no loop
        error = PlantedMistake("planted by the simulation")
        self.loop.call_soon(failing, error, context=self.loop.context_of(node.process.lane))
        return True

    def snapshot_soon(self, name: str) -> bool:
        """Let a node with a journal make a snapshot and trim its log, as a keeper would; False while it is down."""
        node = self.nodes[name]
        if node.loop is None or node.process is None:
            return False
        keep = keep_journal(node, node.process, self.lookout, may_drop=self.pair is not None)
        self._in_lane(node.process.lane, keep, "snapshot")
        return True

    def reboot(self, name: str) -> None:
        """Restart a node's whole machine: node, guard and processes end at once, nobody is told."""
        self.crash(name, notice=False)
        self.nodes[name].machine.reboot()

    def crash_guard(self, name: str) -> bool:
        """Kill the guard of a subagent; False when there was none."""
        return self.nodes[name].machine.crash_guard()

    def drift(self, name: str, ppm: int) -> None:
        """Let a node's clocks run too fast or too slow, over restarts too."""
        node = self.nodes[name]
        node.drift_ppm = ppm
        if node.process is not None:
            self.loop.drift(node.process.lane, ppm)

    def world_of_stranger(self, name: str) -> SimWorld:
        """Return a world on a machine of its own, for somebody who is no node: an operator's program, a test."""
        node = SimNode(name, CLIENT, self._machine(name), SimDisk(Random(f"{self.seed}/disk/{name}")))
        self._begin_process(node)
        return self._world(node)

    # --- the client ---------------------------------------------------------------------------------------------------

    async def in_client(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run something as the client and wait for it."""
        assert self._client_node.process is not None
        return await self._in_lane(self._client_node.process.lane, work, "ask")
