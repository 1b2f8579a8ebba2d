"""WatchedPair: two simulated nodes of one pair, and the checks of every step they take. Floor 10.

* Both are booted by engine.boot as standbys; who acts is theirs and the register's to find out.
* Each effect, answer and publication of who acts is looked at in the moment in which it happens.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from engine.base.pair import Ownership
from engine.journal.memory import Image
from engine.pair.cells import STORE_ID
from engine.pair.node import PairNode
from engine.rules.pair.state import ACTIVE, Role
from engine.simulation.loop import VirtualLoop
from engine.simulation.node import SimNode
from engine.simulation.observe import Lookout
from engine.simulation.pair_book import PairBook, could_act

REST_S = 8.0


class WatchedPair:
    """What the pairs of controllers and of directors have in common."""

    what = ""  # the first word of the `sometimes` conditions of such pairs

    def __init__(
        self,
        names: tuple[str, str],
        nodes: Mapping[str, SimNode],
        lookout: Lookout,
        loop: VirtualLoop,
        value: Callable[[], Ownership | None],
    ) -> None:
        """`nodes`: all of the cluster; those of the pair are in it. `value`: what the register holds now."""
        self.names = names
        self.value = value
        self.book = PairBook({name: partial(_image, nodes[name]) for name in names}, value, lookout.breaches)
        self._nodes = nodes
        self._lookout = lookout
        self._loop = loop
        self._acted = ""  # who began to act last
        self._changed_s = loop.time()  # when a half was booted, or took another role
        for name in names:
            lookout.ledger.follow(name)
            disk = nodes[name].disk
            disk.on_dropped = partial(self._drops, name)
            disk.on_installed = partial(self._installs, name)

    def sometimes(self, condition: str, is_met: object = True) -> None:
        """Note that something worth meeting has happened to such a pair."""
        self._lookout.sometimes(f"{self.what}: {condition}", is_met)

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
        """The node that acts; None while none may."""
        for node, half in self.halves():
            if half.role is not None and could_act(half.replica.me, self.now_ms(node)):
                return node
        return None

    def owner(self) -> str | None:
        """The node that the register calls the owner."""
        value = self.value()
        return None if value is None else value.owner

    def has_two_copies(self) -> bool:
        """Tell whether both disks are in sync, and nothing is under way that could change it."""
        value = self.value()
        stores = {name: self._nodes[name].disk.image.cells.get(STORE_ID) for name in self.names}
        both = value is not None and len(value.insync) == len(self.names)
        return both and value is not None and all(stores[one.node] == one.store.encode() for one in value.insync)

    def is_at_rest(self) -> bool:
        """Tell whether both are coupled for so long that no question of an earlier life can be under way any more."""
        roles = sorted(str(half.replica.me.role) for _, half in self.halves())
        is_coupled = roles == [Role.COUPLED, Role.STANDBY] and self.has_two_copies()
        return is_coupled and self._loop.time() - self._changed_s >= REST_S

    def switch_over(self) -> bool:
        """Ask the owner to hand over, if it can do so at this instant."""
        for node, half in self.halves():
            if half.role is not None and half.replica.me.role is Role.COUPLED and not node.paused:
                assert node.process is not None
                return self._loop.context_of(node.process.lane).run(half.replica.yields)
        return False

    def other(self, name: str) -> str:
        """The other one's name."""
        return self.names[1 - self.names.index(name)]

    # --- looking on

    def watch(self, node: SimNode, half: PairNode) -> None:
        """Look at a half from its boot on."""
        self._changed_s = self._loop.time()
        open_role = half._open_role

        async def opened(*arguments: Any) -> Any:
            role: Any = await open_role(*arguments)
            self._watch_role(node, half, role)
            return role

        half._open_role = opened
        self._watch_replica(node, half)

    def begins(self, node: SimNode, role: Any) -> tuple[Any, Any, Any]:
        """Look at a node that begins to act; return its loop, its feed and its reception."""
        raise NotImplementedError

    def _watch_role(self, node: SimNode, half: PairNode, role: Any) -> None:
        """Look at everything that who acts does from now on."""
        loop, feed, reception = self.begins(node, role)
        if self._acted not in ("", node.name):
            running = [group for one in self._nodes.values() for group in one.machine.running()]
            self.sometimes("failover with a job running", running)
            self.sometimes("failover")
        self._acted = node.name
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
        me, incarnation = half.replica.me, half.replica.who.incarnation
        self.book.acts(node.name, incarnation, me.epoch, what, others)
        for one, other in self.halves():
            self.book.knows(one.name, other.replica.me.commit)

    def _watch_replica(self, node: SimNode, half: PairNode) -> None:
        replica = half.replica
        do, fall = replica._do, [replica.me.role]

        def done(effects: Any) -> None:
            was, fall[0] = fall[0], replica.me.role
            do(effects)
            now = replica.me.role
            if was is not now:
                self._changed_s = self._loop.time()
                self._lookout.timeline.note(node.name, f"{was} → {now}, epoch {replica.me.epoch}")
            self.sometimes("uncoupled", was is Role.COUPLED and now is Role.SOLO)
            self.sometimes("coupled again", was is Role.JOINING and now is Role.COUPLED and replica.me.epoch > 3)
            if replica.status == "fenced":
                self.sometimes("fenced")

        replica._do = done  # type: ignore[method-assign]
        on_stale = replica.hear_of

        def stale(epoch: int) -> None:
            self.sometimes("stale epoch refused")
            on_stale(epoch)

        replica.hear_of = stale  # type: ignore[method-assign]

    def _drops(self, name: str, index: int) -> None:
        self.sometimes("disk replaced" if index == 0 else "tail dropped")
        self._lookout.dropped(name, index)
        self.book.dropped(name, index)

    def _installs(self, name: str, index: int) -> None:
        self.sometimes("snapshot installed")
        self._lookout.timeline.note(name, f"a snapshot of record {index} is installed")
        self._lookout.ledger.installed(name, self.other(name), index)

    def look_at_crash(self, half: PairNode) -> None:
        """Look at a half in the moment of its crash."""
        role = half.replica.me.role
        others = [other.replica.me.role for _, other in self.halves()]
        self.sometimes("crash during joining", Role.JOINING in (role, *others))
        self.sometimes("crash of the active", role in ACTIVE)
        self.sometimes("crash of the standby", role is Role.STANDBY)
        self.sometimes("crash while pending", role is Role.PENDING)

    def given(self, value: Ownership, before: Ownership | None) -> None:
        """The register has a new value."""
        both = before is not None and len(before.insync) == len(value.insync) == len(self.names)
        self.sometimes("switched over", before is not None and both and value.owner != before.owner)
        self.book.given(value)

    # --- at rest

    def unsettled(self) -> Iterator[str]:
        """Yield what is not as it has to be at rest: L1, L2."""
        halves = [(node, half.replica.me) for node, half in self.halves()]
        acting = [node.name for node, me in halves if could_act(me, self.now_ms(node))]
        if len(acting) != 1:
            yield f"L1: {acting or 'nobody'} may act; {[(node.name, str(me.role)) for node, me in halves]}"
        value = self.value()
        if value is None or len(value.insync) != len(self.names):
            yield f"L2: in sync are {() if value is None else [one.node for one in value.insync]}"
        roles = sorted(str(me.role) for _, me in halves)
        if roles != [Role.COUPLED, Role.STANDBY]:
            yield f"L2: {self.what}: they are {roles}"
        ends = {name: self._nodes[name].disk.image.tip.index for name in self.names}
        if len(set(ends.values())) > 1:
            yield f"L2: the logs end at {ends}"

    def differences(self) -> Iterator[str]:
        """Yield what differs between the two journals at rest."""
        yield from self.book.differences()


def _image(node: SimNode) -> Image:
    return node.disk.image
