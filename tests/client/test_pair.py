"""PairClient: every way in which no answer comes is PairUnreachable, with the sentence that a person needs.

Tests: engine/client/pair.py, engine/base/pair_query.py
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from engine.base.codec import encode
from engine.base.pair import Member
from engine.base.pair_query import (
    PAIR_QUERY_BYTES_MAX,
    ForceTakeOver,
    GetPairStatus,
    PairDone,
    PairStatus,
    SwitchOver,
    decode_pair_answer,
    decode_pair_query,
)
from engine.base.problem import EngineClosed
from engine.base.tasks import TaskScope
from engine.client.pair import ANSWER_MS_MAX, PairClient, PairUnreachable
from engine.pair.peer import Peer
from tests.pair.pairs import CLUSTER, A, Pair, PairWorld
from tests.pair.test_peer import sides
from tests.runtime.linked import pass_ms, until, virtual


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual
async def test_with_nobody_there_it_gives_up_in_time_and_says_why() -> None:
    async with Pair() as pair:
        await pair.a.crash()
        began = now()
        with pytest.raises(
            PairUnreachable, match=r"sim://A gave no answer that counts\. No answer came within 10000 ms\. "
        ):
            await pair.status(A)
        assert now() - began == pytest.approx(ANSWER_MS_MAX / 1_000)
        await pair.a.boot()


@virtual
async def test_another_cluster_is_told() -> None:
    async with Pair() as pair:
        with pytest.raises(PairUnreachable, match="This node belongs to cluster c, not elsewhere"):
            await pair.status(A, "elsewhere")


@virtual
async def test_who_waits_when_it_is_closed_is_told() -> None:
    async with Pair() as pair:
        await pair.a.crash()
        client = pair.ask(A)
        scope = TaskScope("asking", pair.failures.append)
        found: list[Exception] = []

        async def asks() -> None:
            try:
                await client.status()
            except PairUnreachable as error:
                found.append(error)

        scope.start(asks(), "ask")
        await pass_ms(10)
        await client.close()
        with pytest.raises(PairUnreachable, match="This side closed the link"):
            await client.status()
        await until(lambda: found != [], 20_000)
        await scope.close()
        await pair.a.boot()


class Odd:
    """A node that answers what it should not."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def ask(self, _session: Any, _number: int, _raw: Any, answer: Callable[[bytes], None]) -> None:
        answer(self.body)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (encode(["Nonsense"]), "Its answer can not be read"),
        (encode(PairDone("x")), "Its answer is PairDone where PairStatus was due"),
    ],
)
@virtual
async def test_answers_that_are_none(body: bytes, sentence: str) -> None:
    async with sides() as (network, a, _b):
        peer: Peer = a.peer
        peer._reception._ask = Odd(body).ask
        client = PairClient(PairWorld("p", 1, network), "sim://A", CLUSTER, "counter", on_failure=a.failures.append)
        client.start()
        with pytest.raises(PairUnreachable, match=sentence):
            await client.status()
        await client.close()


@virtual
async def test_the_end_of_our_own_world_is_told() -> None:
    async with sides() as (network, a, _b):
        world = PairWorld("p", 1, network)
        client = PairClient(world, "sim://A", CLUSTER, "counter", on_failure=a.failures.append, answer_ms_max=500)
        client.start()

        async def ended(query: bytes) -> bytes:
            raise EngineClosed("it was revoked")

        client.link.ask = ended  # type: ignore[method-assign]
        with pytest.raises(PairUnreachable, match="it was revoked"):
            await client.status()
        await client.close()


def test_queries_are_short_and_come_back_as_they_were() -> None:
    for query in (GetPairStatus(), SwitchOver(), ForceTakeOver(True), ForceTakeOver()):
        raw = encode(query)
        assert decode_pair_query(raw) == query
        assert len(raw) < PAIR_QUERY_BYTES_MAX / 4
    assert decode_pair_query(encode(["ForceTakeOver"])) == ForceTakeOver(False), "nothing is taken for granted"


@virtual
async def test_a_status_comes_back_as_it_was() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        status = pair.a.node.status()
        assert decode_pair_answer(encode(status)) == status
        assert isinstance(status, PairStatus)
        assert status.is_in_sync
        assert Member(A, status.store) in status.insync
