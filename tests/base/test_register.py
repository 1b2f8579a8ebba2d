"""The questions to a register: their bytes, and which values none of them can keep.

Tests: engine/base/register.py
"""

import msgpack
import pytest

from engine.base.codec import DecodeError, encode
from engine.base.pair import Member, Ownership
from engine.base.problem import Problem
from engine.base.register import (
    AnyRegisterAnswer,
    AnyRegisterQuery,
    CasOwnership,
    CreateOwnership,
    OwnershipNow,
    ReadOwnership,
    RegisterCounts,
    RegisterStatus,
    SeedOwnership,
    decode_register_answer,
    decode_register_query,
    ownership_fault,
)

A = Ownership("c", 1, "a", (Member("a", "s"),), 5)
B = Ownership("c", 2, "b", (Member("a", "s"), Member("b", "t")), 6)
A_PACKED = ["c", 1, "a", [["a", "s"]], 5]
B_PACKED = ["c", 2, "b", [["a", "s"], ["b", "t"]], 6]

# The bytes on the wire, as another implementation of MessagePack reads them: they must not change by accident.
QUERIES: list[tuple[AnyRegisterQuery, list[object]]] = [
    (CreateOwnership(A), ["CreateOwnership", A_PACKED]),
    (ReadOwnership("c"), ["ReadOwnership", "c"]),
    (CasOwnership(A, B), ["CasOwnership", A_PACKED, B_PACKED]),
    (SeedOwnership(B), ["SeedOwnership", B_PACKED]),
    (RegisterStatus(), ["RegisterStatus"]),
]
ANSWERS: list[tuple[AnyRegisterAnswer, list[object]]] = [
    (OwnershipNow(A), ["OwnershipNow", A_PACKED]),
    (OwnershipNow(None), ["OwnershipNow", None]),
    (RegisterCounts("w", {"open": 1}, ("controller/a",)), ["RegisterCounts", "w", {"open": 1}, ["controller/a"]]),
    (Problem("Code", "Sentence."), ["Problem", "Code", "Sentence.", {}]),
]


@pytest.mark.parametrize(("query", "packed"), QUERIES)
def test_questions_keep_their_bytes_and_later_fields_are_skipped(query: AnyRegisterQuery, packed: list[object]) -> None:
    assert msgpack.unpackb(encode(query)) == packed
    assert decode_register_query(encode(query)) == query
    assert decode_register_query(msgpack.packb([*packed, "later"])) == query


@pytest.mark.parametrize(("answer", "packed"), ANSWERS)
def test_answers_keep_their_bytes_and_later_fields_are_skipped(answer: AnyRegisterAnswer, packed: list[object]) -> None:
    assert msgpack.unpackb(encode(answer)) == packed
    assert decode_register_answer(encode(answer)) == answer
    assert decode_register_answer(msgpack.packb([*packed, "later"])) == answer


@pytest.mark.parametrize("raw", [b"", b"\x01", b"\x91\xa4Nope", msgpack.packb(["ReadOwnership", 7]), b"\xdc\xff\xff"])
def test_what_is_no_question_is_refused(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_register_query(raw)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"epoch": 0}, "its epoch 0 is not between"),
        ({"epoch": 2**31}, "its epoch 2147483648 is not between"),
        ({"nonce": -1}, "its nonce -1 is not between"),
        ({"nonce": 2**63}, "its nonce 9223372036854775808 is not between"),
        ({"insync": ()}, "0 members are in sync"),
        ({"insync": tuple(Member(name, "s") for name in "abc")}, "3 members are in sync"),
        ({"cluster": ""}, "its names"),
        ({"cluster": "x" * 101}, "its names"),
        ({"owner": "a\nb"}, "its names"),
        ({"owner": "\ud800"}, "its names"),
        ({"insync": (Member("a", ""),)}, "its names"),
        ({"insync": (Member("x" * 101, "s"),)}, "its names"),
    ],
)
def test_what_no_register_keeps_is_said(changes: dict[str, object], fault: str) -> None:
    fields = {name: getattr(A, name) for name in A.__struct_fields__}
    found = ownership_fault(Ownership(**(fields | changes)))
    assert found is not None
    assert fault in found


def test_an_ordinary_value_can_be_kept() -> None:
    assert ownership_fault(A) is None
    assert ownership_fault(B) is None
    assert ownership_fault(Ownership("c" * 100, 2**31 - 1, "ä b", (Member("a", "s"),), 2**63 - 1)) is None
