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
from engine.model.command import AnyReport, ReportEnded, StartAttempt, ToSubagent
from engine.model.effect import LinksChanged, TellSubagent
from engine.model.outcome import failed
from engine.ports import World
from engine.rules.agent import AgentMachine, SubagentDown, SubagentReported, SubagentUp
from engine.rules.agent_state import AgentState
from engine.runtime.line import BODY_BYTES_MAX
from engine.runtime.link import Link, LinkState
from engine.runtime.mailbox import Work
from engine.runtime.node_loop import NodeLoop
from engine.runtime.turn import TooLarge

log = logger("director")
_decode_reports = msgspec.msgpack.Decoder(tuple[AnyReport, ...]).decode


class ReportsNotTaken(Exception):
    """A mistake of ours keeps a subagent's reports from being journaled; it will report them again."""

    def __init__(self, reason: Problem) -> None:
        super().__init__(f"what a subagent reported can not be taken: {reason.sentence}")


class Director:
    """The director actor of an agent's node."""

    role = "director"

    def __init__(self, world: World, machine: AgentMachine, loop: NodeLoop[AgentState], cluster: str) -> None:
        self.world = world
        self.machine = machine
        self.loop = loop
        self.identity = Identity(cluster, self.role, world.node, world.incarnation, pair=machine.agent)
        self.links: dict[SubagentId, tuple[tuple[str, ...], Link]] = {}
        self._retired: list[Link] = []
        self._encode = machine.language.encode

    def tell(self, effect: TellSubagent) -> None:
        """Send a command if the subagent is coupled; otherwise it is owed."""
        entry = self.links.get(effect.subagent)
        if entry is not None and entry[1].state is LinkState.COUPLED:
            self._send(effect.subagent, entry[1], effect.command)

    def _send(self, subagent: SubagentId, link: Link, command: ToSubagent) -> None:
        encoded = self._encode(command)
        if len(encoded) <= BODY_BYTES_MAX:
            link.send(encoded, self._on_reply(subagent, command))
        else:
            self._refused(subagent, command, TooLarge(size_bytes=len(encoded), size_bytes_max=BODY_BYTES_MAX))

    def relink(self, effect: LinksChanged) -> None:
        """Open links to new subagents, close those to removed ones."""
        for subagent in [one for one, (urls, _) in self.links.items() if effect.peers.get(one) != urls]:
            _, link = self.links.pop(subagent)
            self._retired.append(link)
            self.loop.spawn(self._retire(link), f"close link to {subagent}")
            self._post(Work(SubagentDown(subagent, "its address changed")))
        for name, urls in effect.peers.items():
            if name not in self.links:
                self._open_link(SubagentId(name), urls)

    async def close(self) -> None:
        """Close all links; safe to call twice."""
        for link in [*self._retired, *(link for _, link in self.links.values())]:
            await link.close()

    async def _retire(self, link: Link) -> None:
        await link.close()
        self._retired.remove(link)

    def _open_link(self, subagent: SubagentId, urls: tuple[str, ...]) -> None:
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
                    done=lambda commands: self._couple(subagent, link, session, commands),
                )
            )

        def on_lost(reason: Problem) -> None:
            self._post(Work(SubagentDown(subagent, reason.sentence)))

        link = Link(
            self.world,
            urls,
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
        self.links[subagent] = (urls, link)
        link.start()

    def _acknowledge(self, link: Link, cursor: Cursor, answer: Any) -> None:
        if isinstance(answer, Problem):
            self.loop.fail(ReportsNotTaken(answer))  # to acknowledge would be to lose the reports without a word
        elif not isinstance(answer, EngineClosed):
            link.acknowledge(cursor)

    def _couple(self, subagent: SubagentId, link: Link, session: str, commands: Any) -> None:
        # One by one, for who owes a command wants to hear of its refusal.
        if not isinstance(commands, EngineClosed) and link.couple(session, ()):
            for command in commands:
                self._send(subagent, link, command)

    def _on_reply(self, subagent: SubagentId, command: ToSubagent) -> Callable[[Any], None]:
        def on_reply(reply: Any) -> None:
            if isinstance(reply, Problem):
                self._refused(subagent, command, reply)

        return on_reply

    def _refused(self, subagent: SubagentId, command: ToSubagent, reason: Problem) -> None:
        """Take a start that was refused as an attempt that failed: it surely never began."""
        log.warning("subagent refused", subagent=subagent, problem=reason.sentence)
        if isinstance(command, StartAttempt):
            start, now_ms = command.start, self.world.clock.now_ms()
            report = ReportEnded(start.order, start.added, start.attempt, now_ms, failed(reason.sentence), 0, {})
            self._post(Work(SubagentReported(subagent, (report,))))

    def _post(self, work: Work) -> None:
        if self.loop.closed_reason is None:
            self.loop.mailbox.put(work, bounded=False)
