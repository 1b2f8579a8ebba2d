"""What the memory transport has beyond the conformance suite: abort, and the end of one incarnation."""

import asyncio

import pytest

from engine.base.tasks import TaskScope
from engine.ports import Connection, ConnectionClosed
from transports.memory import MemoryConnection, MemoryHub, MemoryTransport


class Place:
    """A listener whose accepted ends the test holds."""

    def __init__(self, hub: MemoryHub, name: str) -> None:
        self.transport = MemoryTransport(hub, name)
        self.name = name
        self.ends: list[MemoryConnection] = []
        self._over = asyncio.Event()

    async def open(self) -> "Place":
        self.listener = await self.transport.listen(self.name, self._accept)
        return self

    async def _accept(self, connection: Connection) -> None:
        assert isinstance(connection, MemoryConnection)
        self.ends.append(connection)
        await self._over.wait()

    async def close(self) -> None:
        self._over.set()
        await self.listener.close()


async def test_hubs_do_not_see_each_other() -> None:
    place = await Place(MemoryHub(), "here").open()
    with pytest.raises(ConnectionClosed, match="nobody listens at memory://here"):
        await MemoryTransport(MemoryHub()).connect("here")
    await place.close()


async def test_after_an_abort_nothing_more_arrives() -> None:
    hub = MemoryHub()
    place = await Place(hub, "here").open()
    near = await MemoryTransport(hub, "near").connect("here")
    await asyncio.sleep(0)
    await near.send([b"lost"])
    await place.ends[0].send([b"lost too"])
    near.abort("as the test wants it")
    for end in (near, place.ends[0]):
        with pytest.raises(ConnectionClosed, match="as the test wants it"):
            await end.receive()
        with pytest.raises(ConnectionClosed):
            await end.send([b"x"])
    await place.close()


async def test_a_revoked_side_ends_at_once_and_for_good() -> None:
    hub = MemoryHub()
    here, there = await Place(hub, "here").open(), await Place(hub, "there").open()
    other = MemoryTransport(hub, "other")
    dialled = await here.transport.connect("there")
    accepted = await other.connect("here")
    bystander = await other.connect("there")
    await asyncio.sleep(0)
    scope = TaskScope("test", lambda _: None)
    receiving = scope.start(accepted.receive(), "receive")
    await asyncio.sleep(0)
    here.transport.revoke("the node ended")
    for ended in (dialled.receive(), receiving, there.ends[0].receive(), here.ends[0].send([b"x"])):
        with pytest.raises(ConnectionClosed, match="the node ended"):
            await ended
    for refused in (here.transport.connect("there"), here.transport.listen("new", here._accept), other.connect("here")):
        with pytest.raises(ConnectionClosed):
            await refused
    await bystander.send([b"goes on"])
    assert await there.ends[1].receive() == [b"goes on"]
    await here.close()
    again = await Place(hub, "here").open()
    await bystander.close()
    for place in (again, there):
        await place.close()
    await scope.close()


async def test_a_connection_accepted_by_a_side_that_was_just_revoked_is_closed() -> None:
    hub = MemoryHub()
    here = await Place(hub, "here").open()
    near = await MemoryTransport(hub, "near").connect("here")
    here.transport.revoke("the node ended")  # before the accepting task took its first step
    with pytest.raises(ConnectionClosed):
        await near.receive()
    assert here.ends == []
    await here.close()


async def test_closing_a_listener_closes_connections_that_nobody_has_begun_to_serve() -> None:
    hub = MemoryHub()
    here = await Place(hub, "here").open()
    near = await MemoryTransport(hub, "near").connect("here")
    await here.close()
    with pytest.raises(ConnectionClosed):
        await near.receive()


async def test_two_readers_of_one_connection_are_a_mistake() -> None:
    hub = MemoryHub()
    here = await Place(hub, "here").open()
    near = await MemoryTransport(hub, "near").connect("here")
    scope = TaskScope("test", lambda _: None)
    first = scope.start(near.receive(), "first")
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="two tasks"):
        await near.receive()
    await near.close()
    with pytest.raises(ConnectionClosed):
        await first
    await here.close()
    await scope.close()


async def test_names_tell_who_is_at_the_other_end() -> None:
    hub = MemoryHub()
    here = await Place(hub, "here").open()
    near = await MemoryTransport(hub, "near").connect("here")
    await asyncio.sleep(0)
    assert (near.peer, here.ends[0].peer) == ("here", "near")
    await near.close()
    await here.close()
