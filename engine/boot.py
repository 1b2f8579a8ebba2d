"""Boot: the only place where parts are joined: world, store, feed, machine, actor. Floor 9.

* The same functions boot nodes in the real world and in a simulated one; what differs is the World they are given.
"""

from collections.abc import Callable, Mapping
from typing import Any

from actors.agent import Agent
from actors.controller import Controller
from actors.director import Director
from actors.subagent import Subagent
from engine.base.ids import AgentId, Cursor
from engine.journal.feed import Feed
from engine.language import standard_language
from engine.model.language import Language
from engine.ports import Store, World
from engine.rules.agent import AgentMachine
from engine.rules.controller import ControllerMachine
from engine.runtime.alone import Alone

OnClosed = Callable[[BaseException], None]


class AgentNode:
    """An agent and its director: two actors, one loop, one journal."""

    def __init__(self, agent: Agent, director: Director) -> None:
        self.agent = agent
        self.director = director

    async def close(self, reason: str = "it was closed") -> None:
        """End both; safe to call twice."""
        await self.director.close()
        await self.agent.close(reason)


def feed_of(store: Store) -> Feed:
    """Return the feed of a recovered store: alone, everything durable may be seen."""
    return Feed(store, Cursor(store.tip.index, store.tip.epoch))


async def boot_controller(
    world: World, url: str, cluster: str, on_closed: OnClosed, language: Language | None = None
) -> Controller:
    """Boot a controller that listens at a url; raises StoreFault."""
    controller = Controller(world, ControllerMachine(language or standard_language()), cluster, on_closed)
    store = await world.open_store()
    try:
        await controller.start(store, feed_of(store), Alone(), url)
    except BaseException:
        await store.close()
        raise
    return controller


async def boot_agent(
    world: World, url: str, cluster: str, on_closed: OnClosed, language: Language | None = None
) -> AgentNode:
    """Boot an agent with its director; raises StoreFault."""
    machine = AgentMachine(language or standard_language(), AgentId(world.node))
    agent = Agent(world, machine, cluster, on_closed)
    store = await world.open_store()
    try:
        loop = await agent.recover(store, feed_of(store), Alone())
        director = Director(world, machine, loop, cluster)
        await agent.start(url, director.tell, director.relink)
    except BaseException:
        await store.close()
        raise
    return AgentNode(agent, director)


async def boot_subagent(
    world: World,
    url: str,
    cluster: str,
    on_closed: OnClosed,
    callables: Mapping[str, Callable[..., Any]] | None = None,
    language: Language | None = None,
) -> Subagent:
    """Boot a subagent; it adopts what its guard still runs."""
    subagent = Subagent(world, language or standard_language(), cluster, callables or {}, on_closed)
    await subagent.start(url)
    return subagent
