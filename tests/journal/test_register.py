"""Every register of ours means the same, and one order explains all of its answers, whatever is lost or late.

Tests: engine/journal/register.py
Tests: engine/journal/register_file.py
"""

import asyncio
import random
from pathlib import Path

import pytest

from engine.base.pair import Member, Ownership
from engine.base.problem import Refused
from engine.base.tasks import TaskScope
from engine.journal.register import open_sqlite_register
from engine.journal.sqlite_thread import inline_place
from engine.ports import RegisterUnreachable, StoreFault
from tests.journal.registers import FAULTY, RELIABLE, Site, asker, on, owned
from tests.support.linear import History, Recorded, fault_in

ASKERS = 6
ROUNDS = 40
CLUSTERS = ("east", "west")

EVERYWHERE = pytest.mark.parametrize("kind", RELIABLE)


# --- what each call means


@EVERYWHERE
def test_a_cluster_is_unknown_until_it_is_created_and_created_once(kind: str, tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        one = site.at("a")
        assert await one.read("pair") is None
        assert await one.cas(owned(1), owned(2)) is None
        assert await one.read("pair") is None
        assert await one.create(owned(1)) == owned(1)
        assert await one.create(owned(5, "b")) == owned(1)
        assert await site.at("b").read("pair") == owned(1)
        assert await one.read("other") is None

    on(kind, tmp_path, body)


@EVERYWHERE
def test_a_cas_replaces_exactly_what_it_expects(kind: str, tmp_path: Path) -> None:
    there = owned(4, "a", "ab", 7)

    async def body(site: Site) -> None:
        one = site.at("a")
        await one.create(there)
        near = [
            owned(3, "a", "ab", 7),
            owned(4, "b", "ab", 7),
            owned(4, "a", "a", 7),
            owned(4, "a", "ba", 7),
            owned(4, "a", "ab", 8),
            owned(4, "a", "ab", 7, store="t"),
        ]
        for expected in near:
            assert await site.at("b").cas(expected, owned(9, "b")) == there, expected
        assert await site.at("b").cas(there, owned(5, "b", "b", 1)) == owned(5, "b", "b", 1)
        assert await site.at("b").read("pair") == owned(5, "b", "b", 1)

    on(kind, tmp_path, body)


@EVERYWHERE
def test_an_epoch_only_rises_and_a_cas_stays_in_its_cluster(kind: str, tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        one = site.at("a")
        await one.create(owned(4))
        await one.create(owned(1, cluster="other"))
        for new in (owned(4, "b"), owned(3, "b"), owned(5, "b", cluster="other")):
            assert await site.at("b").cas(owned(4), new) == owned(4), new
        assert await one.read("other") == owned(1, cluster="other")
        assert await site.at("b").cas(owned(4), owned(1_004, "b")) == owned(1_004, "b")

    on(kind, tmp_path, body)


@EVERYWHERE
def test_a_cas_asked_again_changes_nothing_and_shows_the_value(kind: str, tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        one = site.at("a")
        await one.create(owned(1))
        assert await site.at("b").cas(owned(1), owned(2, "b")) == owned(2, "b")
        assert await site.at("b").cas(owned(1), owned(2, "b")) == owned(2, "b")
        assert await site.at("c").cas(owned(2, "b"), owned(3, "c")) == owned(3, "c")
        assert await site.at("b").cas(owned(1), owned(2, "b")) == owned(3, "c")

    on(kind, tmp_path, body)


@EVERYWHERE
def test_a_seed_goes_above_what_there_is_or_where_nothing_is(kind: str, tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        assert await site.seed(owned(7, "b")) == owned(7, "b")
        assert await site.seed(owned(7, "a")) == owned(7, "b")
        assert await site.seed(owned(6, "a")) == owned(7, "b")
        assert await site.seed(owned(1_007, "a", "ab", 3)) == owned(1_007, "a", "ab", 3)
        assert await site.at("a").read("pair") == owned(1_007, "a", "ab", 3)

    on(kind, tmp_path, body)


@EVERYWHERE
def test_what_can_not_be_kept_is_refused_with_a_sentence(kind: str, tmp_path: Path) -> None:
    crowd = Ownership("pair", 2, "a", tuple(Member(name, "s") for name in "abc"), 1)
    unfit = [owned(0), owned(2**31), owned(2, ""), owned(2, "x" * 101), owned(2, insync=""), owned(2, nonce=-1), crowd]

    async def body(site: Site) -> None:
        one = site.at("a")
        await one.create(owned(1))
        for value in unfit:
            for asking in (one.create(value), one.cas(owned(1), value), site.seed(value)):
                with pytest.raises((Refused, RegisterUnreachable), match="can not keep this value: "):
                    await asking
        assert await one.read("pair") == owned(1)
        assert await one.cas(owned(2**31), owned(2)) == owned(1)
        assert await one.read("\x00") is None

    on(kind, tmp_path, body)


# --- histories


async def history_at(site: Site, seed: int, rounds: int) -> History:
    """Many askers at once, and an operator who seeds; every call written down."""
    history, failures = History(), list[BaseException]()
    scope = TaskScope("askers", failures.append)
    askers = [
        scope.start(
            asker(Recorded(site.at(name), history, name), name, random.Random(f"{seed} {name}"), rounds, CLUSTERS), name
        )
        for name in (f"n{number}" for number in range(ASKERS))
    ]
    await asyncio.wait(askers)
    await scope.close()
    assert failures == []
    return history


@pytest.mark.parametrize("seed", range(3))
@EVERYWHERE
def test_many_askers_at_once_are_answered_as_if_one_after_the_other(kind: str, seed: int, tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        history = await history_at(site, seed, ROUNDS)
        assert history.unknown == 0 or kind == "simulated"
        wins = sum(call.kind == "cas" and call.answer == call.new for call in history.calls)
        assert wins > 10
        assert fault_in(history.calls) is None

    on(kind, tmp_path, body, seed)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", FAULTY)
def test_so_it_is_when_answers_are_lost_late_and_the_register_is_gone(kind: str, seed: int, tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        history = await history_at(site, seed, ROUNDS)
        assert history.unknown > 5
        wins = sum(call.kind == "cas" and call.answer == call.new for call in history.calls)
        assert wins > 5
        assert fault_in(history.calls) is None

    on(kind, tmp_path, body, seed)


async def test_a_cancelled_asker_takes_nothing_back_and_what_is_answered_outlives_the_process(tmp_path: Path) -> None:
    folder = str(tmp_path / "register")
    register = await open_sqlite_register(folder)
    scope = TaskScope("askers", lambda _: None)
    await register.create(owned(1))
    asking = scope.start(register.cas(owned(1), owned(2)), "cancelled")
    await asyncio.sleep(0)
    asking.cancel()
    assert await register.read("pair") == owned(2)
    await scope.close()
    await register.close()
    await register.close()
    with pytest.raises(StoreFault, match="is closed"):
        await register.read("pair")
    register = await open_sqlite_register(folder)
    assert await register.read("pair") == owned(2)
    assert await register.clusters() == 1
    await register.close()


async def test_close_carries_out_what_was_asked_before(tmp_path: Path) -> None:
    folder = str(tmp_path / "register")
    register = await open_sqlite_register(folder)
    await register.create(owned(1))
    scope = TaskScope("askers", lambda _: None)
    asking = [scope.start(register.cas(owned(epoch), owned(epoch + 1)), "asker") for epoch in range(1, 20)]
    await asyncio.sleep(0)
    await register.close()
    assert await asyncio.gather(*asking) == [owned(epoch + 1) for epoch in range(1, 20)]
    await scope.close()


async def test_the_loop_is_not_held_up_while_the_disk_works(tmp_path: Path) -> None:
    register = await open_sqlite_register(str(tmp_path / "register"))
    scope = TaskScope("askers", lambda _: None)
    asking = scope.start(register.create(owned(1)), "asker")
    turns = 0
    while not asking.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 1
    await scope.close()
    await register.close()


async def test_the_number_of_clusters_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.journal.register_file.CLUSTERS_MAX", 2)
    register = await open_sqlite_register(str(tmp_path / "register"), dial=inline_place)
    for cluster in ("one", "two"):
        await register.create(owned(1, cluster=cluster))
    with pytest.raises(Refused, match="holds 2 clusters, which is its limit; three has no place"):
        await register.create(owned(1, cluster="three"))
    with pytest.raises(Refused, match="limit"):
        await register.seed(owned(1, cluster="three"))
    assert await register.create(owned(9, cluster="two")) == owned(1, cluster="two")
    assert await register.seed(owned(9, cluster="two")) == owned(9, cluster="two")
    await register.close()


async def test_the_log_beside_the_file_stays_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.journal.register.CHECKPOINT_CALLS", 5)
    register = await open_sqlite_register(str(tmp_path / "register"), dial=inline_place)
    await register.create(owned(1))
    for epoch in range(1, 40):
        await register.cas(owned(epoch), owned(epoch + 1))
    assert register.statistics()["checkpoints"] == 8
    assert (tmp_path / "register" / "register.db-wal").stat().st_size < 10 * 4_200
    await register.close()
    assert not (tmp_path / "register" / "register.db-wal").exists()
