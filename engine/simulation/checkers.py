"""Checkers that watch a simulated run while it goes on: S5, S7, S9, S10 of the invariants. Floor 10.

* They believe durable records and the truth about processes only, never what a node thinks of itself.
* A breach is one sentence that begins with its invariant; nothing is raised here, whoever runs the simulation asks.
* S4, L3, L4 and L5 are checked when everything is quiet: audit.py.
"""

from collections.abc import Callable, Iterable
from functools import partial

from engine.base.ids import OrderId, attempt_key, parse_attempt_key
from engine.base.limits import BATCHES_IN_FLIGHT_MAX, COMMANDS_UNANSWERED_MAX, MAILBOX_LENGTH_MAX
from engine.model import event as events
from engine.model.event import Event
from engine.model.outcome import Outcome, OutcomeKind
from engine.simulation.processes import ProcessGroup

BREACHES_KEPT_MAX = 200
BATCHES_URGENT_MAX = 4  # urgent work may go beyond the bound of batches, a handful of them

Attempt = tuple[OrderId, int, int]  # order, the index at which it was added, attempt


class Breaches(list[str]):
    """What was found to be wrong, in order, each sentence once."""

    def tell(self, sentence: str) -> None:
        """Write a breach down."""
        if len(self) < BREACHES_KEPT_MAX and sentence not in self:
            self.append(sentence)


class _Book:
    """What the attempts of one order look like, by one journal."""

    __slots__ = ("added", "attempt", "children", "is_running")

    def __init__(self, added: int, attempt: int) -> None:
        self.added = added
        self.attempt = attempt
        self.is_running = False
        self.children: tuple[OrderId, ...] = ()


class AttemptBook:
    """S5 by the events of one journal: attempts rise by one, each ends once, and only what runs can end."""

    def __init__(
        self, node: str, tell: Callable[[str], None], on_ended: Callable[[Attempt, Outcome], None] = lambda *_: None
    ) -> None:
        """`on_ended` is told of each attempt's end."""
        self.assigned: dict[Attempt, str] = {}  # → subagent
        self.latest: dict[
            tuple[str, int], int
        ] = {}  # order and attempt → `added` of the order that was so assigned last
        self._node = node
        self._tell = tell
        self._on_ended = on_ended
        self._books: dict[OrderId, _Book] = {}

    def speak(self, tell: Callable[[str], None], on_ended: Callable[[Attempt, Outcome], None]) -> None:
        """Tell somebody else from now on."""
        self._tell, self._on_ended = tell, on_ended

    def note(self, event: Event, index: int) -> None:
        """Take in one durable event of record `index`."""
        if isinstance(event, events.OrderAdded):
            self._books[event.order] = _Book(index, 0)
        elif isinstance(event, events.OrderAttached):
            book = self._books.get(event.order)
            attempt = event.snapshot.attempt
            if book is None or (book.added, book.attempt) != (event.snapshot.added, attempt):
                self._books[event.order] = _Book(event.snapshot.added, attempt)
        elif isinstance(event, events.OrderEvent):
            self._of_order(event)
        elif isinstance(event, events.OrdersDeleted | events.OrdersForgotten):
            for order in event.orders:
                self._books.pop(order, None)

    def _of_order(self, event: events.OrderEvent) -> None:
        book = self._books.get(event.order)
        if book is None:
            self._tell(f"S5: {self._node} journals {type(event).__name__} of {event.order}, which it does not have")
        elif isinstance(event, events.AttemptAssigned):
            self._assign(book, event)
        elif isinstance(event, events.AttemptEnded):
            if not book.is_running or event.attempt != book.attempt:
                text = f"{event.order}: attempt {event.attempt} ends ({event.outcome.kind})"
                self._tell(f"S5: {self._node}: {text}, while {self._running(book)}")
            book.is_running = False
            self._on_ended((event.order, book.added, event.attempt), event.outcome)
        elif isinstance(event, events.OrderForked):
            book.children = tuple(branch.order for branch in event.branches)
            for child in book.children:
                self._books[child] = _Book(book.added, book.attempt)
        elif isinstance(event, events.OrderJoined):
            children = [self._books.pop(child) for child in book.children if child in self._books]
            book.attempt = max([book.attempt, *(child.attempt for child in children)])
            book.children = ()
        elif isinstance(event, events.OrderBroken):
            book.is_running = False

    def _assign(self, book: _Book, event: events.AttemptAssigned) -> None:
        if book.is_running:
            text = f"{event.order}: attempt {event.attempt} is assigned"
            self._tell(f"S5: {self._node}: {text}, while {self._running(book)}")
        if event.attempt != book.attempt + 1:
            self._tell(f"S5: {self._node}: {event.order}: attempt {event.attempt} follows attempt {book.attempt}")
        book.attempt, book.is_running = event.attempt, True
        self.assigned[event.order, book.added, event.attempt] = event.subagent
        self.latest[event.order, event.attempt] = book.added

    def _running(self, book: _Book) -> str:
        return f"attempt {book.attempt} runs" if book.is_running else f"none runs (the last was {book.attempt})"


class Ledger:
    """Everything durable that the invariants speak of, over all nodes, and the truth about the processes."""

    def __init__(self, agent_of: Callable[[str], str | None], breaches: Breaches) -> None:
        """`agent_of`: subagent → the agent it belongs to."""
        self.breaches = breaches
        self._agent_of = agent_of
        self._books: dict[str, AttemptBook] = {}
        self._tips: dict[str, int] = {}  # node → highest durable index ever seen
        self._promised: dict[str, int] = {}  # node → highest index that somebody outside was shown
        self._started: dict[Attempt, ProcessGroup] = {}
        self._latest: dict[tuple[OrderId, int], ProcessGroup] = {}
        self._events: dict[str, list[tuple[int, list[Event]]]] = {}  # of nodes whose log may lose its tail

    def follow(self, node: str) -> None:
        """Remember what is durable on a node, whose log may lose its tail or be replaced: half of a pair."""
        self._events[node] = []

    def durable(self, node: str, index: int, found: Iterable[Event]) -> None:
        """Take in a record that is durable on a node."""
        book, known = self._book(node), list(found)
        for event in known:
            book.note(event, index)
        self._tips[node] = index
        if node in self._events:
            self._events[node].append((index, known))

    def dropped(self, node: str, index: int) -> None:
        """The records of a node above an index are gone: what they said of attempts was never so."""
        self._rebuild(node, [one for one in self._events[node] if one[0] <= index])
        self._tips[node] = min(index, self._tips.get(node, 0))

    def installed(self, node: str, source: str, index: int) -> None:
        """A snapshot of another node's log has taken the place of a node's own."""
        self._rebuild(node, [one for one in self._events[source] if one[0] <= index])
        self._tips[node] = index

    def _rebuild(self, node: str, records: list[tuple[int, list[Event]]]) -> None:
        self._events[node] = records
        book = AttemptBook(node, lambda _: None)  # all of it was told before
        for index, found in records:
            for event in found:
                book.note(event, index)
        book.speak(self.breaches.tell, partial(self._ended, node))
        self._books[node] = book

    def _book(self, node: str) -> AttemptBook:
        if node not in self._books:
            self._books[node] = AttemptBook(node, self.breaches.tell, partial(self._ended, node))
        return self._books[node]

    def shown(self, node: str, index: int, what: str) -> None:
        """S7: somebody outside was shown a record of a node; it must be durable there by now."""
        self._promised[node] = max(self._promised.get(node, 0), index)
        if index > self._tips.get(node, 0):
            tip = self._tips.get(node, 0)
            self.breaches.tell(f"S7: {node} shows record {index} ({what}) while its durable log ends at {tip}")

    def promised(self, node: str) -> int:
        """The highest index of a node that somebody outside holds durably or was told of; 0 when none."""
        return self._promised.get(node, 0)

    def lost_power(self, node: str, tip: int) -> None:
        """S7: after a crash a node's log must still hold everything it has shown."""
        promised = self._promised.get(node, 0)
        if tip < promised:
            self.breaches.tell(f"S7: {node} has lost record {promised}, which it had shown; its log ends at {tip}")
        if tip < self._tips.get(node, 0):
            self.breaches.tell(f"S7: {node} has lost durable records: {self._tips[node]} became {tip}")

    # --- processes

    def _ended(self, node: str, attempt: Attempt, outcome: Outcome) -> None:
        """S5: an attempt ends as its own process did, after it, and with its return code.

        Without a process it was a callable, which has no return code, or it was killed before it began. How a process
        ended may be unknown, but not while it runs.
        """
        group, code = self._started.get(attempt), outcome.return_code
        if group is None:
            truth = "" if code is None or outcome.kind is OutcomeKind.KILLED else "no such process ever began"
        elif group.is_running:
            truth = "its process runs"
        else:
            is_true = outcome.kind is OutcomeKind.UNKNOWN or group.code == code
            truth = "" if is_true else f"its process ended with {group.code}"
        if truth:
            self.breaches.tell(f"S5: {node} journals the end of {attempt_key(*attempt)} ({outcome}), but {truth}")

    def added_of(self, order: str, attempt: int) -> int:
        """Return which order of this id has such an attempt: `added` of the newest; 0 when none was assigned."""
        return max([book.latest.get((order, attempt), 0) for book in self._books.values()], default=0)

    def begun(self, group: ProcessGroup) -> None:
        """S5: a process has begun; it must be the only one of its attempt and of its order, and was to be started."""
        order, added, number = attempt = parse_attempt_key(group.key)
        agent = self._agent_of(group.machine)
        if agent is None:
            self.breaches.tell(f"S5: {group.key} runs on {group.machine}, which is no subagent")
            return
        chosen = self._book(agent).assigned.get(attempt)
        if chosen is None:
            self.breaches.tell(f"S5: {group.key} was started on {group.machine} without a durable AttemptAssigned")
        elif chosen != group.machine:
            self.breaches.tell(f"S5: {group.key} was started on {group.machine}, assigned was {chosen}")
        if (before := self._started.get(attempt)) is not None:
            self.breaches.tell(f"S5: {group.key} was started twice, on {before.machine} and on {group.machine}")
        latest = self._latest.get((order, added))
        if latest is not None and latest.is_running:
            self.breaches.tell(
                f"S5: attempt {number} of {order} began while attempt {latest.attempt} was still running"
            )
        self._started[attempt] = group
        self._latest[order, added] = group


def bound_breaches(node: str, statistics: dict[str, int]) -> Iterable[str]:
    """S9: yield what is beyond its bound in a node's own statistics."""
    bounds = {
        "mailbox": MAILBOX_LENGTH_MAX,
        "batches_in_flight": BATCHES_IN_FLIGHT_MAX + BATCHES_URGENT_MAX,
        "unanswered": COMMANDS_UNANSWERED_MAX,
    }
    for name, most in bounds.items():
        if statistics.get(name, 0) > most:
            yield f"S9: {node}: {name} is {statistics[name]}, the most is {most}"
