"""The director: links to subagents and their liveness, brought into the agent's loop as commands. Floor 8.

* The choice of a subagent is a rule of the agent's machine; here is only who can be reached.
* A subagent's reports are numbered anew in each session, and what it reports is idempotent by attempt.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from engine.base.ids import START, Cursor, SubagentId
from engine.base.log import logger
from engine.base.problem import EngineClosed, Problem
from engine.base.wire import Identity, WireRecord
from engine.model.command import AnyReport
from engine.model.effect import LinksChanged, TellSubagent
from engine.ports import World
from engine.rules.agent import AgentMachine, SubagentDown, SubagentReported, SubagentUp
from engine.rules.agent_state import AgentState
from engine.runtime.link import Link
from engine.runtime.mailbox import Work
from engine.runtime.node_loop import NodeLoop

log = logger("director")
_decode_reports = msgspec.msgpack.Decoder(tuple[AnyReport, ...]).decode


class Director:
    """The director actor of an agent's node."""

    role = "director"

    def __init__(self, world: World, machine: AgentMachine, loop: NodeLoop[AgentState], cluster: str) -> None:
        self.world = world
        self.machine = machine
        self.loop = loop
        self.identity = Identity(cluster, self.role, world.node, world.incarnation)
        self.links: dict[SubagentId, tuple[str, Link]] = {}
        self._encode = machine.language.encode

    def tell(self, effect: TellSubagent) -> None:
        """Send a command if the subagent is coupled; otherwise it is owed."""
        entry = self.links.get(effect.subagent)
        if entry is not None:
            entry[1].send(self._encode(effect.command), self._on_reply(effect.subagent))

    def relink(self, effect: LinksChanged) -> None:
        """Open links to new subagents, close those to removed ones."""
        for subagent in [one for one, (url, _) in self.links.items() if effect.peers.get(one) != url]:
            _, link = self.links.pop(subagent)
            self.loop.spawn(link.close(), f"close link to {subagent}")
            self._post(Work(SubagentDown(subagent, "its address changed")))
        for name, url in effect.peers.items():
            if name not in self.links:
                self._open_link(SubagentId(name), url)

    async def close(self) -> None:
        """Close all links; safe to call twice."""
        for _, link in self.links.values():
            await link.close()

    def _open_link(self, subagent: SubagentId, url: str) -> None:
        def on_records(records: list[WireRecord]) -> None:
            last = Cursor(records[-1].index, records[-1].epoch)
            reports = tuple(report for record in records for report in _decode_reports(record.events))
            command = SubagentReported(subagent, reports)
            self._post(Work(command, done=lambda answer: self._acknowledge(link, last, answer)))

        def owed() -> None:
            session = link.session
            incarnation = 0 if link.peer is None else link.peer.incarnation
            self._post(Work(SubagentUp(subagent, incarnation)))
            self._post(
                Work(
                    read=lambda state, now_ms: self.machine.owed_to_subagent(state, subagent, now_ms),
                    done=lambda commands: self._couple(link, session, commands),
                )
            )

        def on_lost(reason: Problem) -> None:
            self._post(Work(SubagentDown(subagent, reason.sentence)))

        link = Link(
            self.world,
            (url,),
            self.identity,
            peer_role="subagent",
            peer_node=subagent,
            on_failure=self.loop.fail,
            cursor=lambda: START,
            owed=owed,
            on_records=on_records,
            on_lost=on_lost,
            on_refused=lambda refused: log.warning("subagent refused", subagent=subagent, problem=refused.sentence),
        )
        self.links[subagent] = (url, link)
        link.start()

    def _acknowledge(self, link: Link, cursor: Cursor, answer: Any) -> None:
        if not isinstance(answer, EngineClosed):
            link.acknowledge(cursor)

    def _couple(self, link: Link, session: str, commands: Any) -> None:
        if not isinstance(commands, EngineClosed):
            link.couple(session, [self._encode(command) for command in commands])

    def _on_reply(self, subagent: SubagentId) -> Callable[[Any], None]:
        def on_reply(reply: Any) -> None:
            if isinstance(reply, Problem):
                log.warning("subagent refused", subagent=subagent, problem=reply.sentence)

        return on_reply

    def _post(self, work: Work) -> None:
        if self.loop.closed_reason is None:
            self.loop.mailbox.put(work, bounded=False)
