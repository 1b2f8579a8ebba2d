"""SimPair: two controllers of a simulated cluster, and the simulated register they share. Floor 10.

* `initialize` is what an operator does once: it tells the register who begins.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from random import Random
from typing import Any

from engine.base.pair import Member, Ownership
from engine.boot import boot_controller_of_pair
from engine.model.language import Language
from engine.model.order import Attachment
from engine.pair.node import PairNode, PairPlace
from engine.runtime.supervisor import SteppedDown
from engine.simulation.loop import VirtualLoop
from engine.simulation.node import CONTROLLER, SimNode
from engine.simulation.observe import Lookout
from engine.simulation.register import SOUND, RegisterCall, SimRegister
from engine.simulation.watched_pair import WatchedPair
from engine.simulation.world import SimWorld

SECOND = "controller-2"


class SimPair(WatchedPair):
    """The controllers of one simulated cluster."""

    what = "pair"

    def __init__(
        self, seed: int, cluster: str, nodes: Mapping[str, SimNode], lookout: Lookout, loop: VirtualLoop
    ) -> None:
        """`nodes`: all of the cluster; those of the pair are in it."""
        self.register = SimRegister(Random(f"{seed}/register"), note=self._changed)
        self.register._arrive = partial(self._asked, self.register._arrive)  # type: ignore[method-assign]
        super().__init__((CONTROLLER, SECOND), nodes, lookout, loop, partial(self.register.now, cluster))
        self._cluster = cluster
        self._falls = 0  # how often the register has lost its state
        self._before: Ownership | None = None  # what the register held before its present change

    def has_two_copies(self) -> bool:
        """Tell whether both disks are in sync, and no question is under way that could change it."""
        return super().has_two_copies() and not self.register.under_way

    async def initialize(self) -> None:
        """Tell the register who begins: the first node, alone in sync."""
        half = self._nodes[CONTROLLER].pair_node
        assert half is not None
        first = Ownership(self._cluster, 1, CONTROLLER, (Member(CONTROLLER, half.replica.who.store),), 0)
        await self.register.create(first)

    async def boot(
        self, world: SimWorld, node: SimNode, on_closed: Callable[[BaseException], None], language: Language
    ) -> PairNode:
        """Boot one half; it is looked at from then on."""
        peer = self.other(node.name)
        place = PairPlace(
            peer=peer,
            own_url=f"{node.url}/pair",
            peer_url=f"{self._nodes[peer].url}/pair",
            register=self.register.at(node.name),
            feature=node.feature,
        )

        def closed(error: BaseException) -> None:
            self.sometimes("stepped down", isinstance(error, SteppedDown))
            on_closed(error)

        half = await boot_controller_of_pair(world, node.url, self._cluster, closed, place, language)
        self.watch(node, half)
        return half

    def heal(self) -> None:
        """Let the register be sound, up, and within everybody's reach."""
        self.register.faults = SOUND
        self.register.come_up()
        for name in self.names:
            self.register.heal(name)

    # --- looking on

    def begins(self, node: SimNode, role: Any) -> tuple[Any, Any, Any]:
        """Look at a controller that begins to act."""
        self._lookout.watch_controller(role)
        self._lookout.watch_feed(CONTROLLER, role.feed, node.disk.image.records)
        if self._acted not in ("", node.name):
            orders = role.loop.state.orders.values()
            attaching = any(one.attachment is Attachment.ATTACHING for one in orders)
            self.sometimes("failover while attaching", attaching)
        return role.loop, role.feed, role.reception

    def _asked(self, arrive: Callable[..., None], call: RegisterCall, *rest: Any) -> None:
        """A question takes effect at the register."""
        value, expected, new = self.value(), call.expected, call.new
        if expected is not None and new is not None and not self.register.is_down:
            is_late = value not in (expected, new) and new.owner != expected.owner
            self.sometimes("takeover refused", is_late)
        arrive(call, *rest)

    def _changed(self, sentence: str) -> None:
        self._lookout.timeline.note("register", sentence)
        value, before = self.value(), self._before
        self._before = value
        fell_back, self._falls = self.register.counts["rolled_back"] > self._falls, self.register.counts["rolled_back"]
        if value is not None and not fell_back:  # R13 is about what no register may do
            self.given(value, before)

    def unsettled(self) -> Iterator[str]:
        """Yield what is not as it has to be at rest; also that less may be written than both of them read."""
        yield from super().unsettled()
        reads = min(self._nodes[name].feature for name in self.names)
        for node, half in self.halves():
            if half.replica.feature_level != reads:
                yield f"L2: {node.name} writes level {half.replica.feature_level}, and both read {reads}"

    def look_at_crash(self, half: PairNode) -> None:
        """Look at a half in the moment of its crash."""
        super().look_at_crash(half)
        self.sometimes("crash with the register down", self.register.is_down)
