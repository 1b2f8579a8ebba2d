import struct
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.journal.record import EMPTY_TIP, ChainBroken, check, digest, link, record_hash
from engine.ports import Entry, Record, StoreFault, Tip
from tests.journal.stores import entries


def test_the_frame_is_fixed() -> None:
    # Written down once, by hand: a changed frame makes every journal in the world unreadable.
    framed = b"before-before-16" + struct.pack("<QQI", 7, 3, 5) + b"marks" + b"events"
    assert record_hash(b"before-before-16", 7, 3, b"marks", b"events") == blake2b(framed, digest_size=16).digest()
    assert link(EMPTY_TIP, [Entry(1, 1, b"\x90")])[0].hash.hex() == "ce92ea0d853f8daf2771127e71a4103f"


def test_link_and_record_hash_agree() -> None:
    before = bytes(16)
    for record in link(EMPTY_TIP, entries(1, 9)):
        before = record_hash(before, record.index, record.epoch, record.marks, record.events)
        assert record.hash == before


def test_bytes_that_move_from_marks_to_events_change_the_hash() -> None:
    assert record_hash(bytes(16), 1, 1, b"ab", b"c") != record_hash(bytes(16), 1, 1, b"a", b"bc")
    assert digest(b"ab", b"c") != digest(b"a", b"bc")


@given(
    st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=30), st.binary(max_size=9)), max_size=20), st.integers()
)
def test_check_accepts_what_link_made_in_any_pieces(rows: list[tuple[int, bytes, bytes]], cut: int) -> None:
    epoch, made = 0, []
    for index, (rise, events, marks) in enumerate(rows, 1):
        epoch += rise
        made.append(Entry(index, epoch, events, marks))
    records = link(EMPTY_TIP, made)
    cut = cut % (len(records) + 1)
    tip = check(check(EMPTY_TIP, records[:cut]), records[cut:])
    assert tip == (Tip(records[-1].index, records[-1].epoch, records[-1].hash) if records else EMPTY_TIP)
    assert link(check(EMPTY_TIP, records[:cut]), made[cut:]) == records[cut:]


@pytest.mark.parametrize("field", ["index", "epoch", "events", "marks", "hash"])
@pytest.mark.parametrize("place", [0, 3, 6])
def test_any_change_of_a_record_is_found_and_named(field: str, place: int) -> None:
    records = link(EMPTY_TIP, entries(1, 7))
    parts = {name: getattr(records[place], name) for name in Record.__struct_fields__}
    value = parts[field]
    parts[field] = value + 1 if isinstance(value, int) else bytes([*value[:-1], (value or b"\0")[-1] ^ 4])
    records[place] = Record(**parts)
    with pytest.raises(ChainBroken) as caught:
        check(EMPTY_TIP, records)
    assert caught.value.index == place + 1


def test_a_missing_record_is_named() -> None:
    records = link(EMPTY_TIP, entries(1, 7))
    del records[3]
    with pytest.raises(ChainBroken, match="record 4 is missing"):
        check(EMPTY_TIP, records)


def test_a_repeated_record_is_named() -> None:
    records = link(EMPTY_TIP, entries(1, 3))
    with pytest.raises(ChainBroken, match="record 4 is followed by number 3"):
        check(EMPTY_TIP, [*records, records[-1]])


@pytest.mark.parametrize("wrong", [(1, 1, "text", b"", b""), (1, -1, b"", b"", b""), (1, 1, b"", 5, b"")])
def test_a_column_of_another_type_is_damage(wrong: tuple[Any, ...]) -> None:
    with pytest.raises(ChainBroken, match="record 1 holds something that is not a record"):
        check(EMPTY_TIP, [Record(*wrong)])


def test_a_falling_epoch_is_damage_even_with_a_right_hash() -> None:
    first = link(EMPTY_TIP, [Entry(1, 5, b"a")])
    second = Record(2, 4, b"b", b"", record_hash(first[0].hash, 2, 4, b"", b"b"))
    with pytest.raises(ChainBroken, match="record 2 has epoch 4 after epoch 5"):
        check(EMPTY_TIP, [*first, second])


def test_refusals_name_the_record_and_the_bound() -> None:
    with pytest.raises(StoreFault, match=r"^Record 5 was refused: the next record of the journal is 1\.$"):
        link(EMPTY_TIP, [Entry(5, 1, b"")])
    with pytest.raises(StoreFault, match=r"epoch 2 lies below 3"):
        link(Tip(1, 3, bytes(16)), [Entry(2, 2, b"")])
