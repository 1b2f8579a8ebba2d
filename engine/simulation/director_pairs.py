"""SimDirectors: the two directors of a simulated agent; the controllers' journal is their register. Floor 10.

* What the register holds is what a controller has published: before that nobody can have been told.
* The agent's own journal, for everybody outside, is what its directors have published, whoever of them it was.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.base.ids import AgentId
from engine.base.pair import Member, Ownership
from engine.boot import boot_agent_of_pair, dial_register
from engine.model.event import ControllerObeyed, Event, OwnershipChanged
from engine.model.language import Language
from engine.pair.node import PairNode
from engine.runtime.supervisor import SteppedDown
from engine.simulation.loop import VirtualLoop
from engine.simulation.node import CONTROLLER, SimNode
from engine.simulation.observe import Lookout
from engine.simulation.watched_pair import WatchedPair
from engine.simulation.world import SimWorld

DIRECTORS_CATALOGUE: dict[str, str] = {
    "directors: failover": "the other director began to act",
    "directors: failover with a job running": "a process ran while the other director took over",
    "directors: job adopted": "a director adopted an attempt that the other one had assigned, and it ended well",
    "directors: fenced": "a director's lease ran out",
    "directors: stepped down": "a director stopped because the other one owns the pair",
    "directors: uncoupled": "a director went on alone",
    "directors: coupled again": "two directors were in sync again",
    "directors: crash of the active": "a director was crashed that owned its pair",
    "directors: crash of the standby": "a director was crashed that stood by",
    "directors: tail dropped": "a standby dropped durable records that nobody had acknowledged",
    "directors: disk replaced": "an empty disk took the place of one that was in sync",
    "directors: snapshot installed": "a standby was given a snapshot in place of its log",
    "directors: switched over": "two directors handed over, and both stayed in sync",
    "directors: a zone died": "the acting controller and the acting director were crashed in one moment",
    "directors: its machine died with a subagent": "the machine of the acting director was lost with a subagent on it",
    "directors: failover while the controller was away": "a director took over as soon as its register was back",
}


def names_of(agent: str) -> tuple[str, str]:
    """Return the names of an agent's two directors."""
    return f"{agent}.1", f"{agent}.2"


class SimDirectors(WatchedPair):
    """The directors of one agent."""

    what = "directors"

    def __init__(
        self,
        agent: str,
        cluster: str,
        nodes: Mapping[str, SimNode],
        controllers: Sequence[str],
        lookout: Lookout,
        loop: VirtualLoop,
    ) -> None:
        """`nodes`: all of the cluster; those of the pair, and the controllers, are in it."""
        self.agent = agent
        self._value: Ownership | None = None
        self._cluster = cluster
        self._urls = [nodes[one].url for one in controllers]
        self._assigned: dict[tuple[str, int], str] = {}  # order and attempt → the director that assigned it
        super().__init__(names_of(agent), nodes, lookout, loop, lambda: self._value)
        lookout.also_published(self._saw)

    async def initialize(self, world: SimWorld, failed: Callable[[BaseException], None]) -> None:
        """Tell the controllers who begins, as an operator does: the first director, alone in sync."""
        first = self.names[0]
        half = self._nodes[first].pair_node
        assert half is not None
        value = Ownership(self.agent, 1, first, (Member(first, half.replica.who.store),), 0)
        register = dial_register(world, "client", self._urls, self._cluster, failed, CONTROLLER)
        try:
            await register.create(value)
        finally:
            await register.close()

    async def boot(
        self, world: SimWorld, node: SimNode, on_closed: Callable[[BaseException], None], language: Language
    ) -> PairNode:
        """Boot one director; it is looked at from then on."""

        def closed(error: BaseException) -> None:
            self.sometimes("stepped down", isinstance(error, SteppedDown))
            on_closed(error)

        peer = self.other(node.name)
        half = await boot_agent_of_pair(
            world,
            node.url,
            self._cluster,
            AgentId(self.agent),
            closed,
            peer=peer,
            own_url=f"{node.url}/pair",
            peer_url=f"{self._nodes[peer].url}/pair",
            controllers=self._urls,
            language=language,
        )
        self.watch(node, half)
        return half

    # --- looking on

    def begins(self, node: SimNode, role: Any) -> tuple[Any, Any, Any]:
        """Look at a director that begins to act."""
        lookout, feed = self._lookout, role.agent.feed
        lookout.watch_agent(role.agent)
        lookout.watch_feed(self.agent, feed, node.disk.image.records)
        self.sometimes("failover while the controller was away", self._acted and not lookout.is_served())
        return role.loop, feed, role.agent.reception

    def _saw(self, journal: str, _index: int, event: Event) -> None:
        """Something was published: by a controller, or by one of these directors."""
        if journal == self.agent:
            if isinstance(event, ControllerObeyed):
                self._lookout.obeys(self.agent, event)
            self._look_at_attempt(event)
        elif journal == CONTROLLER and isinstance(event, OwnershipChanged) and event.ownership.cluster == self.agent:
            before, self._value = self._value, event.ownership
            if event.ownership != before:
                self.given(event.ownership, before)

    def _look_at_attempt(self, event: Any) -> None:
        key = (getattr(event, "order", ""), getattr(event, "attempt", 0))
        kind = type(event).__name__
        if kind == "AttemptAssigned":
            self._assigned[key] = self._acted
        elif kind == "AttemptEnded":
            self.sometimes("job adopted", event.outcome.is_success and self._assigned.get(key) != self._acted)
