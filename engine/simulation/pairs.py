"""SimPair: two controllers of a simulated cluster, their register, and the checks of every step they take. Floor 10.

* Both are booted by engine.boot as standbys; who acts is theirs and the register's to find out.
* `initialize` is what an operator does once: it tells the register who begins.
* Each effect, answer and publication of a controller is looked at in the moment in which it happens.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any

from engine.base.pair import Member, Ownership
from engine.boot import boot_controller_of_pair
from engine.model.language import Language
from engine.model.order import Attachment
from engine.pair.node import PairNode, PairPlace
from engine.pair.replica import STORE_ID
from engine.rules.pair.state import ACTIVE, Role
from engine.runtime.supervisor import SteppedDown
from engine.simulation.loop import VirtualLoop
from engine.simulation.node import CONTROLLER, SimNode
from engine.simulation.observe import Lookout
from engine.simulation.pair_book import PairBook, could_act
from engine.simulation.register import SOUND, RegisterCall, SimRegister
from engine.simulation.world import SimWorld

SECOND = "controller-2"


class SimPair:
    """The pair of one simulated cluster."""

    def __init__(
        self, seed: int, cluster: str, nodes: Mapping[str, SimNode], lookout: Lookout, loop: VirtualLoop
    ) -> None:
        """`nodes`: all of the cluster; those of the pair are in it."""
        self.names = (CONTROLLER, SECOND)
        self.register = SimRegister(Random(f"{seed}/register"), note=self._changed)
        self.register._arrive = partial(self._asked, self.register._arrive)  # type: ignore[method-assign]
        images = {name: partial(_image, nodes[name]) for name in self.names}
        self.book = PairBook(images, partial(self.register.now, cluster), lookout.breaches)
        self._cluster = cluster
        self._nodes = nodes
        self._lookout = lookout
        self._loop = loop
        self._acted = ""  # who began to act last
        self._falls = 0  # how often the register has lost its state
        self._value: Ownership | None = None  # what the register held before its present change
        for name in self.names:
            lookout.ledger.follow(name)
            disk = nodes[name].disk
            disk.on_dropped = partial(self._drops, name)
            disk.on_installed = partial(self._installs, name)

    # --- what is asked of it

    def halves(self) -> list[tuple[SimNode, PairNode]]:
        """The nodes that run, with what runs there."""
        found = []
        for name in self.names:
            node = self._nodes[name]
            if (half := node.pair_node) is not None and half.world.revoked is None:  # type: ignore[attr-defined]
                found.append((node, half))
        return found

    def now_ms(self, node: SimNode) -> int:
        """What the clock of a node shows."""
        assert node.process is not None
        return self._loop.context_of(node.process.lane).run(lambda: self._loop.clock_ns() // 1_000_000)

    def acting(self) -> SimNode | None:
        """The controller that acts; None while none may."""
        for node, half in self.halves():
            if half.role is not None and could_act(half.replica.me, self.now_ms(node)):
                return node
        return None

    def owner(self) -> str | None:
        """The node that the register calls the owner."""
        value = self.register.now(self._cluster)
        return None if value is None else value.owner

    def has_two_copies(self) -> bool:
        """Tell whether both disks are in sync, and nobody has asked the register anything that is not answered."""
        value = self.register.now(self._cluster)
        stores = {name: self._nodes[name].disk.image.cells.get(STORE_ID) for name in self.names}
        both = value is not None and len(value.insync) == len(self.names)
        is_asked = any(call.returned is None and call.kind == "cas" for call in self.register.calls)
        is_same = both and value is not None and all(stores[one.node] == one.store.encode() for one in value.insync)
        return is_same and not is_asked

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
        peer = self.names[1 - self.names.index(node.name)]
        place = PairPlace(
            peer=peer,
            own_url=f"{node.url}/pair",
            peer_url=f"{self._nodes[peer].url}/pair",
            register=self.register.at(node.name),
        )

        def closed(error: BaseException) -> None:
            if isinstance(error, SteppedDown):
                self._lookout.sometimes("pair: stepped down")
            on_closed(error)

        half = await boot_controller_of_pair(world, node.url, self._cluster, closed, place, language)
        open_role = half._open_role

        async def opened(*arguments: Any) -> Any:
            controller: Any = await open_role(*arguments)
            self._watch(node, half, controller)
            return controller

        half._open_role = opened
        self._watch_replica(node, half)
        return half

    def heal(self) -> None:
        """Let the register be sound, up, and within everybody's reach."""
        self.register.faults = SOUND
        self.register.come_up()
        for name in self.names:
            self.register.heal(name)

    def switch_over(self) -> bool:
        """Ask the owner to hand over, if it can do so at this instant."""
        for node, half in self.halves():
            if half.role is not None and half.replica.me.role is Role.COUPLED and not node.paused:
                assert node.process is not None
                return self._loop.context_of(node.process.lane).run(half.replica.yields)
        return False

    # --- looking on

    def _watch(self, node: SimNode, half: PairNode, controller: Any) -> None:
        """Look at everything that a controller does from now on."""
        self._lookout.watch_controller(controller)
        self._look_at_failover(node, half, controller)
        loop, feed, reception = controller.loop, controller.feed, controller.reception
        perform, publish, reply, ask = loop._perform, feed.publish, reception._reply, reception._ask
        self.book.must_hold_all(node.name, f"acting in epoch {half.replica.me.epoch}")
        self.book.shows(node.name, feed.tip.index, "what it found")

        def performed(effect: Any) -> None:
            self._acts(node, half, type(effect).__name__)
            perform(effect)

        def published(records: Sequence[Any]) -> None:  # no act: who is fenced may still tell what is acknowledged
            self.book.shows_records(node.name, records)
            publish(records)

        def replied(session: Any, number: int, body: bytes) -> None:
            self._acts(node, half, "replies")
            reply(session, number, body)

        def asked(session: Any, number: int, raw: Any, answer: Any) -> None:
            def answered(body: bytes) -> None:
                self._acts(node, half, "answers")
                answer(body)

            ask(session, number, raw, answered)

        loop._perform, feed.publish = performed, published
        reception._reply, reception._ask = replied, asked

    def _acts(self, node: SimNode, half: PairNode, what: str) -> None:
        others = [(one.name, other.replica.me, self.now_ms(one)) for one, other in self.halves() if one is not node]
        me, incarnation = half.replica.me, half.world.incarnation
        self.book.acts(node.name, incarnation, me.epoch, what, others)
        for one, other in self.halves():
            self.book.knows(one.name, other.replica.me.commit)

    def _watch_replica(self, node: SimNode, half: PairNode) -> None:
        replica, sometimes = half.replica, self._lookout.sometimes
        do, fall = replica._do, [replica.me.role]

        def done(effects: Any) -> None:
            was, fall[0] = fall[0], replica.me.role
            do(effects)
            now = replica.me.role
            if was is not now:
                self._lookout.timeline.note(node.name, f"{was} → {now}, epoch {replica.me.epoch}")
            sometimes("pair: uncoupled", was is Role.COUPLED and now is Role.SOLO)
            sometimes("pair: coupled again", was is Role.JOINING and now is Role.COUPLED and replica.me.epoch > 3)
            if replica.status == "fenced":
                sometimes("pair: fenced")

        replica._do = done  # type: ignore[method-assign]
        on_stale = replica.hear_of

        def stale(epoch: int) -> None:
            sometimes("pair: stale controller refused")
            on_stale(epoch)

        replica.hear_of = stale  # type: ignore[method-assign]

    def _look_at_failover(self, node: SimNode, half: PairNode, controller: Any) -> None:
        """Look at the moment in which another one takes over."""
        sometimes, state, before = self._lookout.sometimes, controller.loop.state, self._acted
        self._acted = node.name
        if before in ("", node.name):
            return
        running = [group for one in self._nodes.values() for group in one.machine.running()]
        sometimes("pair: failover with a job running", running)
        orders = state.orders.values()
        sometimes("pair: failover while attaching", any(one.attachment is Attachment.ATTACHING for one in orders))
        sometimes("pair: failover")

    def _asked(self, arrive: Callable[..., None], call: RegisterCall, *rest: Any) -> None:
        """A question takes effect at the register."""
        value, expected, new = self.register.now(self._cluster), call.expected, call.new
        if expected is not None and new is not None and not self.register.is_down:
            is_late = value not in (expected, new) and new.owner != expected.owner
            self._lookout.sometimes("pair: takeover refused", is_late)
        arrive(call, *rest)

    def _changed(self, sentence: str) -> None:
        self._lookout.timeline.note("register", sentence)
        value, before = self.register.now(self._cluster), self._value
        self._value = value
        fell_back, self._falls = self.register.counts["rolled_back"] > self._falls, self.register.counts["rolled_back"]
        if value is not None and not fell_back:  # R13 is about what no register may do
            both = before is not None and len(before.insync) == len(value.insync) == len(self.names)
            self._lookout.sometimes("pair: switched over", before is not None and both and value.owner != before.owner)
            self.book.given(value)

    def _drops(self, name: str, index: int) -> None:
        self._lookout.sometimes("pair: disk replaced" if index == 0 else "pair: tail dropped")
        self._lookout.dropped(name, index)
        self.book.dropped(name, index)

    def _installs(self, name: str, index: int) -> None:
        self._lookout.sometimes("pair: snapshot installed")
        self._lookout.timeline.note(name, f"a snapshot of record {index} is installed")
        other = self.names[1 - self.names.index(name)]
        self._lookout.ledger.installed(name, other, index)

    def look_at_crash(self, half: PairNode) -> None:
        """Look at a half in the moment of its crash."""
        sometimes, role = self._lookout.sometimes, half.replica.me.role
        others = [other.replica.me.role for _, other in self.halves()]
        sometimes("pair: crash during joining", Role.JOINING in (role, *others))
        sometimes("pair: crash of the active", role in ACTIVE)
        sometimes("pair: crash of the standby", role is Role.STANDBY)
        sometimes("pair: crash while pending", role is Role.PENDING)
        sometimes("pair: crash with the register down", self.register.is_down)

    # --- at rest

    def unsettled(self) -> Iterator[str]:
        """Yield what is not as it has to be at rest: L1, L2."""
        halves = [(node, half.replica.me) for node, half in self.halves()]
        acting = [node.name for node, me in halves if could_act(me, self.now_ms(node))]
        if len(acting) != 1:
            yield f"L1: {acting or 'nobody'} may act; {[(node.name, str(me.role)) for node, me in halves]}"
        value = self.register.now(self._cluster)
        if value is None or len(value.insync) != len(self.names):
            yield f"L2: in sync are {() if value is None else [one.node for one in value.insync]}"
        roles = sorted(str(me.role) for _, me in halves)
        if roles != [Role.COUPLED, Role.STANDBY]:
            yield f"L2: the pair is {roles}"
        ends = {name: self._nodes[name].disk.image.tip.index for name in self.names}
        if len(set(ends.values())) > 1:
            yield f"L2: the logs end at {ends}"

    def differences(self) -> Iterator[str]:
        """Yield what differs between the two journals at rest."""
        yield from self.book.differences()


def _image(node: SimNode) -> Any:
    return node.disk.image
