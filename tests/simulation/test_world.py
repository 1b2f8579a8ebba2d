"""The world of one simulated incarnation: all from the seed, each use checked."""

import asyncio
from random import Random
from typing import Any

import pytest

from engine.base.codec import encode, pack
from engine.base.ids import AgentId
from engine.base.problem import EngineClosed
from engine.journal.snapshots import SnapshotFailed
from engine.language import standard_language
from engine.model.event import EpochBegan
from engine.ports import Connection, ConnectionClosed, Entry, StoreFault
from engine.rules.agent import AgentMachine
from engine.runtime.recovery import begin_recovery
from engine.simulation.disk import SimDisk
from engine.simulation.network import SimNetwork
from engine.simulation.processes import SimMachine
from engine.simulation.world import SimWorld
from tests.simulation.clusters import virtual, virtual_loop


class Place:
    """A network, and machines of which each runs one node."""

    def __init__(self) -> None:
        self.loop = virtual_loop()
        self.network = SimNetwork(Random(1))
        self.machines = {name: SimMachine(name, self.loop, Random(1), {}) for name in "ab"}
        self.disks = {name: SimDisk(Random(1)) for name in "ab"}
        self.breaches: list[str] = []

    def world(self, node: str = "a", lane: str = "") -> SimWorld:
        return SimWorld(
            node,
            lane=lane,
            loop=self.loop,
            network=self.network,
            machine=self.machines[node],
            disk=self.disks[node],
            machine_for=lambda _role, name: AgentMachine(standard_language(), AgentId(name)),
            on_breach=self.breaches.append,
        )


@virtual
async def test_ids_and_jitter_come_from_the_seed_and_differ_between_incarnations() -> None:
    first, again = Place().world(), Place().world()
    assert (first.incarnation, again.incarnation) == (1, 1)
    assert first.new_id() == again.new_id()
    assert len(first.new_id()) == 22
    assert [first.jitter(1_000) for _ in range(5)] == [again.jitter(1_000) for _ in range(5)]
    assert first.jitter(0) == 0
    place = Place()
    one, two = place.world(), place.world()
    assert (one.incarnation, two.incarnation) == (1, 2)
    assert one.new_id() != two.new_id()


@virtual
async def test_both_clocks_follow_virtual_time_and_the_wall_clock_may_be_wrong() -> None:
    place = Place()
    clock = place.world().clock
    wall, monotonic = clock.now_ms(), clock.monotonic_ms()
    await asyncio.sleep(2)
    assert (clock.now_ms() - wall, clock.monotonic_ms() - monotonic) == (2_000, 2_000)
    place.machines["a"].wall_offset_ms = -5_000
    assert (clock.now_ms() - wall, clock.monotonic_ms() - monotonic) == (-3_000, 2_000)


@virtual
async def test_messages_pass_between_worlds_and_a_revoked_one_is_out() -> None:
    place = Place()
    here, there = place.world("a"), place.world("b")
    heard: list[bytes] = []

    async def accept(connection: Connection) -> None:
        while True:
            heard.extend(await connection.receive())

    transport, address = there.transport("sim://b")
    listener = await transport.listen(address, accept)
    transport, address = here.transport("sim://b")
    connection = await transport.connect(address)
    await connection.send([b"one"])
    await asyncio.sleep(1)
    assert heard == [b"one"]
    here.revoke("it was closed")
    here.revoke("a second time")
    assert here.revoked == "it was closed"
    with pytest.raises(ConnectionClosed):
        await connection.send([b"two"])
    with pytest.raises(EngineClosed, match="it was closed"):
        here.transport("sim://b")
    await asyncio.sleep(1)
    assert heard == [b"one"]
    await listener.close()


@virtual
async def test_other_schemes_are_no_address_here() -> None:
    with pytest.raises(ConnectionClosed, match="sim://"):
        Place().world().transport("tcp://a:1")


@virtual
async def test_what_is_done_in_the_name_of_another_node_is_a_breach() -> None:
    place = Place()
    world = place.world(lane="a#1")
    with pytest.raises(EngineClosed):
        world.process_host()
    assert place.breaches == ["a#1 wants to use processes, called by the environment"]


@virtual
async def test_what_a_crashed_node_does_is_a_breach() -> None:
    place = Place()
    world = place.world(lane="a#1")
    context = place.loop.context_of("a#1")
    context.run(world.process_host)
    place.loop.crash("a#1")
    with pytest.raises(EngineClosed):
        context.run(world.process_host)
    assert place.breaches == ["a#1 wants to use processes, called by a#1"]


@virtual
async def test_a_blocking_function_runs_later_as_in_a_thread_and_is_answered_once() -> None:
    place = Place()
    world = place.world()
    answers: list[tuple[Any, Any]] = []

    def loopless(number: int) -> int:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return number + 1

    def failing() -> None:
        raise KeyError("no")

    world.call(loopless, {"number": 4}, lambda value, error: answers.append((value, error)))
    assert answers == []
    await asyncio.sleep(1)
    assert answers == [(5, None)]
    world.call(failing, {}, lambda value, error: answers.append((value, type(error))))
    await asyncio.sleep(1)
    assert answers[1] == (None, KeyError)
    world.call(loopless, {"number": 4}, lambda value, error: answers.append((value, error)))
    world.revoke("it was closed")
    await asyncio.sleep(1)
    assert len(answers) == 2, "nobody is told after the end"
    with pytest.raises(EngineClosed):
        world.call(loopless, {"number": 4}, lambda *_: None)


@virtual
async def test_files_are_those_of_the_machine() -> None:
    place = Place()
    place.machines["a"].files["/x"] = b"12345"
    world = place.world()
    assert await world.read_file("/x", 10) == b"12345"
    assert await world.read_file("/x", 2) == b"123", "one byte more than the bound"
    assert await world.read_file("/y", 10) is None
    assert await place.world("b").read_file("/x", 10) is None
    assert "PATH" in world.environment()


@virtual
async def test_the_store_outlives_the_world_and_fails_when_told() -> None:
    place = Place()
    first = await place.world().open_store()
    await first.append([Entry(1, 1, pack([encode(1)]))])
    await first.close()
    place.disks["a"].fails_with = 5
    with pytest.raises(StoreFault):
        await place.world().open_store()
    second = await place.world().open_store()
    assert second.tip.index == 1
    await second.close()


@virtual
async def test_a_snapshot_is_made_by_replay() -> None:
    place = Place()
    world = place.world()
    store = await world.open_store()
    language = standard_language()
    for index in (1, 2, 3):
        await store.append([Entry(index, 1, pack([language.encode(EpochBegan(0, index, "a"))]))])
    maker = world.snapshot_maker(store, "agent")
    snapshot = await maker.make(2)
    assert snapshot.index == 2
    await store.add_snapshot(snapshot)
    machine = AgentMachine(language, AgentId("a"))
    assert begin_recovery(machine, await store.snapshot()).state.epoch == 2
    with pytest.raises(SnapshotFailed, match="record 9"):
        await maker.make(9)
    await store.close()
