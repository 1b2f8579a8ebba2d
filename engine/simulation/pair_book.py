"""PairBook: what must hold for a pair at every step: S1, S2, S3, S4, S7. Floor 10.

* It believes the disks, the register's own history, and who did what when; a node's role and lease are looked at only
  to ask whether a second one could act at the same instant.
* An index counts as acknowledged from the moment in which it was shown to anybody. From then on it has to be in the
  durable log of every member that the register calls in sync, and of everybody who acts, with the same bytes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from engine.base.pair import Ownership
from engine.journal.memory import Image
from engine.pair.cells import STORE_ID
from engine.ports import Record
from engine.rules.pair.state import LEASED, Pair, Role
from engine.simulation.checkers import Breaches

Content = tuple[int, bytes, bytes]  # epoch, events, marks


def content(record: Record) -> Content:
    """Return what two records at one index must have in common."""
    return (record.epoch, record.events, record.marks)


def could_act(me: Pair, now_ms: int) -> bool:
    """Tell whether a node may act by what it knows at this instant of its own clock."""
    return me.role is Role.SOLO or (me.role in LEASED and now_ms < me.lease_ms)


def record_at(image: Image, index: int) -> Record | None:
    """Return a durable record; None where it is not, or was trimmed."""
    place = index - image.base.index - 1
    return image.records[place] if 0 <= place < len(image.records) else None


class PairBook:
    """The accounts of one pair."""

    def __init__(
        self,
        images: Mapping[str, Callable[[], Image]],
        value: Callable[[], Ownership | None],
        breaches: Breaches,
    ) -> None:
        """`images`: node → what is durable there now. `value`: what the register holds now."""
        self.acknowledged: list[Content] = []  # of index 1 and up
        self._images = images
        self._read = value
        self._given_value: Ownership | None = None  # the newest that was ever given
        self._breaches = breaches
        self._owners: dict[int, tuple[str, int]] = {}  # epoch → node and incarnation that acted in it
        self._given: dict[int, tuple[str, int]] = {}  # epoch → to whom the register gave it
        self._given_last = 0
        self._latest = 0  # the highest epoch in which anybody acted
        self._compared: dict[str, int] = {}  # node → up to here its log was compared, as far as it calls acknowledged

    # --- S1, S2

    def given(self, value: Ownership) -> None:
        """S2: the register has a new value."""
        owner = (value.owner, value.nonce)
        if value.epoch <= self._given_last:
            self._breaches.tell(f"S2: the register gives epoch {value.epoch} after {self._given_last}")
        self._given_last, self._given_value = value.epoch, value
        self._given[value.epoch] = owner
        for member in value.insync:
            self.must_hold_all(member.node, f"in sync in epoch {value.epoch}", member.store)

    def acts(self, node: str, incarnation: int, epoch: int, what: str, others: Sequence[tuple[str, Pair, int]]) -> None:
        """S1: a node acts at this instant. `others`: who else lives, what it knows, and what its clock shows."""
        me = (node, incarnation)
        if epoch < self._latest:
            who, _ = self._owners[self._latest]
            self._breaches.tell(f"S1: {node} acts in epoch {epoch} ({what}) after {who} acted in epoch {self._latest}")
        self._latest = max(self._latest, epoch)
        if self._owners.setdefault(epoch, me) != me:
            self._breaches.tell(
                f"S2: {node}, incarnation {incarnation}, and {self._owners[epoch]} act in epoch {epoch}"
            )
        if self._given.get(epoch) != me:
            given = self._given.get(epoch)
            self._breaches.tell(f"S2: {node}, incarnation {incarnation}, acts in epoch {epoch}, given to {given}")
        for other, other_me, now_ms in others:
            if could_act(other_me, now_ms):
                state = f"{other_me.role} in epoch {other_me.epoch}"
                self._breaches.tell(f"S1: {node} acts in epoch {epoch} ({what}) while {other} may act, {state}")

    # --- S3, S4

    def _value(self) -> Ownership | None:
        """What the register has said last; one that fell back says what was true once and is not now (R13)."""
        value, newest = self._read(), self._given_value
        return newest if newest is not None and (value is None or value.epoch < newest.epoch) else value

    def shows(self, node: str, upto: int, what: str) -> None:
        """S3: a node shows its records up to an index: they are acknowledged now, and must be wherever they have to."""
        image, first = self._images[node](), len(self.acknowledged) + 1
        for index in range(first, upto + 1):
            record = record_at(image, index)
            if record is None:
                tip = image.tip.index
                self._breaches.tell(f"S7: {node} shows record {index} ({what}) while its durable log ends at {tip}")
                return
            self.acknowledged.append(content(record))
        value = self._value()
        if value is None:
            return
        for member in value.insync:
            self._must_hold(member.node, first, upto, f"in sync in epoch {value.epoch}", member.store)

    def shows_records(self, node: str, records: Sequence[Record]) -> None:
        """S3: a node shows these very records to whoever reads its feed."""
        self.shows(node, records[-1].index, "the feed")
        for record in records:
            if record.index <= len(self.acknowledged) and self.acknowledged[record.index - 1] != content(record):
                self._breaches.tell(
                    f"S3: {node} shows record {record.index}; another one was acknowledged there before"
                )

    def shown(self, index: int, what: str) -> None:
        """S7: somebody outside was shown a record; it must have been acknowledged by then."""
        if index > len(self.acknowledged):
            self._breaches.tell(f"S7: record {index} is shown ({what}); {len(self.acknowledged)} are acknowledged")

    def must_hold_all(self, node: str, reason: str, store: str | None = None) -> None:
        """S3: a node that is in sync, or begins to act, holds everything that was acknowledged."""
        self._must_hold(node, 1, len(self.acknowledged), reason, store)

    def holds_all(self, node: str) -> bool:
        """Tell whether a node's durable log has everything that was acknowledged."""
        image, last = self._images[node](), len(self.acknowledged)
        record = record_at(image, last)
        return last <= image.base.index or (record is not None and content(record) == self.acknowledged[-1])

    def accept_loss(self, node: str) -> int:
        """R14: a person has forced a node to take over: what only the other one had is lost; returns how much.

        From then on that was never acknowledged, and nothing more than that may be missing.
        """
        image, kept = self._images[node](), len(self.acknowledged)
        while kept > image.base.index and (
            (one := record_at(image, kept)) is None or content(one) != self.acknowledged[kept - 1]
        ):
            kept -= 1
        lost = len(self.acknowledged) - kept
        del self.acknowledged[kept:]
        return lost

    def _must_hold(self, node: str, first: int, last: int, reason: str, store: str | None = None) -> None:
        image = self._images[node]()
        if store is not None and image.cells.get(STORE_ID) != store.encode():
            return  # another disk than the one that was meant (R16)
        for index in range(max(first, image.base.index + 1), last + 1):
            record = record_at(image, index)
            if record is None:
                tip = image.tip.index
                self._breaches.tell(f"S3: {node} is {reason}, its durable log ends at {tip}; {index} was acknowledged")
                return
            if content(record) != self.acknowledged[index - 1]:
                self._breaches.tell(f"S3: {node} is {reason} and has another record {index} than was acknowledged")
                return

    def dropped(self, node: str, index: int) -> int:
        """S3: a node has dropped its records above an index; returns how many of them nobody had acknowledged."""
        self._compared[node] = min(self._compared.get(node, 0), index)
        value = self._value()
        if value is not None and index < len(self.acknowledged):
            mine = [one for one in value.insync if one.node == node]
            if mine:
                self.must_hold_all(node, f"in sync in epoch {value.epoch}", mine[0].store)
        return index

    def knows(self, node: str, commit: int) -> None:
        """S4: a node calls its records up to an index acknowledged: they must be those that were."""
        image, last = self._images[node](), min(commit, len(self.acknowledged))
        for index in range(max(self._compared.get(node, 0), image.base.index) + 1, last + 1):
            record = record_at(image, index)
            if record is None or content(record) != self.acknowledged[index - 1]:
                here = "nothing" if record is None else f"one of epoch {record.epoch}"
                self._breaches.tell(f"S4: {node} takes record {index} for acknowledged and has {here} there")
                return
        self._compared[node] = max(self._compared.get(node, 0), last)

    def differences(self) -> Iterator[str]:
        """S4: at rest the logs of both are the same."""
        (one, mine), (other, theirs) = ((name, image()) for name, image in self._images.items())
        if mine.tip != theirs.tip:
            yield f"S4: the log of {one} ends at {mine.tip.index}, that of {other} at {theirs.tip.index}"
        for index in range(max(mine.base.index, theirs.base.index) + 1, min(mine.tip.index, theirs.tip.index) + 1):
            if record_at(mine, index) != record_at(theirs, index):
                yield f"S4: record {index} of {one} is another than that of {other}"
                return
