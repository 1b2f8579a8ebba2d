"""SimNode and SimProcess: a node of a simulated cluster, and one of its processes. Floor 10."""

import asyncio
from typing import Any

from engine.base.wire import FEATURE_LEVEL
from engine.pair.node import PairNode
from engine.runtime.supervisor import Supervisor
from engine.simulation.disk import SimDisk
from engine.simulation.processes import SimMachine
from engine.simulation.world import SimWorld

CONTROLLER, AGENT, SUBAGENT, CLIENT = "controller", "agent", "subagent", "client"


class PlantedMistake(Exception):
    """The simulation let a node end by itself."""


class SimProcess:
    """One process of a node: a lane of the loop with a supervisor in it."""

    def __init__(self, lane: str) -> None:
        self.lane = lane
        self.worlds: list[SimWorld] = []
        self.supervisor: Supervisor[Any] | None = None
        self.booted = False
        self.gone = asyncio.Event()

    @property
    def actor(self) -> Any:
        """The node that runs in it now, None while it boots."""
        return None if self.supervisor is None or not self.booted else self.supervisor.node


class SimNode:
    """A node over all its processes."""

    def __init__(self, name: str, role: str, machine: SimMachine, disk: SimDisk) -> None:
        self.name = name
        self.role = role
        self.machine = machine
        self.disk = disk
        self.url = f"sim://{name}"
        self.number = 0
        self.drift_ppm = 0
        self.feature = FEATURE_LEVEL  # of events that the program reads that is started here
        self.process: SimProcess | None = None
        self.paused = False
        self.restarts = 0  # by supervisors, over all processes

    @property
    def actor(self) -> Any:
        """The Controller, PairNode, AgentNode or Subagent that runs now, None while it is down or boots."""
        return None if self.process is None else self.process.actor

    @property
    def pair_node(self) -> PairNode | None:
        """The half of a pair that runs now, None while it is down or boots, or where there is no pair."""
        actor = self.actor
        return actor if isinstance(actor, PairNode) else None

    @property
    def acting(self) -> Any:
        """The Controller, AgentNode or Subagent that runs now; None also while it stands by."""
        return acting_in(self.actor)

    @property
    def loop(self) -> Any:
        """The durable loop of a controller or agent, None while there is none."""
        actor = self.actor
        return None if actor is None or self.role == SUBAGENT else actor.loop


def acting_in(actor: Any) -> Any:
    """Return what acts in what runs on a node, None while it stands by."""
    return actor.role if isinstance(actor, PairNode) else actor
