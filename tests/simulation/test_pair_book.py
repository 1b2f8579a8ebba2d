"""The accounts of a pair: each check complains of what it is there for, and of nothing else."""

from typing import Any

import pytest

from engine.base.ids import OrderId, SubagentId
from engine.base.pair import Member, Ownership
from engine.journal.memory import Image
from engine.model import event as events
from engine.model.event import Event
from engine.model.outcome import SUCCEEDED
from engine.model.position import FIRST
from engine.model.workflow import WorkflowId
from engine.pair.cells import STORE_ID
from engine.ports import Record, Tip
from engine.rules.pair.state import Pair, Role
from engine.simulation.checkers import Breaches, Ledger
from engine.simulation.pair_book import PairBook, could_act

A, B = "controller", "controller-2"
O = OrderId("o")


class Planted:
    """Two disks and a register, as a test wants them."""

    def __init__(self) -> None:
        self.images = {A: Image(), B: Image()}
        for name, image in self.images.items():
            image.cells[STORE_ID] = f"store of {name}".encode()
        self.value: Ownership | None = None
        self.breaches = Breaches()
        images: dict[str, Any] = {name: lambda image=image: image for name, image in self.images.items()}
        self.book = PairBook(images, lambda: self.value, self.breaches)

    def give(self, epoch: int, owner: str, *insync: str, nonce: int = 1) -> None:
        members = tuple(Member(one, f"store of {one}") for one in insync)
        self.value = Ownership("c", epoch, owner, members, nonce)
        self.book.given(self.value)

    def write(self, node: str, *records: tuple[int, int, bytes]) -> None:
        self.images[node].records += [Record(index, epoch, events, b"", events) for index, epoch, events in records]

    def acts(self, node: str, epoch: int, incarnation: int = 1, others: Any = ()) -> None:
        self.book.acts(node, incarnation, epoch, "acts", others)


@pytest.fixture
def planted() -> Planted:
    found = Planted()
    found.give(1, A, A, B)
    found.write(A, (1, 1, b"x"), (2, 1, b"y"))
    found.write(B, (1, 1, b"x"), (2, 1, b"y"))
    return found


def test_a_pair_that_does_everything_right_is_left_alone(planted: Planted) -> None:
    planted.acts(A, 1)
    planted.book.shows(A, 2, "an answer")
    planted.book.shown(2, "an answer")
    planted.book.knows(B, 2)
    planted.give(2, B, B)
    planted.acts(B, 2)
    planted.book.dropped(A, 1)  # out of sync: it may
    del planted.images[A].records[1:]
    planted.write(A, (2, 1, b"y"))
    planted.give(3, B, A, B)
    assert planted.breaches == []
    assert list(planted.book.differences()) == []


def test_s1_who_acts_after_a_later_owner_has_acted_is_told(planted: Planted) -> None:
    planted.acts(A, 1)
    planted.give(2, B, B)
    planted.acts(B, 2)
    planted.acts(A, 1)
    assert planted.breaches == ["S1: controller acts in epoch 1 (acts) after controller-2 acted in epoch 2"]


def test_s1_a_second_one_that_may_act_at_the_same_instant_is_told(planted: Planted) -> None:
    other = Pair(role=Role.COUPLED, lease_ms=5_000)
    planted.acts(A, 1, others=[(B, other, 5_000)])
    assert planted.breaches == []
    planted.acts(A, 1, others=[(B, other, 4_999)])
    assert planted.breaches == ["S1: controller acts in epoch 1 (acts) while controller-2 may act, coupled in epoch 0"]


def test_who_may_act_by_its_role_and_its_lease() -> None:
    assert could_act(Pair(role=Role.SOLO), 10)
    assert could_act(Pair(role=Role.JOINING, lease_ms=11), 10)
    assert not could_act(Pair(role=Role.JOINING, lease_ms=10), 10)
    for role in (Role.STANDBY, Role.PENDING, Role.YIELDED, Role.ENDED):
        assert not could_act(Pair(role=role, lease_ms=99), 10)


def test_s2_two_owners_of_an_epoch_and_epochs_that_do_not_rise_are_told(planted: Planted) -> None:
    planted.acts(A, 1)
    planted.acts(A, 1, incarnation=2)
    assert [one.partition(":")[0] for one in planted.breaches] == ["S2", "S2"]
    assert "given to ('controller', 1)" in planted.breaches[1]
    planted.give(1, B, B)
    assert planted.breaches[2] == "S2: the register gives epoch 1 after 1"


def test_s3_what_is_shown_must_be_on_every_disk_in_sync(planted: Planted) -> None:
    del planted.images[B].records[1:]
    planted.book.shows(A, 1, "an answer")
    assert planted.breaches == []
    planted.book.shows(A, 2, "an answer")
    assert planted.breaches == ["S3: controller-2 is in sync in epoch 1, its durable log ends at 1; 2 was acknowledged"]


def test_s3_the_same_index_has_the_same_bytes_everywhere(planted: Planted) -> None:
    planted.images[B].records[1] = Record(2, 1, b"z", b"", b"z")
    planted.book.shows(A, 2, "an answer")
    assert planted.breaches == ["S3: controller-2 is in sync in epoch 1 and has another record 2 than was acknowledged"]
    assert list(planted.book.differences()) == [
        "S4: the log of controller ends at 2, that of controller-2 at 2",
        "S4: record 2 of controller is another than that of controller-2",
    ]
    planted.book.shows_records(B, planted.images[B].records)
    assert "S3: controller-2 shows record 2; another one was acknowledged there before" in planted.breaches


def test_s3_who_is_called_in_sync_or_begins_to_act_must_hold_everything(planted: Planted) -> None:
    planted.book.shows(A, 2, "an answer")
    del planted.images[B].records[1:]
    planted.book.dropped(B, 1)
    planted.book.must_hold_all(B, "acting in epoch 2")
    planted.give(2, B, B)
    reasons = [one.partition(", its")[0] for one in planted.breaches]
    assert reasons == [f"S3: {B} is {why}" for why in ("in sync in epoch 1", "acting in epoch 2", "in sync in epoch 2")]


def test_s3_another_disk_than_the_one_in_sync_is_not_meant(planted: Planted) -> None:
    planted.book.shows(A, 1, "an answer")
    planted.images[B].records.clear()
    planted.images[B].cells[STORE_ID] = b"another"
    planted.book.shows(A, 2, "an answer")
    assert planted.breaches == []


def test_s4_what_a_node_calls_acknowledged_must_be_what_was(planted: Planted) -> None:
    planted.book.shows(A, 2, "an answer")
    planted.book.knows(B, 2)
    assert planted.breaches == []
    planted.book.dropped(B, 1)
    planted.images[B].records[1] = Record(2, 2, b"y", b"", b"q")
    planted.book.knows(B, 2)
    assert planted.breaches[-1] == "S4: controller-2 takes record 2 for acknowledged and has one of epoch 2 there"


def test_s7_what_is_shown_must_be_acknowledged_and_durable(planted: Planted) -> None:
    planted.book.shown(1, "the answer")
    assert planted.breaches == ["S7: record 1 is shown (the answer); 0 are acknowledged"]
    planted.book.shows(A, 3, "an answer")
    assert planted.breaches[1] == "S7: controller shows record 3 (an answer) while its durable log ends at 2"


def test_a_snapshot_stands_for_what_it_covers(planted: Planted) -> None:
    planted.book.shows(A, 2, "an answer")
    image = planted.images[B]
    image.base, image.records = Tip(2, 1, b"y"), []
    planted.book.must_hold_all(B, "in sync")
    planted.book.knows(B, 2)
    assert planted.breaches == []


# --- S5: what the ledger makes of logs that lose their tails ----------------------------------------------------------


def added() -> Event:
    return events.OrderAdded(O, 0, WorkflowId("w@1"), {})


def assigned(attempt: int) -> Event:
    return events.AttemptAssigned(O, 0, FIRST, attempt, SubagentId("a-1"))


def ended(attempt: int) -> Event:
    return events.AttemptEnded(O, 0, attempt, SUCCEEDED)


def test_s5_what_a_dropped_tail_said_of_attempts_was_never_so() -> None:
    book = Ledger({"a-1": "a"}.get, Breaches())
    book.follow("c")
    book.durable("c", 1, [added(), assigned(1)])
    book.durable("c", 2, [ended(1), assigned(2)])
    book.dropped("c", 1)
    told = list(book.breaches)
    book.durable("c", 2, [ended(1)])
    book.durable("c", 3, [assigned(2)])
    book.lost_power("c", 3)
    assert book.breaches == told, "the second attempt was assigned once only"
    book.durable("c", 4, [assigned(2)])
    assert len(book.breaches) > len(told)


def test_s5_a_snapshot_says_of_attempts_what_the_log_said_that_it_is_of() -> None:
    book = Ledger({"a-1": "a"}.get, Breaches())
    book.follow("c")
    book.follow("d")
    book.durable("c", 1, [added(), assigned(1)])
    book.installed("d", "c", 1)
    told = list(book.breaches)
    book.durable("d", 2, [assigned(1)])
    assert len(book.breaches) > len(told)


def test_s3_a_register_that_fell_back_makes_nobody_in_sync_again(planted: Planted) -> None:
    before = planted.value
    planted.give(2, A, A)
    planted.value = before
    planted.write(A, (3, 2, b"z"))
    planted.book.shows(A, 3, "an answer")
    assert planted.breaches == []
    planted.value = None
    planted.book.dropped(A, 2)
    assert planted.breaches == []
    planted.images[A].records.pop()
    planted.book.dropped(A, 2)
    assert any("controller is in sync in epoch 2, its durable log ends at 2" in one for one in planted.breaches)


def test_s3_what_a_person_has_given_up_may_be_missing_and_nothing_more(planted: Planted) -> None:
    planted.book.shows(A, 2, "an answer")
    assert planted.book.holds_all(B)
    planted.give(2, A, A)
    planted.write(A, (3, 2, b"z"), (4, 2, b"z"))
    planted.book.shows(A, 4, "an answer")
    assert not planted.book.holds_all(B)
    assert planted.book.accept_loss(B) == 2
    assert planted.book.holds_all(B)
    planted.give(1_002, B, B)
    assert planted.breaches == []
    planted.images[B].records.pop()
    planted.book.must_hold_all(B, "acting")
    assert any("controller-2 is acting" in one for one in planted.breaches)
