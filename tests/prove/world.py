"""The world of the explorer: two nodes, a register, and every message that was ever sent.

* The rules are the product's own (`engine.rules.pair`); nothing of them is written here a second time.
* Messages are kept for ever: each may be delivered at any time, again and again, or never. What an owner may
  replicate is any part of the log it had in an epoch, so only that log is kept.
* Time is one bit: a lease lasts until the next tick, and so does the wait of who granted it. Every node's `now` is 0;
  a tick makes what was 0 old. Every suspicion is allowed at every instant.
* Writes are two steps: asked for, and done; a crash between them forgets the first.
"""

from functools import lru_cache

import msgspec
from msgspec.structs import replace

from engine.base.pair import AnyPairMessage, Cas, Member, Ownership, Value
from engine.rules.pair.log import LogShape
from engine.rules.pair.state import Install, Keep, Pair, Role, Setting, Write
from engine.rules.pair.times import Times

CLUSTER = "c"
NODES = ("A", "B")
NOW = 0
TIMES = Times(
    beat_ms=1,
    silence_ms=0,
    lease_ms=1,
    takeover_ms=0,
    wait_ms=1,
    batch_ms=9,
    good_ms=9,
    again_ms=0,
    near=9,
)


class Node(msgspec.Struct, frozen=True, array_like=True):
    """One node. `content` names the record at each index of its durable log, from 1."""

    alive: bool
    incarnation: int
    stores: int  # how many stores it had; the number of the present one
    pair: Pair
    content: tuple[int, ...] = ()
    pending: Keep | Write | Install | None = None
    pending_content: tuple[int, ...] = ()


class Published(msgspec.Struct, frozen=True, array_like=True):
    """The log that an owner had in an epoch, as far as it got: any part of it may be on its way."""

    owner: str
    incarnation: int
    epoch: int
    epochs: tuple[int, ...]
    content: tuple[int, ...]

    @property
    def first_known(self) -> int:
        """Behind which record the owner can send: below its own snapshot it knows no epochs (0), and sends nothing."""
        return max((index for index, epoch in enumerate(self.epochs, 1) if not epoch), default=-1) + 1


class Bounds(msgspec.Struct, frozen=True, array_like=True):
    """How much of everything may still happen; `epochs` is the highest epoch that the register takes."""

    epochs: int = 3
    events: int = 2
    crashes: int = 1
    wipes: int = 0  # crashes after which the disk is another one, empty
    yields: int = 0
    forces: int = 0
    rollbacks: int = 0  # the register falls back to an earlier value
    snapshots: int = 0
    commands: int = 0  # that owners give to an agent below them
    keeps: int = 0  # snapshots that a standby makes of its own log; only where `commits` are watched
    # What the present rules make needless, and planted faults need; each makes the search larger.
    late_beats: bool = False  # a beat and its answer may come after a tick
    slow_disk: bool = False  # something may happen between a write and its end
    old_mail: bool = False  # keep what is ignored for ever
    whole_logs: bool = False  # an owner sends its whole log as it was at some time, never a part
    # What a standby may apply is watched too: the state grows by it.
    commits: bool = False


class World(msgspec.Struct, frozen=True, array_like=True):
    """Everything. `acked` is the longest sequence of records that anybody was told is safe."""

    a: Node
    b: Node
    register: Ownership
    left: Bounds
    records: int = 0  # made so far; the next one's name
    acked: tuple[int, ...] = ()
    mail: tuple[bytes, ...] = ()  # encoded Mail, in order
    published: tuple[Published, ...] = ()
    past: tuple[Ownership, ...] = ()  # of the register, where it may fall back
    commands: tuple[int, ...] = ()  # epochs of commands to an agent, each for ever on its way
    obeyed: int = 0  # the highest epoch that the agent has persisted
    carried_out: int = 0  # the highest epoch of a command that it has carried out
    overruled: bool = False  # it has carried out one of a lower epoch after that

    def node(self, name: str) -> Node:
        """Return a node by name."""
        return self.a if name == "A" else self.b


class Mail(msgspec.Struct, frozen=True, array_like=True):
    """A message and where it goes: a node, or `R`."""

    to: str
    message: AnyPairMessage | Cas | Value


encode = msgspec.msgpack.Encoder().encode
decode_world = msgspec.msgpack.Decoder(World).decode
decode_mail = lru_cache(maxsize=100_000)(msgspec.msgpack.Decoder(Mail).decode)


def other(name: str) -> str:
    """Return the peer's name."""
    return "B" if name == "A" else "A"


@lru_cache(maxsize=1_000)
def setting(name: str, incarnation: int, stores: int) -> Setting:
    """Return who a node is."""
    return Setting(CLUSTER, name, other(name), store_name(name, stores), incarnation, TIMES)


def store_name(name: str, stores: int) -> str:
    """Return the id of a node's n-th store."""
    return f"{name.lower()}{stores}"


def first_world(bounds: Bounds) -> World:
    """Return a coupled pair: A owns epoch 1, both are in sync, nothing is written, no lease is given."""
    register = Ownership(CLUSTER, 1, "A", (Member("A", "a0"), Member("B", "b0")), 1)
    a = Node(True, 1, 0, Pair(cfg=register, log_epoch=1, role=Role.COUPLED, last_grant_ms=-1, has_read=True))
    b = Node(True, 1, 0, Pair(cfg=register, log_epoch=1, last_grant_ms=-1, has_read=True))
    return World(a, b, register, bounds, published=(Published("A", 1, 1, (), ()),))


def with_node(world: World, name: str, node: Node) -> World:
    """Return the world with another state of a node."""
    return replace(world, a=node) if name == "A" else replace(world, b=node)


def spend(world: World, what: str) -> World:
    """Return the world in which one thing less may happen."""
    return replace(world, left=replace(world.left, **{what: getattr(world.left, what) - 1}))


def shape_of(epochs: tuple[int, ...]) -> LogShape:
    """Return the shape of a whole log with these epochs."""
    return LogShape().appended(epochs)
