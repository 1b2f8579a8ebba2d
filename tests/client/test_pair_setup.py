"""Telling a register who owns a pair: with two real nodes, and every nonsense refused with a sentence.

Tests: engine/client/pair_setup.py
"""

from collections.abc import Awaitable
from typing import Any

import pytest
from msgspec.structs import replace

from engine.base.pair import Member, Ownership
from engine.base.pair_query import PairStatus
from engine.base.problem import Problem, Refused
from engine.client.pair import PairUnreachable
from engine.client.pair_setup import ALONE_EPOCHS, SEED_EPOCHS, init_pair, seed_alone, seed_pair
from engine.rules.pair.state import Role
from tests.pair.pairs import A, B, Cell, Pair
from tests.runtime.linked import pass_ms, until, virtual


class Register(Cell):
    """The cell, and what an operator may do to it."""

    async def seed(self, value: Ownership) -> Ownership:
        if self.value is None or value.epoch > self.value.epoch:
            self.value = value
        return self.value


class Said:
    """A node that says what the test wants."""

    def __init__(self, status: PairStatus) -> None:
        self._status = status

    async def status(self) -> PairStatus:
        return self._status


async def pair_of(**options: Any) -> Pair:
    pair = Pair(**options)
    pair.cell = Register()
    return pair


async def why(asking: Awaitable[Ownership]) -> str:
    with pytest.raises(Refused) as caught:
        await asking
    assert caught.value.problem.code == "PairNotReady"
    return caught.value.problem.sentence


def register_of(pair: Pair) -> Register:
    assert isinstance(pair.cell, Register)
    return pair.cell


# --- the beginning


@virtual
async def test_a_pair_begins_with_the_first_and_the_other_is_filled() -> None:
    async with await pair_of() as pair:
        await until(lambda: pair.a.node.problem is None and pair.b.node.problem is None)
        own = await init_pair(register_of(pair), pair.ask(A), pair.ask(B))
        who = pair.a.replica.who
        assert own == Ownership("c", 1, A, (Member(A, who.store),), who.incarnation)
        await until(lambda: pair.a.status == "solo")
        assert pair.a.replica.me.epoch == 1, "its incarnation was told, so it needs no epoch of its own"
        await pair.couple()
        again = await why(init_pair(register_of(pair), pair.ask(A), pair.ask(B)))
        assert "A has obeyed epoch 2 of A already" in again


@virtual
async def test_what_is_there_is_never_overwritten() -> None:
    async with await pair_of() as pair:
        one, two = await pair.status(A), await pair.status(B)
        there = Ownership("c", 7, B, (Member(B, two.store),), 1)
        register = Register()
        register.value = there
        said = await why(init_pair(register, Said(clean(one)), Said(clean(two))))
        assert "it knows the pair already, epoch 7 belongs to B" in said
        assert register.value == there


def clean(status: PairStatus) -> PairStatus:
    return replace(status, peer=replace(status.peer, problem=None))


def journal(status: PairStatus, last: int, epoch: int) -> PairStatus:
    return replace(clean(status), journal=replace(status.journal, last=last, last_epoch=epoch))


@virtual
async def test_who_has_more_must_begin() -> None:
    async with await pair_of() as pair:
        one, two = await pair.status(A), await pair.status(B)
        more = Said(journal(two, 5, 3))
        said = await why(init_pair(Register(), Said(clean(one)), more))
        assert "the journal of B ends at record 5 of epoch 3, that of A at 0 of 0" in said
        own = await init_pair(Register(), more, Said(clean(one)))
        assert (own.owner, own.epoch) == (B, 4), "above what a node that was alone has written"


@virtual
async def test_nonsense_is_refused() -> None:
    async with await pair_of() as pair:
        one, two = clean(await pair.status(A)), clean(await pair.status(B))

        async def refused(first: PairStatus, second: PairStatus) -> str:
            return await why(init_pair(Register(), Said(first), Said(second)))

        assert "both addresses are those of A" in await refused(one, one)
        assert "A is of c/counter/c, and B is of d/counter/c" in await refused(one, replace(two, cluster="d"))
        other = replace(two, peer=replace(two.peer, node="C"))
        assert "the peer of A is B, that of B is C" in await refused(one, other)
        assert f"both disks are copies of one ({one.store})" in await refused(one, replace(two, store=one.store))
        angry = replace(two, peer=replace(two.peer, problem=Problem("TimesDiffer", "The times differ.")))
        assert "B says of A: The times differ." in await refused(one, angry)


@virtual
async def test_a_node_that_is_not_reached_keeps_everything_from_happening() -> None:
    async with await pair_of() as pair:
        await pair.b.crash()
        with pytest.raises(PairUnreachable, match="sim://B gave no answer"):
            await init_pair(register_of(pair), pair.ask(A), pair.ask(B))
        assert pair.cell.value is None
        await pair.b.boot()


# --- a register that lost what it knew


@virtual
async def test_an_acting_owner_goes_on_and_both_stay_in_sync() -> None:
    async with await pair_of() as pair:
        await pair.init()
        await pair.couple()
        await pair.a.add(1)
        pair.cell.value = None
        before = pair.a.replica.me.epoch
        await pass_ms(12_000)
        own = await seed_pair(register_of(pair), pair.ask(A), pair.ask(B))
        assert (own.epoch, own.owner, own.nonce) == (before + SEED_EPOCHS, A, pair.a.replica.who.incarnation)
        assert [one.node for one in own.insync] == [A, B]
        await until(lambda: pair.a.replica.me.epoch == own.epoch == pair.b.replica.me.epoch, 20_000)
        assert (pair.a.status, pair.a.ended, pair.b.ended) == ("coupled", [], [])
        assert not pair.a.replica.me.register_lost
        await pair.a.add(1)
        await pair.a.crash()
        await until(lambda: pair.b.status == "solo" and pair.b.node.loop is not None)
        assert pair.b.loop.state.total == 2, "and a second fault is survived again"


@virtual
async def test_another_nonce_would_end_an_acting_owner() -> None:
    """What `is_mine` asks: docs/register.md says to seed with the incarnation of who acts."""
    async with await pair_of() as pair:
        await pair.init()
        await pair.couple()
        known = pair.cell.value
        assert known is not None
        pair.cell.value = replace(known, epoch=known.epoch + 5, nonce=0)
        await until(lambda: pair.a.ended != [], 20_000)
        assert str(pair.a.ended[0]) == f"A owns epoch {known.epoch + 5}"
        await pair.couple()


@virtual
async def test_one_that_acts_alone_stays_alone_in_sync() -> None:
    async with await pair_of() as pair:
        await pair.init()
        await pair.couple()
        pair.network.cut(A, B)
        await until(lambda: pair.a.status == "solo")
        await pair.a.add(1)
        pair.cell.value = None
        own = await seed_pair(register_of(pair), pair.ask(A), pair.ask(B))
        assert (own.owner, [one.node for one in own.insync]) == (A, [A])
        await until(lambda: pair.a.replica.me.epoch == own.epoch, 20_000)
        pair.network.heal()
        await pair.couple()


@virtual
async def test_after_both_crashed_the_newest_value_counts() -> None:
    async with await pair_of() as pair:
        await pair.init()
        await pair.couple()
        for half in (pair.a, pair.b):
            await half.crash()
        pair.cell.value = None
        for half in (pair.a, pair.b):
            await half.boot()
        await until(lambda: pair.b.replica.me.register_lost and pair.a.replica.me.register_lost)
        own = await seed_pair(register_of(pair), pair.ask(A), pair.ask(B))
        assert (own.owner, len(own.insync), own.nonce) == (A, 2, pair.a.replica.who.incarnation)
        await pair.couple()


@virtual
async def test_a_register_that_lost_nothing_is_left_alone() -> None:
    async with await pair_of() as pair:
        await pair.init()
        await pair.couple()
        said = await why(seed_pair(register_of(pair), pair.ask(A), pair.ask(B)))
        assert f"it has lost nothing: it gives epoch {pair.a.replica.me.epoch} to A" in said
        assert pair.a.replica.me.role is Role.COUPLED


@virtual
async def test_seeding_nonsense_is_refused() -> None:
    async with await pair_of() as pair:
        empty = (clean(await pair.status(A)), clean(await pair.status(B)))
        await pair.init()
        await pair.couple()
        one, two = await pair.status(A), await pair.status(B)

        async def refused(first: PairStatus, second: PairStatus) -> str:
            return await why(seed_pair(Register(), Said(first), Said(second)))

        both = replace(two, state="solo", epoch=9, owner=B)
        assert f"both nodes claim the pair (A epoch {one.epoch}, B epoch 9)" in await refused(one, both)
        assert "A acts in epoch" in await refused(one, replace(two, epoch=9))
        assert "neither A nor B ever obeyed" in await refused(*empty)
        replaced = replace(one, state="standby", store="another")
        assert "has another disk now" in await refused(replaced, two)
        stranger = [replace(each, state="standby", owner="C") for each in (one, two)]
        assert "of C, which is neither of the two" in await refused(stranger[0], stranger[1])
        assert "both addresses are those of A" in await refused(one, one)
        taken = Register()
        taken.value = Ownership("c", 1, A, one.insync[:1], 0)

        async def deaf(value: Ownership) -> Ownership:
            return taken.value  # type: ignore[return-value]

        taken.seed = deaf  # type: ignore[method-assign]
        assert "it says epoch 1 of A meanwhile" in await why(seed_pair(taken, Said(one), Said(two)))


@virtual
async def test_one_that_is_left_alone_is_seeded_far_above() -> None:
    async with await pair_of() as pair:
        await pair.init()
        await pair.couple()
        await pair.a.add(1)
        assert "say that A is off" in await why(seed_alone(register_of(pair), pair.ask(B), peer_is_off=False))
        connected = await why(seed_alone(register_of(pair), pair.ask(B), peer_is_off=True))
        assert "A is connected to B right now" in connected
        pair.cell.value = None
        await pair.a.crash()
        await until(lambda: not pair.b.node.is_connected, 20_000)
        highest = pair.b.replica.me.highest
        own = await seed_alone(register_of(pair), pair.ask(B), peer_is_off=True)
        assert (own.epoch, own.owner) == (highest + ALONE_EPOCHS, B)
        await until(lambda: pair.b.status == "solo" and pair.b.node.loop is not None, 20_000)
        assert pair.b.loop.state.total == 1


@virtual
async def test_a_register_of_forced_controllers_is_seeded_though_it_reads_as_if_nothing_were_lost() -> None:
    async with await pair_of() as pair:
        await pair.init()
        await pair.couple()
        register, before = register_of(pair), pair.a.replica.me.epoch
        assert "it has lost nothing" in await why(seed_pair(register, pair.ask(A), pair.ask(B)))
        own = await seed_pair(register, pair.ask(A), pair.ask(B), controllers_were_forced=True)
        assert (own.epoch, own.owner, register.value) == (before + SEED_EPOCHS, A, own)
        await until(lambda: pair.a.replica.me.epoch == own.epoch == pair.b.replica.me.epoch, 20_000)
        assert (pair.a.status, pair.a.ended) == ("coupled", [])
