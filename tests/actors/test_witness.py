"""The witness: whom it lets in, what it refuses, how it ends.

Tests: actors/witness.py
"""

import asyncio
import sqlite3
from collections.abc import Awaitable
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest

import actors.witness
from actors.witness import PAIR_ROLES, Witness
from engine.base.codec import encode
from engine.base.pair import Ownership
from engine.base.problem import Problem
from engine.base.register import (
    QUERY_BYTES_MAX,
    CreateOwnership,
    OwnershipNow,
    ReadOwnership,
    decode_register_answer,
)
from engine.base.tasks import TaskScope
from engine.base.wire import Identity
from engine.boot import boot_witness, dial_register
from engine.journal.register import open_sqlite_register
from engine.journal.register_file import FILE_NAME
from engine.journal.sqlite_thread import inline_place
from engine.ports import RegisterUnreachable, StoreFault
from engine.ports import World as FullWorld
from engine.real import RealPlace
from engine.runtime.link import Link, LinkLost
from engine.simulation.register import RegisterFaults, SimRegister
from tests.house.leaks import open_files
from tests.journal.registers import NodeWorld, WitnessSite, asker, owned
from tests.runtime.linked import CLUSTER, Wires, World, pass_ms, until, virtual
from tests.support.linear import History, Recorded, fault_in


async def site(tmp_path: Path) -> WitnessSite:
    place = WitnessSite(Wires("memory"), tmp_path)
    await place.boot()
    return place


def link_to(wires: Wires, role: str, node: str = "a") -> Link:
    """A link by hand, for questions that no LinkRegister asks."""
    world = World(node, wires.of(node))
    identity = Identity(CLUSTER, role, node, 1)
    link = Link(world, [wires.url("w")], identity, peer_role="witness", on_failure=_raise)
    link.start()
    return link


def _raise(error: BaseException) -> None:
    raise error


async def problem_of(asking: Awaitable[bytes]) -> Problem:
    answer = decode_register_answer(await asking)
    assert isinstance(answer, Problem)
    return answer


@pytest.mark.parametrize("role", PAIR_ROLES)
@virtual
async def test_nodes_of_pairs_are_let_in(role: str, tmp_path: Path) -> None:
    place = await site(tmp_path)
    assert await place.at("a", role).create(owned(1)) == owned(1)
    status = await place.at("a", role).status()
    assert (status.node, status.peers) == ("w", (f"{role}/a",))
    assert (status.counts["answered"], status.counts["changes"], status.counts["sessions"]) == (1, 1, 1)
    await place.close()


@virtual
async def test_a_node_asks_for_itself_only_and_a_person_for_nobody(tmp_path: Path) -> None:
    place = await site(tmp_path)
    await place.at("person", "client").create(owned(1))
    for name, role in (("b", "controller"), ("person", "client"), ("a", "client")):
        with pytest.raises(RegisterUnreachable, match=f"{name} asked that a own pair pair"):
            await place.at(name, role).cas(owned(1), owned(2))
    assert await place.at("b").read("pair") == owned(1)
    links = place.links
    place.links = {}
    assert await place.at("a").cas(owned(1), owned(2)) == owned(2)
    assert await place.at("person", "client").seed(owned(7)) == owned(7)
    place.links = {**{f"first {name}": link for name, link in links.items()}, **place.links}
    await place.close()


@pytest.mark.parametrize("role", ["subagent", "director", "witness", "cockpit"])
@virtual
async def test_others_are_not(role: str, tmp_path: Path) -> None:
    place = await site(tmp_path)
    link = link_to(place.wires, role)
    await until(lambda: link.problem is not None)
    assert link.problem is not None
    assert link.problem.code == "NotOfAPair"
    await link.close()
    await place.close()


@virtual
async def test_what_is_no_question_is_refused_and_the_session_goes_on(tmp_path: Path) -> None:
    place = await site(tmp_path)
    link = link_to(place.wires, "agent")
    await link.until_coupled()
    raws = [encode(["Nonsense", 1]), encode({"a": 1}), encode(ReadOwnership("x" * QUERY_BYTES_MAX)), b"\x01"]
    for raw in raws:
        assert (await problem_of(link.ask(raw))).code == "QueryUnreadable"
    huge = msgpack_cas(epoch=2**64 - 1)
    assert decode_register_answer(await link.ask(huge)) == OwnershipNow(None)
    reply = await link.request(encode(["AddOrder"]))
    assert isinstance(reply, Problem)
    assert reply.code == "NoCommands"
    status = place.witness.status()
    assert status.counts["refused"] == len(raws)
    assert place.ended == []
    await link.close()
    await place.close()


def msgpack_cas(epoch: int) -> bytes:
    return encode(["CasOwnership", ["pair", epoch, "a", [["a", "s"]], 2**64 - 1], encode_value(owned(2))])


def encode_value(value: Ownership) -> list[object]:
    return [value.cluster, value.epoch, value.owner, [[one.node, one.store] for one in value.insync], value.nonce]


def sim_site(register: SimRegister, ended: list[BaseException], wires: Wires) -> Any:
    async def opened(_: str) -> SimRegister:
        return register

    world = cast("FullWorld", NodeWorld("w", wires.of("w")))
    return boot_witness(world, wires.url("w"), CLUSTER, ended.append, "", opened)


@virtual
async def test_questions_under_way_are_bounded_over_all_sessions() -> None:
    wires = Wires("memory")
    ended: list[BaseException] = []
    slow = SimRegister(Random(1), RegisterFaults(delay_ms_min=500.0, delay_ms_max=600.0))
    witness = await sim_site(slow, ended, wires)
    links = [link_to(wires, "agent", name) for name in ("a", "b")]
    scope = TaskScope("asking", ended.append)
    monkey = pytest.MonkeyPatch()
    monkey.setattr(actors.witness, "QUERIES_OPEN_MAX", 5)
    for link in links:
        await link.until_coupled()
    query = encode(ReadOwnership("pair"))
    asking = [scope.start(link.ask(query), "ask") for link in links for _ in range(4)]
    await pass_ms(100)
    assert witness.status().counts["open"] == 5
    answers = [decode_register_answer(one) for one in await asyncio.gather(*asking)]
    assert sum(isinstance(one, Problem) and one.code == "WitnessBusy" for one in answers) == 3
    assert sum(isinstance(one, OwnershipNow) for one in answers) == 5
    await scope.close()
    for link in links:
        await link.close()
    await witness.close()
    monkey.undo()
    assert ended == []


@virtual
async def test_what_its_register_does_not_know_is_answered_as_not_known() -> None:
    wires = Wires("memory")
    ended: list[BaseException] = []
    witness = await sim_site(SimRegister(Random(1), RegisterFaults(answer_lost_rate=1.0)), ended, wires)
    link = link_to(wires, "agent")
    await link.until_coupled()
    assert (await problem_of(link.ask(encode(CreateOwnership(owned(1)))))).code == "OutcomeUnknown"
    assert witness.register.now("pair") == owned(1)
    assert witness.status().counts["unknown"] == 1
    await link.close()
    await witness.close()
    assert ended == []


@virtual
async def test_a_question_is_carried_out_although_its_session_is_over() -> None:
    wires = Wires("memory")
    ended: list[BaseException] = []
    slow = SimRegister(Random(1), RegisterFaults(delay_ms_min=500.0, delay_ms_max=600.0))
    witness = await sim_site(slow, ended, wires)
    link = link_to(wires, "agent")
    await link.until_coupled()
    scope = TaskScope("asking", lambda _: None)
    asking = scope.start(link.ask(encode(CreateOwnership(owned(1)))), "ask")
    await pass_ms(100)
    await link.close()
    with pytest.raises(LinkLost):
        await asking
    await until(lambda: slow.now("pair") == owned(1))
    await until(lambda: witness.status().counts["open"] == 0)
    await scope.close()
    await witness.close()
    assert ended == []


@virtual
async def test_a_damaged_register_ends_the_node_and_nothing_is_answered(tmp_path: Path) -> None:
    place = await site(tmp_path)
    one = place.at("a")
    await one.create(owned(1))
    with closing(sqlite3.connect(Path(place.folder) / FILE_NAME, isolation_level=None)) as other:
        other.execute("UPDATE register SET epoch = 9")
    with pytest.raises(RegisterUnreachable):
        await one.cas(owned(9), owned(10))
    assert [type(one) for one in place.ended] == [StoreFault]
    assert "the row of 'pair'" in str(place.ended[0])
    await place.witness.close()
    with pytest.raises(StoreFault, match="the row of 'pair'"):
        await place.boot()
    place.ended.clear()
    await place.close()


@virtual
async def test_an_address_that_is_taken_leaves_nothing_open(tmp_path: Path) -> None:
    place = await site(tmp_path)
    world = cast("FullWorld", NodeWorld("v", place.wires.of("v")))
    opening = partial(open_sqlite_register, dial=inline_place)
    second = str(tmp_path / "second")
    with pytest.raises(OSError, match="in use"):
        await boot_witness(world, place.wires.url("w"), CLUSTER, place.ended.append, second, opening)
    assert not [one for one in open_files() if one.startswith(second)]
    with pytest.raises(StoreFault, match="in use by this very process"):
        await boot_witness(world, place.wires.url("v"), CLUSTER, place.ended.append, place.folder)
    await place.close()


@virtual
async def test_it_can_be_closed_with_questions_under_way_and_closed_twice(tmp_path: Path) -> None:
    place = await site(tmp_path)
    one = place.at("a")
    await one.create(owned(1))
    scope = TaskScope("asking", lambda _: None)
    asking = [scope.start(one.cas(owned(1), owned(2)), "ask") for _ in range(10)]
    await asyncio.sleep(0)
    await place.witness.close()
    await place.witness.close()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert all(each == owned(2) or isinstance(each, RegisterUnreachable) for each in results)
    await place.boot()
    value = await one.read("pair")
    assert value in {owned(1), owned(2)}
    assert value == owned(2) or owned(2) not in results
    await scope.close()
    await place.close()


async def test_a_real_one_with_threads_answers_many_and_is_there_again_after_a_restart(tmp_path: Path) -> None:
    place = RealPlace(tmp_path / "state")
    told: list[BaseException] = []
    folder = str(tmp_path / "state" / "w" / "register")
    history = History()

    async def boot() -> Witness:
        return await boot_witness(place.node_world("w", "w"), "memory://w", CLUSTER, told.append, folder)

    witness = await boot()
    links = [
        dial_register(place.node_world(name, name), "agent", ["memory://w"], CLUSTER, told.append) for name in "abcd"
    ]
    askers = [
        asker(Recorded(link, history, name), name, Random(name), 40, ("pair",))
        for name, link in zip("abcd", links, strict=True)
    ]
    await asyncio.gather(*askers)
    last = await links[0].read("pair")
    assert last is not None
    assert last.epoch > 5
    await witness.close()
    witness = await boot()
    for link in links:
        await link.link.until_coupled()
        assert await Recorded(link, history, "after").read("pair") == last
    assert fault_in(history.calls) is None
    for link in links:
        await link.close()
    await witness.close()
    place.close()
    assert told == []
