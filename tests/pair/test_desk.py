"""What a person asks a node of a pair: its status in every state, a switch-over, a forced takeover.

Tests: engine/pair/desk.py, engine/pair/status.py, engine/pair/forcing.py, engine/pair/node.py
"""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from engine.base.codec import encode
from engine.base.pair import AnyPairMessage, Beat, Ownership
from engine.base.pair_query import PAIR_QUERY_BYTES_MAX, GetPairStatus, decode_pair_answer
from engine.base.problem import Problem, Refused
from engine.base.wire import Accepted, Identity
from engine.client.pair import PairClient, PairUnreachable
from engine.pair.peer import CLIENTS_MAX, Terms
from engine.pair.peer import encode as encode_pair
from engine.rules.pair.times import Times
from engine.runtime.link import Link
from engine.runtime.mailbox import Work
from tests.pair.pairs import CLUSTER, A, B, Pair, PairWorld
from tests.pair.test_peer import sides
from tests.runtime.linked import pass_ms, until, virtual
from tests.support.counting import Add


def now_ms() -> float:
    return asyncio.get_running_loop().time() * 1_000


async def refusal(asking: Awaitable[Any]) -> Problem:
    with pytest.raises(Refused) as caught:
        await asking
    return caught.value.problem


@virtual
async def test_both_nodes_tell_what_they_are_in_every_state() -> None:
    async with Pair() as pair:
        before = await pair.status(A)
        assert (before.state, before.acts, before.epoch, before.owner, before.insync) == ("standby", False, 0, "", ())
        await pair.init()
        await pair.couple()
        await pair.a.add(5)
        await pass_ms(2_500)
        own, other = await pair.status(A), await pair.status(B)
        assert (own.state, own.acts, own.owner, own.node, own.role) == ("coupled", True, A, A, "counter")
        assert (other.state, other.acts, other.owner, other.epoch) == ("standby", False, A, own.epoch)
        assert [one.node for one in own.insync] == [A, B]
        assert (own.is_in_sync, other.is_in_sync) == (True, True)
        tip = pair.a.disk.image()[0]
        assert (own.journal.last, own.journal.commit, other.journal.last, other.journal.commit) == (tip,) * 4
        assert (own.peer.node, own.peer.connected, own.peer.problem, own.peer.acknowledged) == (B, True, None, tip)
        assert own.peer.store == other.store
        assert (own.register.state, own.times["beat_ms"], own.warnings, own.malformed) == ("reachable", 1_000, (), 0)
        await pair.b.crash()
        await until(lambda: pair.a.status == "solo")
        await until(lambda: not pair.a.node.is_connected)
        alone = await pair.status(A)
        assert (alone.state, alone.acts, [one.node for one in alone.insync]) == ("solo", True, [A])
        assert alone.peer.problem is not None
        assert not alone.peer.connected


@virtual
async def test_a_fenced_owner_answers_about_itself() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        client = pair.ask(A)
        await client.status()
        pair.cell.down = True
        pair.network.cut(A, B)
        await until(lambda: pair.a.status == "fenced")
        fenced = await client.status()
        await pass_ms(12_000)
        later = await client.status()
        assert (fenced.state, fenced.acts) == ("fenced", False)
        assert (later.register.state, later.register.sentence) == ("unreachable", "it is down")
        assert any("The register of pair c gives no answer. it is down" in one for one in later.alarms)
        told = [one for one in later.alarms if "gives no answer" in one]
        assert len(told) == 1, "once for an outage"
        pair.cell.down = False
        pair.network.heal()
        await pair.couple()
        await pass_ms(11_000)
        assert (await client.status()).register.state == "reachable"


@virtual
async def test_the_register_is_looked_at_when_somebody_asks() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        client = pair.ask(A)
        await client.status()
        await pass_ms(3_000)
        asked = len(pair.cell.asked)
        old = await client.status()
        await pass_ms(10)
        assert 2_000 < old.register.silent_ms < 10_000
        assert len(pair.cell.asked) > asked
        assert (await client.status()).register.silent_ms < 100


# --- switching over


@virtual
async def test_a_switch_over_leaves_nobody_acting_for_less_than_a_beat_and_loses_nothing() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        feed = pair.a.node.role.feed
        waiting = [pair.a.add(1) for _ in range(200)]
        assert pair.a.loop.turns.index > 0
        sentence = await pair.ask(A).switch_over()
        stopped = now_ms()
        assert "offers the pair to B" in sentence
        assert [one.result() for one in waiting] == [Accepted(one.result().index, 0) for one in waiting]
        assert feed.tip.index == pair.a.disk.image()[0]
        await until(lambda: pair.b.status == "coupled" and pair.b.node.loop is not None)
        gap_ms = now_ms() - stopped
        assert gap_ms < 400, "of virtual time"
        assert pair.b.loop.state.total == 200
        await pair.b.add(1)
        await until(pair.is_same)
        assert pair.a.drains == [True]


@virtual
async def test_what_comes_while_it_stops_is_not_decided() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        pair.b.disk.gate.clear()  # the last answer takes a while
        first = pair.a.add(1)
        await pass_ms(20)
        switching = asyncio.ensure_future(pair.ask(A).switch_over())
        await until(lambda: pair.a.drains == [True])
        role = pair.a.node.role
        late = asyncio.get_running_loop().create_future()
        role.loop.post(Work(Add(7), done=late.set_result))
        await pass_ms(100)
        assert not first.done()
        assert not switching.done()
        pair.b.disk.gate.set()
        await switching
        assert isinstance(first.result(), Accepted)
        await until(lambda: pair.b.status == "coupled" and pair.b.node.loop is not None)
        assert pair.b.loop.state.total == 1
        assert not isinstance(late.result(), Accepted)


@virtual
async def test_who_can_not_stop_in_time_goes_on_and_says_why() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        client = pair.ask(A)
        await client.status()
        pair.b.disk.gate.clear()
        stuck = pair.a.add(1)
        await pass_ms(20)
        began = now_ms()
        first, second = await asyncio.gather(refusal(client.switch_over()), refusal(pair.ask(A).switch_over()))
        assert {first.code, second.code} == {"DrainTimedOut", "AlreadyHandingOver"}
        assert now_ms() - began < 3_100
        assert "not everything it has decided was acknowledged" in first.sentence + second.sentence
        assert (pair.a.status, pair.a.drains) == ("coupled", [True, False])
        after = pair.a.add(2)
        pair.b.disk.gate.set()
        await asyncio.gather(stuck, after)
        assert (pair.a.loop.state.total, pair.a.ended) == (3, [])


@virtual
async def test_a_switch_over_that_nobody_takes_is_given_up() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        client = pair.ask(A)
        await client.status()
        pair.cell.deaf = []
        pair.network.cut_one_way(A, B)  # the offer is lost; the lease still holds
        await client.switch_over()
        assert pair.a.status == "yielded"
        await pair.b.crash()
        pair.network.heal()
        await until(lambda: pair.a.status == "solo" and pair.a.node.loop is not None, 30_000)
        await pair.a.add(1)
        await pair.b.boot()
        await pair.couple()


@virtual
async def test_only_a_coupled_owner_hands_over() -> None:
    async with Pair() as pair:
        nobody = await refusal(pair.ask(A).switch_over())
        assert nobody.code == "NotTheOwner"
        assert "nobody yet" in nobody.sentence
        await pair.init()
        await pair.couple()
        standby = await refusal(pair.ask(B).switch_over())
        assert standby.code == "NotTheOwner"
        assert "B does not own the pair (standby); ask A, the owner of epoch" in standby.sentence
        await pair.b.crash()
        await until(lambda: pair.a.status == "solo")
        alone = await refusal(pair.ask(A).switch_over())
        assert (alone.code, "it is solo" in alone.sentence) == ("NotHandedOver", True)


# --- forcing


async def a_pair_whose_owner_is_lost(pair: Pair) -> None:
    """A acted alone for a while, took what B never got, and is dead; B is back, out of sync."""
    await pair.init()
    await pair.couple()
    await pair.a.add(1)
    await pair.b.crash()
    await until(lambda: pair.a.status == "solo")
    await pair.a.add(10)
    await pair.a.crash()
    await pair.b.boot()
    await until(lambda: pair.b.replica.me.cfg is not None and not pair.b.replica.me.cfg.has(pair.b.replica.who.member))


@virtual
async def test_a_forced_node_acts_and_its_journal_says_what_may_be_lost() -> None:
    async with Pair() as pair:
        await a_pair_whose_owner_is_lost(pair)
        client = pair.ask(B)
        unsaid = await refusal(client.force_take_over(peer_is_off=False))
        assert (unsaid.code, "say that A is off" in unsaid.sentence) == ("ForceRefused", True)
        last, epoch = pair.b.disk.image()[0], pair.b.replica.me.epoch
        sentence = await client.force_take_over(peer_is_off=True)
        assert f"Its journal ends at record {last}; of the journal of A nothing is known" in sentence
        await until(lambda: pair.b.status == "solo" and pair.b.node.loop is not None)
        await pair.b.add(100)
        assert pair.b.loop.state.total == 101, "what A took alone is lost"
        status = await client.status()
        assert status.epoch == status.forced_epoch == pair.b.loop.state.forced_epoch == epoch + 1_000
        began, forced = (
            pair.b.loop.machine.decode_events(one.events) for one in pair.b.disk.records()[last : last + 2]
        )
        assert [type(one).__name__ for one in (*began, *forced)] == ["Began", "Forced"]
        assert (forced[0].own_last, forced[0].peer_last) == (last, -1)
        again = await refusal(client.force_take_over(peer_is_off=True))
        assert "it is solo, so it owns the pair already" in again.sentence
        pair.a.disk._durable.records.clear()
        pair.a.disk._durable.cells.clear()
        pair.a.disk.crash()
        await pair.a.boot()
        await pair.couple()
        await until(pair.is_same)


@virtual
async def test_a_node_that_dies_while_it_is_forced_journals_it_all_the_same_and_once() -> None:
    async with Pair() as pair:
        await a_pair_whose_owner_is_lost(pair)
        await pair.ask(B).force_take_over(peer_is_off=True)
        await until(lambda: pair.b.status == "pending")
        await pair.b.crash()
        await pair.b.boot()
        await until(lambda: pair.b.status == "solo" and pair.b.node.loop is not None)
        await pair.b.add(1)
        await pair.b.crash()
        await pair.b.boot()
        await until(lambda: pair.b.status == "solo" and pair.b.node.loop is not None)
        await pair.b.add(1)
        records = [pair.b.loop.machine.decode_events(one.events) for one in pair.b.disk.records()]
        kinds = [type(event).__name__ for record in records for event in record]
        assert kinds.count("Forced") == 1
        assert pair.b.loop.state.forced_epoch < pair.b.replica.me.epoch


@virtual
async def test_a_force_whose_question_never_arrived_leaves_no_trace() -> None:
    async with Pair() as pair:
        await a_pair_whose_owner_is_lost(pair)
        pair.cell.down = True
        unheard = await refusal(pair.ask(B).force_take_over(peer_is_off=True))
        assert "the register has not given it the pair. it is down See its status" in unheard.sentence
        pair.cell.down = False
        await pass_ms(5_000)
        status = await pair.status(B)
        assert (status.state, status.forced_epoch) == ("standby", 0)
        await pair.a.boot()
        await pair.couple()
        assert pair.a.loop.state.forced_epoch == 0


@virtual
async def test_forced_twice_at_once_is_forced_once_and_journaled() -> None:
    async with Pair() as pair:
        await a_pair_whose_owner_is_lost(pair)
        replica, epoch, cas, answers = pair.b.replica, pair.b.replica.me.epoch, pair.cell.cas, asyncio.Event()

        async def slow_cas(expected: Ownership, new: Ownership) -> Ownership | None:
            await answers.wait()
            return await cas(expected, new)

        pair.cell.cas = slow_cas  # type: ignore[method-assign]
        assert await replica.force_take_over()
        pair.b.disk.gate.clear()  # the cell of the second is being written while the register answers the first
        second = asyncio.ensure_future(replica.force_take_over())
        await pass_ms(5)
        answers.set()
        await until(lambda: replica.me.writing)
        pair.b.disk.gate.set()
        assert await second
        await until(lambda: pair.b.status == "solo" and pair.b.node.loop is not None)
        await pair.b.add(1)
        assert (await pair.status(B)).forced_epoch == pair.b.loop.state.forced_epoch == epoch + 1_000


@virtual
async def test_nobody_is_forced_who_need_not_or_must_not_be() -> None:
    async with Pair() as pair:
        early = await refusal(pair.ask(B).force_take_over(peer_is_off=True))
        assert "A is connected right now" in early.sentence
        await pair.init()
        await pair.couple()
        connected = await refusal(pair.ask(B).force_take_over(peer_is_off=True))
        assert "A is connected right now, so it is not off" in connected.sentence
        client = pair.ask(B)
        await client.status()
        pair.cell.down = True
        await pair.a.crash()
        await until(lambda: not pair.b.node.is_connected, 20_000)
        complete = await refusal(client.force_take_over(peer_is_off=True))
        assert "its data is complete, so it takes over by itself" in complete.sentence
        pair.cell.down = False
        await until(lambda: pair.b.status == "solo", 20_000)


@virtual
async def test_a_node_that_was_told_nothing_by_the_register_is_not_forced() -> None:
    async with Pair() as pair:
        await pair.a.crash()
        await until(lambda: not pair.b.node.is_connected, 20_000)
        unknown = await refusal(pair.ask(B).force_take_over(peer_is_off=True))
        assert "it knows no value of the register" in unknown.sentence
        await pair.a.boot()


@virtual
async def test_a_node_whose_register_fell_back_is_seeded_and_not_forced() -> None:
    async with Pair() as pair:
        await a_pair_whose_owner_is_lost(pair)
        pair.cell.value = None
        await until(lambda: pair.b.replica.me.register_lost, 20_000)
        lost = await refusal(pair.ask(B).force_take_over(peer_is_off=True))
        assert "the register has lost its state; seed it" in lost.sentence


# --- who asks, and how much


@virtual
async def test_nonsense_is_refused_and_the_session_goes_on() -> None:
    async with Pair() as pair:
        client = pair.ask(A)
        await client.link.until_coupled()
        for raw in (encode(["Nonsense"]), encode({}), b"\x01", encode(["GetPairStatus", "x" * PAIR_QUERY_BYTES_MAX])):
            answer = decode_pair_answer(await client.link.ask(raw))
            assert isinstance(answer, Problem)
            assert answer.code == "PairQueryUnreadable"
        assert (await client.status()).node == A
        reply = await client.link.request(b"\x01")
        assert isinstance(reply, Problem)
        assert reply.code == "PeersTakeNoCommands"


@virtual
async def test_a_person_is_never_heard_as_the_peer() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        client = pair.ask(A)
        await client.link.until_coupled()
        client.link.post(encode_pair(Terms(Times())))
        client.link.post(encode_pair(Beat(99, 1, 1)))
        await pass_ms(100)
        assert (pair.a.status, pair.a.ended) == ("coupled", [])
        assert (await client.status()).malformed == 2


@virtual
async def test_so_many_may_ask_at_once_and_the_peer_is_among_none_of_them() -> None:
    async with Pair() as pair:
        clients = [pair.ask(A) for _ in range(CLIENTS_MAX)]
        await asyncio.gather(*(one.status() for one in clients))
        one_more = pair.ask(A)
        with pytest.raises(PairUnreachable, match="There are 32 who ask about this pair already"):
            await one_more.status()
        await clients[0].close()
        assert (await one_more.status()).node == A
        await pair.init()
        await pair.couple()


@virtual
async def test_so_many_questions_are_under_way_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.pair.desk.OPEN_MAX", 1)
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        pair.b.disk.gate.clear()
        pair.a.add(1)
        await pass_ms(20)
        client = pair.ask(A)
        await client.status()
        codes = {one.code for one in await asyncio.gather(*(refusal(client.switch_over()) for _ in range(2)))}
        assert codes == {"DrainTimedOut", "PairBusy"}
        pair.b.disk.gate.set()


@virtual
async def test_a_node_of_another_role_is_no_person() -> None:
    async with Pair() as pair:
        lost: list[Problem] = []
        link = Link(
            PairWorld("x", 1, pair.network),
            ("sim://A",),
            Identity(CLUSTER, "agent", "x"),
            peer_role="counter",
            on_failure=pair.failures.append,
            on_lost=lost.append,
        )
        link.start()
        await until(lambda: lost != [])
        assert lost[0].code == "NotMyPeer"
        await link.close()


@virtual
async def test_without_a_desk_questions_are_refused() -> None:
    async with sides() as (network, a, _b):
        client = PairClient(PairWorld("p", 1, network), "sim://A", CLUSTER, "counter", on_failure=a.failures.append)
        client.start()
        await client.link.until_coupled()
        answer = decode_pair_answer(await client.link.ask(encode(GetPairStatus())))
        assert isinstance(answer, Problem)
        assert answer.code == "NoQueries"
        await client.close()


@virtual
async def test_who_asks_all_the_time_does_not_keep_an_offer_from_being_repeated() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        client = pair.ask(A)
        await client.status()
        pair.network.cut_one_way(A, B)  # the first offer is lost
        pair.cell.down = True  # and no answer says when the register was heard
        await client.switch_over()
        sent: list[str] = []
        peer: Any = pair.a.node._peer
        send = peer.send

        def counted(message: AnyPairMessage) -> bool:
            sent.append(type(message).__name__)
            return bool(send(message))

        peer.send = counted
        for _ in range(200):
            await client.status()
            await pass_ms(10)
        assert sent.count("Yield") >= 2
        pair.cell.down = False
        pair.network.heal()


@virtual
async def test_alarms_that_take_turns_are_told_once_and_again_after_a_while() -> None:
    async with Pair() as pair:
        replica = pair.a.replica
        for _ in range(50):
            replica.alarm("one")
            replica.alarm("two")
        assert [one for one in replica.alarms if one in ("one", "two")] == ["one", "two"]
        await pass_ms(700_000)
        replica.alarm("one")
        assert replica.alarms[-1] == "one"
        assert replica.alarms.count("one") == 1
