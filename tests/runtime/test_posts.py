"""Messages outside of the streams: bounded, behind everything else or before it, lost without a word.

Tests: engine/runtime/posts.py, engine/runtime/link.py, engine/runtime/reception.py, engine/runtime/line.py
"""

import asyncio

from engine.base.wire import Raw
from engine.runtime.line import URGENT_WAITING_MAX
from engine.runtime.posts import POSTS_WAITING_BYTES_MAX, POSTS_WAITING_MAX, Posts
from engine.runtime.session import Session
from tests.runtime.linked import Lower, Upper, Wires, end, hello, pair, pass_ms, until, virtual
from tests.runtime.raw_peer import Peer


def test_posts_keep_their_order_and_their_bounds() -> None:
    posts = Posts()
    taken = [posts.add(b"%d" % number) for number in range(POSTS_WAITING_MAX + 5)]
    assert taken.count(True) == len(posts) == POSTS_WAITING_MAX
    assert [posts.next_message() for _ in range(3)] == [b"0", b"1", b"2"]
    assert posts.add(b"again")


def test_posts_are_bounded_in_bytes_and_one_larger_one_goes_alone() -> None:
    posts = Posts()
    assert posts.add(bytes(POSTS_WAITING_BYTES_MAX + 1))
    assert not posts.add(b"x")
    posts.next_message()
    half = bytes(POSTS_WAITING_BYTES_MAX // 2)
    assert [posts.add(half) for _ in range(3)] == [True, True, False]


async def test_room_is_told_when_half_is_free_and_at_the_end() -> None:
    posts = Posts()
    await posts.room()
    for _ in range(4):
        posts.add(bytes(POSTS_WAITING_BYTES_MAX // 4))
    waiting = [asyncio.ensure_future(posts.room()) for _ in range(2)]
    await asyncio.sleep(0)
    posts.next_message()
    await asyncio.sleep(0)
    assert not waiting[0].done()
    posts.next_message()
    await asyncio.gather(*waiting)
    for _ in range(3):
        posts.add(bytes(POSTS_WAITING_BYTES_MAX // 4))
    last = asyncio.ensure_future(posts.room())
    await asyncio.sleep(0)
    posts.end()
    await last
    assert (len(posts), posts.add(b"x"), posts.next_message()) == (0, False, None)


class Posted:
    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def __call__(self, _session: Session, body: Raw) -> None:
        self.heard.append(bytes(body))


async def linked(posted: Posted) -> tuple[Wires, Lower, Upper]:
    wires = Wires("sim")
    lower = await Lower(wires.of("lower"), url=wires.url("lower"), on_post=posted).open()
    upper = Upper(wires.of("upper"), url=wires.url("lower"))
    assert not upper.link.post(b"\x01"), "there is no session"
    upper.link.start()
    await upper.link.until_coupled()
    return wires, lower, upper


@virtual
async def test_a_post_arrives_and_an_urgent_one_before_what_waits() -> None:
    posted = Posted()
    _, lower, upper = await linked(posted)
    big = b"\xc6" + (8 << 20).to_bytes(4, "big") + bytes(8 << 20)
    assert upper.link.post(big)
    assert upper.link.post(b"\x02")
    assert upper.link.post(b"\x01", now=True)
    await until(lambda: len(posted.heard) == 3)
    assert posted.heard == [b"\x01", big, b"\x02"]
    await end(upper, lower)


@virtual
async def test_urgent_posts_are_bounded_and_all_are_lost_with_their_session() -> None:
    posted = Posted()
    wires, lower, upper = await linked(posted)
    taken = [upper.link.post(b"\x01", now=True) for _ in range(2 * URGENT_WAITING_MAX)]
    assert taken.count(True) <= URGENT_WAITING_MAX + 1
    wires.network.cut("upper", "lower")
    for _ in range(POSTS_WAITING_MAX // 2):
        upper.link.post(b"\x02")
    waiting = asyncio.ensure_future(upper.link.room())
    await pass_ms(1)
    wires.network.reset("upper", "lower")
    await until(lambda: upper.lost != [])
    await waiting
    wires.network.heal()
    await upper.link.until_coupled()
    upper.link.post(b"\x03")
    await until(lambda: b"\x03" in posted.heard)
    assert posted.heard.count(b"\x02") < POSTS_WAITING_MAX // 2
    await end(upper, lower)


@virtual
async def test_who_takes_no_posts_ends_the_session_of_one_that_sends_some() -> None:
    _, lower, upper = await pair("sim")
    upper.link.start()
    await upper.link.until_coupled()
    upper.link.post(b"\x01")
    await until(lambda: upper.lost != [])
    assert upper.lost[0].code == "MessageMalformed"
    await end(upper, lower)


# --- roles of which one is obeyed at a time


@virtual
async def test_of_a_sole_role_the_newest_session_replaces_that_of_any_other_node() -> None:
    wires = Wires("sim")
    lower = await Lower(wires.of("lower"), url=wires.url("lower"), sole=("upper",)).open(automatic=False)
    first, second, client = [await Peer(wires, node).dial() for node in ("a", "b", "c")]
    await first.welcome(node="a", session="1")
    await client.welcome(node="c", role="client", session="2")
    await second.welcome(node="b", session="3")
    assert await first.farewell() == "Superseded"
    await until(lambda: len(lower.reception.sessions()) == 2)
    assert sorted(session.node for session in lower.reception.sessions()) == ["b", "c"]
    again = await Peer(wires, "a").dial()
    await again.send(hello("4", node="a", incarnation=0))
    assert await again.farewell() == "StaleIncarnation", "the incarnations of each node are remembered"
    assert sorted(session.node for session in lower.reception.sessions()) == ["b", "c"]
    for one in (second, client):
        await one.connection.close()
    await end(lower)
