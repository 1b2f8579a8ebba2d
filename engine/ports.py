"""The ports: what an actor may ask of the world, and what the world may ask of a machine. Floor 1.

* Everything outside an actor (clock, ids, network, storage, processes) is reached through `World` and nothing else.
* A World is bound to one incarnation of one node; once revoked, each of its parts refuses with EngineClosed.
* `Machine` is pure: no method of it awaits, reads a clock or touches anything but the state it is given.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from engine.base.pair import Ownership
from engine.base.problem import Problem

State = TypeVar("State")
Command_contra = TypeVar("Command_contra", contravariant=True)
Event = TypeVar("Event")
Effect = TypeVar("Effect")


# --- thinking -------------------------------------------------------------------------------------------------------


class Machine(Protocol[State, Command_contra, Event, Effect]):
    """A role's pure rules. `apply` is the only method that changes the state; all others read it."""

    def blank(self) -> State: ...

    def begin(self, state: State, epoch: int, node: str, now_ms: int) -> list[Event]:
        """The events that open an activation; the first is EpochBegan."""

    def decide(self, state: State, command: Command_contra, now_ms: int) -> "list[Event] | Problem":
        """The events of one command; an empty list means accepted without a change."""

    def advance(self, state: State, key: str, now_ms: int) -> list[Event]:
        """The next step of what `key` names (an order), by itself; [] when it must wait."""

    def broken(self, state: State, key: str, problem: Problem, now_ms: int) -> list[Event]:
        """The events that end what `key` names, because its next step raised or can not be encoded."""

    def apply(self, state: State, event: Event, index: int) -> None:
        """Change the state by one event of record `index`; an exception here ends the node."""

    def touched(self, state: State, event: Event) -> Iterable[str]:
        """After `apply`: the keys that may have something to do now, in a fixed order."""

    def effects(self, state: State, event: Event) -> list[Effect]:
        """After `apply`: what the world must be told because of this event, once it is durable."""

    def resume(self, state: State) -> list[Effect]:
        """After recovery: everything still owed to the world."""

    def query(self, state: State, query: Any, now_ms: int) -> Any:
        """A bounded page of the state, or a Problem."""

    def encode_event(self, event: Event) -> bytes: ...
    def decode_events(self, packed: bytes) -> list[Event]: ...
    def encode_state(self, state: State) -> bytes: ...
    def decode_state(self, raw: bytes) -> State: ...


# --- storage --------------------------------------------------------------------------------------------------------


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record to be appended. `events` is a packed array; `marks` an encoded map stream → cursor, empty when none."""

    index: int
    epoch: int
    events: bytes
    marks: bytes = b""


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record as stored; `hash` chains it to the record before (16 bytes)."""

    index: int
    epoch: int
    events: bytes
    marks: bytes
    hash: bytes


class Snapshot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The state after record `index`; `hash` is that record's hash, so that the chain goes on behind it."""

    index: int
    epoch: int
    hash: bytes
    state: bytes


class Tip(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The end of the log: last index, its epoch and hash. (0, 0, 16 zero bytes) when empty."""

    index: int
    epoch: int
    hash: bytes


class StoreFault(Exception):
    """The store cannot go on (I/O error, damage, wrong version); the sentence says what, where and what to do."""


class Store(Protocol):
    """A node's journal: an append-only log of records, one snapshot, and local cells.

    * `append` returns only when its entries and cells are durable; several calls may be under way, they are kept in
      order and made durable in groups. Entries must continue the log without a gap.
    * Cells are written in the same transaction and are not part of the log (they are never replicated).
    * Any failure is final: every later call raises StoreFault.
    """

    @property
    def tip(self) -> Tip:
        """The durable end of the log."""

    @property
    def first(self) -> int:
        """The lowest index still readable (snapshot index + 1 or lower), 1 for a whole log."""

    async def append(self, entries: Sequence[Entry], cells: Mapping[str, bytes] | None = None) -> Tip: ...

    async def read(self, after: int, *, records_max: int = 1_000, bytes_max: int = 4 << 20) -> list[Record]:
        """Durable records behind `after`, at least one if there is one; raises LookupError when already trimmed."""

    def replay(self, after: int) -> AsyncIterator[list[Record]]:
        """All durable records behind `after` in big batches, hashes checked; StoreFault names a damaged record."""

    async def truncate_after(self, index: int, cells: Mapping[str, bytes] | None = None) -> Tip:
        """Drop every record above index; refused (StoreFault) below the snapshot."""

    async def snapshot(self) -> Snapshot | None: ...

    async def add_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot of our own log (its hash must be the record's), in place of the one before."""

    async def install_snapshot(self, snapshot: Snapshot, cells: Mapping[str, bytes] | None = None) -> Tip:
        """Replace the whole log by somebody's snapshot, in one transaction; cells not named are kept."""

    async def trim(self, upto: int) -> None:
        """Forget records up to and including `upto`; never above the snapshot's index."""

    def cell(self, name: str) -> bytes | None: ...
    async def set_cells(self, cells: Mapping[str, bytes]) -> None: ...
    def statistics(self) -> dict[str, int]: ...
    async def close(self) -> None: ...


class SnapshotMaker(Protocol):
    """Makes a snapshot without stopping the loop."""

    async def make(self, upto: int) -> Snapshot:
        """The snapshot of the log up to index `upto`, which must be acknowledged."""


class Replication(Protocol):
    """What the loop sees of the pair: may I act, and up to which index does everybody have it."""

    def may_act(self) -> bool: ...

    async def acting(self) -> None:
        """Return once `may_act` is true."""

    def appending(self) -> None:
        """Entries are about to be written here; how long that takes says whether our disk works."""

    def appended(self, entries: Sequence[Entry]) -> None:
        """These entries are durable here; offer them to the peer."""

    async def acknowledged(self, index: int) -> None:
        """Return once the index may become visible."""


class RegisterUnreachable(Exception):
    """No answer of the register came: whether it did what it was asked, or will yet, is not known.

    The sentence says why; a refusal that a person must see to (wrong cluster, wrong role) keeps its own.
    """


class Register(Protocol):
    """The third place that says who owns a pair: one linearizable, durable value per cluster.

    * An answer is the value at one instant between question and answer, and durable; it may be old when it arrives.
    * Every method may take effect although it raises RegisterUnreachable or is cancelled, and then also much later.
    * Nothing is retried inside. One that is kept in this very process also raises StoreFault, and Refused for a value
      that no register keeps. Each change fits a single conditional statement of SQL.
    """

    async def create(self, first: Ownership) -> Ownership:
        """Create a cluster's value (an operator's `init`) unless there is one; returns the value there is now."""

    async def read(self, cluster: str) -> Ownership | None:
        """Return the value, None for an unknown cluster (it is never created silently)."""

    async def cas(self, expected: Ownership, new: Ownership) -> Ownership | None:
        """Replace exactly `expected` by `new`; returns the value there is now, `new` if it has won, now or before.

        Refused, which is that answer too, unless all of `expected` is equal, the cluster the same, the epoch higher.
        """


# --- network --------------------------------------------------------------------------------------------------------


class ConnectionClosed(Exception):
    """The connection is over; nothing sent since the last answer is known to have arrived."""


class Connection(Protocol):
    """Ordered frames of bytes between two ends until it breaks. Losing the rest of a stream breaks it."""

    peer: str

    async def send(self, frames: Sequence[bytes]) -> None:
        """Hand over frames; waits while the peer is slow; raises ConnectionClosed."""

    async def receive(self) -> list[bytes]:
        """All frames at hand, at least one; raises ConnectionClosed at the end."""

    async def close(self) -> None: ...


class Listener(Protocol):
    """An open address."""

    address: str

    async def close(self) -> None: ...


class Transport(Protocol):
    """One URL scheme."""

    scheme: str

    async def listen(self, address: str, accept: Callable[[Connection], Awaitable[None]]) -> Listener:
        """Accept connections at an address; `accept` is run as a task for each, and its end closes the connection."""

    async def connect(self, address: str) -> Connection:
        """Open a connection; raises ConnectionClosed with the reason when there is nobody."""

    def revoke(self, reason: str) -> None:
        """End this incarnation's connections and listeners, at once and for good."""


# --- processes ------------------------------------------------------------------------------------------------------


class ProcessSpec(msgspec.Struct, frozen=True):
    """A program to run once, known by `key`. Output goes to `<folder>/out` and `<folder>/err`."""

    key: str
    argv: tuple[str, ...]
    environment: dict[str, str]
    folder: str  # relative to the host's state directory; made by the host
    directory: str | None = None  # working directory; None = the attempt's folder
    script: str | None = None  # written to `<folder>/script`, whose absolute path replaces "{script}" in argv
    timeout_ms: int | None = None
    kill_delay_ms: int = 5_000  # from TERM to KILL
    output_bytes_max: int = 100 << 20  # each of out and err
    lease_until_ms: int | None = None  # on the machine's monotonic clock: nothing of it lives then; None = no lease
    lease_grace_ms: int = 0  # from TERM to KILL, when the lease runs out
    lease_margin_ms: int = 0  # KILL goes out so long before


class ProcessReport(msgspec.Struct, frozen=True):
    """What is known of a process.

    `kind`: started (pid) | ended (return_code, or -signal; cause exited|timed_out|killed|output|disk|fenced) |
    refused (it never began; sentence) | lost (it began, and nobody saw how it ended; sentence).
    """

    key: str
    kind: str
    at_ms: int
    pid: int = 0
    return_code: int = 0
    cause: str = ""
    sentence: str = ""
    out_bytes: int = 0
    err_bytes: int = 0


class ProcessHost(Protocol):
    """Runs programs so that they outlive us: a guard in the real world, a modelled one in simulation.

    * `start` with a key that was started before (also by an earlier incarnation) starts nothing and repeats its report.
    * A start record is durable before the process begins; an ending is durable before it is reported.
    """

    async def open(self) -> list[ProcessReport]:
        """Adopt what an earlier incarnation left, and return the last report of each key not yet forgotten."""

    def start(self, spec: ProcessSpec) -> None: ...

    def kill(self, key: str, *, now: bool = False) -> None:
        """TERM, then KILL after the delay (at once with `now`), for the whole tree; unknown keys are ignored."""

    def lease(self, keys: Sequence[str], until_ms: int) -> None:
        """Let leases last until then, unless one is over already; unknown keys, and those without one, are ignored."""

    def forget(self, keys: Sequence[str]) -> None:
        """The endings of these keys are durable above; their records may go."""

    async def reports(self) -> list[ProcessReport]:
        """The next reports, at least one; raises EngineClosed when the host is gone, StoreFault with its directory."""

    def path(self, folder: str) -> str:
        """The absolute path of an attempt's folder."""

    async def close(self) -> None:
        """Let go; running processes go on."""


# --- the world ------------------------------------------------------------------------------------------------------


class Clock(Protocol):
    """The two clocks of a machine."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since 1970 UTC; may jump."""

    def monotonic_ms(self) -> int:
        """Never falls, counts suspend time, means nothing to other machines."""


class World(Protocol):
    """Everything one incarnation of one node may touch."""

    @property
    def node(self) -> str:
        """The name of the node."""

    @property
    def incarnation(self) -> int:
        """A number that rises with each start of this node."""

    @property
    def clock(self) -> Clock: ...

    def new_id(self) -> str:
        """A random id, unique for practical purposes (22 characters)."""

    def jitter(self, span_ms: int) -> int:
        """A random number of milliseconds in [0, span_ms)."""

    def transport(self, url: str) -> tuple[Transport, str]:
        """The transport of a URL's scheme and the address behind `scheme://`."""

    async def open_store(self) -> Store: ...

    def process_host(self) -> ProcessHost: ...

    def snapshot_maker(self, store: Store, role: str, name: str = "") -> SnapshotMaker:
        """A maker of snapshots of this node's store; role and name (of a pair's agent; "": the node's) tell whose."""

    def call(
        self,
        function: Callable[..., Any],
        arguments: Mapping[str, Any],
        done: Callable[[Any, BaseException | None], None],
    ) -> None:
        """Run somebody's blocking function apart from the loop; `done(result, error)` is called in the loop, once."""

    async def read_file(self, path: str, size_bytes_max: int) -> bytes | None:
        """The content of a file a job left, at most one byte more than the bound; None where there is none."""

    def environment(self) -> dict[str, str]:
        """What every process of this machine's jobs gets besides its own environment (PATH, HOME, …)."""

    def resolve(self, path: str) -> str:
        """The absolute path of a job's path; a relative one counts from where our program was started."""

    def revoke(self, reason: str) -> None:
        """End every capability of this incarnation, at once and for good."""
