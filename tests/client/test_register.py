"""LinkRegister: every way in which no answer comes is RegisterUnreachable, with the sentence that a person needs.

Tests: engine/client/register.py
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest

import engine.runtime.queries
from engine.base.codec import encode
from engine.base.register import RegisterCounts
from engine.base.tasks import TaskScope
from engine.base.wire import Identity
from engine.boot import boot_witness
from engine.client.register import ANSWER_MS_MAX, LinkRegister
from engine.ports import RegisterUnreachable
from engine.ports import World as FullWorld
from engine.simulation.register import RegisterFaults, SimRegister
from tests.journal.registers import NodeWorld, WitnessSite, owned
from tests.runtime.linked import CLUSTER, Lower, Wires, World, pass_ms, until, virtual


async def site(tmp_path: Path) -> WitnessSite:
    place = WitnessSite(Wires("sim"), tmp_path)
    await place.boot()
    return place


def dialled(wires: Wires, failures: list[BaseException], cluster: str = CLUSTER, role: str = "agent") -> LinkRegister:
    identity = Identity(cluster, role, "a", 1)
    register = LinkRegister(World("a", wires.of("a")), [wires.url("w")], identity, on_failure=failures.append)
    register.start()
    return register


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual
async def test_with_nobody_there_it_gives_up_in_time_and_says_why() -> None:
    failures: list[BaseException] = []
    register = dialled(Wires("memory"), failures)
    began = now()
    with pytest.raises(RegisterUnreachable, match=r"No answer came within 2000 ms\. The connection broke: .*w"):
        await register.read("pair")
    assert now() - began == pytest.approx(ANSWER_MS_MAX / 1_000)
    await register.close()
    assert failures == []


@pytest.mark.parametrize(
    ("cluster", "role", "sentence"),
    [
        ("elsewhere", "agent", "This node belongs to cluster test, not elsewhere"),
        (CLUSTER, "subagent", "a witness is asked by controllers and agents only"),
    ],
)
@virtual
async def test_a_refusal_that_a_person_must_see_keeps_its_sentence(
    cluster: str, role: str, sentence: str, tmp_path: Path
) -> None:
    place = await site(tmp_path)
    register = dialled(place.wires, place.failures, cluster, role)
    with pytest.raises(RegisterUnreachable, match=sentence):
        await register.read("pair")
    await register.close()
    await place.close()


@virtual
async def test_another_role_at_that_address_is_named() -> None:
    wires = Wires("memory")
    lower = await Lower(wires.of("w"), url=wires.url("w"), node="w").open()
    register = dialled(wires, lower.failures)
    with pytest.raises(RegisterUnreachable, match="there is test/lower/w, not test/witness/w"):
        await register.read("pair")
    await register.close()
    await lower.close()
    assert lower.failures == []


@virtual
async def test_it_comes_back_by_itself_when_the_witness_does(tmp_path: Path) -> None:
    place = await site(tmp_path)
    register = place.at("a")
    assert await register.create(owned(1)) == owned(1)
    await place.witness.close()
    with pytest.raises(RegisterUnreachable):
        await register.cas(owned(1), owned(2))
    await place.boot()
    await register.link.until_coupled()
    assert await register.read("pair") == owned(1)
    assert isinstance(await register.status(), RegisterCounts)
    await place.close()


@virtual
async def test_a_slow_answer_is_not_waited_for_and_does_not_answer_the_next_question(tmp_path: Path) -> None:
    wires, ended = Wires("memory"), list[BaseException]()
    kept = SimRegister(Random(1), RegisterFaults(delay_ms_min=1_100.0, delay_ms_max=1_200.0, answer_ms_max=60_000.0))

    async def opened(_: str) -> SimRegister:
        return kept

    world = cast("FullWorld", NodeWorld("w", wires.of("w")))
    witness = await boot_witness(world, wires.url("w"), CLUSTER, ended.append, "", opened)
    register = dialled(wires, ended)
    with pytest.raises(RegisterUnreachable, match=r"No answer came within 2000 ms\.$"):
        await register.create(owned(1))
    kept.faults = RegisterFaults()
    assert await register.create(owned(5, "b")) == owned(1)
    await pass_ms(5_000)
    assert await register.cas(owned(1), owned(2)) == owned(2)
    await register.close()
    await witness.close()
    assert ended == []


@virtual
async def test_closing_tells_whoever_waits_and_whoever_comes_later(tmp_path: Path) -> None:
    failures: list[BaseException] = []
    register = dialled(Wires("memory"), failures)
    scope = TaskScope("asking", lambda _: None)
    asking = scope.start(register.read("pair"), "ask")
    await pass_ms(10)
    await register.close()
    for one in (asking, register.read("pair")):
        with pytest.raises(RegisterUnreachable, match="This side closed the link"):
            await one
    await register.close()
    await scope.close()
    assert failures == []


def answers(answer: Callable[[bytes], bytes]) -> Callable[..., None]:
    def ask(_session: object, _number: int, raw: bytes, respond: Callable[[bytes], None]) -> None:
        respond(answer(bytes(raw)))

    return ask


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (encode(["Nonsense"]), "can not be read: Invalid value 'Nonsense'"),
        (encode(["OwnershipNow", ["pair"]]), "can not be read: "),
        (encode(RegisterCounts("w", {}, ())), "Its answer is RegisterCounts where OwnershipNow was due"),
        (encode(["Problem", "Code", "A sentence for a person."]), "A sentence for a person.$"),
        (encode(["OwnershipNow", None]), "no value for what it was just given"),
    ],
)
@virtual
async def test_an_answer_that_can_not_be_is_none(body: bytes, sentence: str) -> None:
    wires = Wires("memory")
    lower = Lower(wires.of("w"), url=wires.url("w"), node="w", ask=answers(lambda _: body))
    await lower.open()
    register = LinkRegister(
        World("a", wires.of("a")),
        [wires.url("w")],
        Identity(CLUSTER, "agent", "a", 1),
        on_failure=lower.failures.append,
        peer_role="lower",
    )
    register.start()
    with pytest.raises(RegisterUnreachable, match=sentence):
        await register.create(owned(1))
    await register.close()
    await lower.close()
    assert lower.failures == []


@virtual
async def test_too_many_questions_are_refused_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = await site(tmp_path)
    register = place.at("a")
    await register.create(owned(1))
    monkeypatch.setattr(engine.runtime.queries, "QUERIES_WAITING_MAX", 3)
    scope = TaskScope("asking", lambda _: None)
    asking: list[Any] = [scope.start(register.read("pair"), "ask") for _ in range(5)]
    results = await asyncio.gather(*asking, return_exceptions=True)
    refused = [one for one in results if isinstance(one, RegisterUnreachable)]
    assert ["queries waiting for an answer already" in str(one) for one in refused] == [True, True]
    assert results.count(owned(1)) == 3
    with pytest.raises(RegisterUnreachable, match="can not be read"):
        await register.read("\ud800")
    with pytest.raises(RegisterUnreachable, match="the most is"):
        await register.read("x" * (17 << 20))
    await scope.close()
    await until(lambda: place.witness.status().counts["open"] == 0)
    await place.close()
