"""The director: links to subagents and their liveness, brought into the agent's loop as commands. Floor 8.

* The choice of a subagent is a rule of the agent's machine; here is only who can be reached.
* Leases of attempts are granted here, and only while this node acts: docs/leases.md. The table of them is volatile;
  a director begins by taking it that each was granted at this instant.
* A subagent's reports are numbered anew in each session, and what it reports is idempotent by attempt.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from engine.base.codec import encode
from engine.base.ids import START, Cursor, SubagentId, parse_attempt_key
from engine.base.log import logger
from engine.base.problem import EngineClosed, Problem, Refused
from engine.base.wire import Identity, WireRecord
from engine.model.command import (
    AnyReport,
    AskRenewals,
    GrantLeases,
    OfferAttempt,
    Renewals,
    ReportEnded,
    StartAttempt,
    ToSubagent,
)
from engine.model.effect import LinksChanged, TellSubagent
from engine.model.outcome import failed
from engine.pair.schedule import Schedule
from engine.ports import World
from engine.rules.agent import AgentMachine, LeaseExpired, SubagentDown, SubagentReported, SubagentUp
from engine.rules.agent_state import AgentState
from engine.rules.leases import Leases
from engine.runtime.line import BODY_BYTES_MAX
from engine.runtime.link import Link, LinkLost, LinkState
from engine.runtime.mailbox import Work
from engine.runtime.node_loop import NodeLoop
from engine.runtime.turn import TooLarge

KEYS_PER_ASK_MAX = 500

log = logger("director")
_decode_renewals = msgspec.msgpack.Decoder(Renewals).decode
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
        self.on_stale: Callable[[int], None] = _ignore  # called with the higher epoch that a subagent obeys
        self.may_act: Callable[[], bool] = lambda: True  # asked before each grant
        self.leases = Leases()
        self._renewing: dict[SubagentId, bool] = {}  # renewals under way; True: once more behind it
        self._is_timing = False
        self._retired: list[Link] = []
        self._encode = machine.language.encode
        for key, subagent in machine.leased(loop.state):
            self._note(key, subagent)

    def tell(self, effect: TellSubagent) -> None:
        """Send a command if the subagent is coupled; otherwise it is owed."""
        self._watch_over(effect.subagent, effect.command)
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
        self._keep_time()
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
            if reason.code == "StaleDirector":
                known = reason.arguments.get("known")
                self.on_stale(known if isinstance(known, int) else 0)
            self._post(Work(SubagentDown(subagent, reason.sentence)))

        link = Link(
            self.world,
            urls,
            self.identity,
            peer_role="subagent",
            peer_node=subagent,
            on_failure=self.loop.fail,
            cursor=lambda: START,
            epoch=lambda: self.loop.epoch,
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
                self._watch_over(subagent, command)
                self._send(subagent, link, command)

    def _on_reply(self, subagent: SubagentId, command: ToSubagent) -> Callable[[Any], None]:
        def on_reply(reply: Any) -> None:
            if isinstance(reply, Problem):
                self._refused(subagent, command, reply)
            elif isinstance(command, OfferAttempt):
                self._renew(subagent)  # it is claimed now, and begins with its first lease

        return on_reply

    def _refused(self, subagent: SubagentId, command: ToSubagent, reason: Problem) -> None:
        """Take a start that was refused as an attempt that failed: it surely never began, if nobody said that it did.

        Else a subagent that was replaced by an older version can not read it, while its guard runs the job: it is
        reported, or its lease runs out.
        """
        log.warning("subagent refused", subagent=subagent, problem=reason.sentence)
        if isinstance(command, StartAttempt | OfferAttempt) and not command.start.begun:
            start, now_ms = command.start, self.world.clock.now_ms()
            report = ReportEnded(start.order, start.added, start.attempt, now_ms, failed(reason.sentence), 0, {})
            self._post(Work(SubagentReported(subagent, (report,))))

    # --- leases -------------------------------------------------------------------------------------------------------

    def _watch_over(self, subagent: SubagentId, command: ToSubagent) -> None:
        if isinstance(command, OfferAttempt):
            self._note(command.start.key, subagent)
            self._keep_time()

    def _note(self, key: str, subagent: SubagentId) -> None:
        self.leases.note(key, subagent, self.world.clock.monotonic_ms(), self.machine.lease_times.director_ms)

    def _is_under_way(self, key: str) -> bool:
        """Tell whether an attempt is not revoked; the state may be ahead of what is durable, which is safe."""
        return self.loop.state.under_way(*parse_attempt_key(key)) is not None

    def _keep_time(self) -> None:
        if len(self.leases) and not self._is_timing:
            self._is_timing = True
            self.loop.spawn(self._time(), "leases")

    async def _time(self) -> None:
        """Renew on a schedule and end what has expired, as long as there are leased attempts."""
        clock = self.world.clock
        renewals = Schedule(self.machine.lease_times.renew_ms, clock.monotonic_ms())
        while True:
            self.leases.keep_only(key for key in self.leases.known() if self._is_under_way(key))
            now_ms = clock.monotonic_ms()
            for key in self.leases.expire(now_ms):
                log.warning("lease ran out", attempt=key)
                self._post(Work(LeaseExpired(*parse_attempt_key(key))))
            if not len(self.leases):
                break
            if renewals.take(now_ms) is not None:
                for subagent in self.leases.by_subagent():
                    self._renew(subagent)
            next_ms = self.leases.next_ms()
            due_ms = renewals.due_ms if next_ms is None else min(renewals.due_ms, next_ms)
            await asyncio.sleep(max(0, due_ms - clock.monotonic_ms()) / 1_000)
        self._is_timing = False

    def _renew(self, subagent: SubagentId) -> None:
        """Ask a subagent which leases it needs; whoever asks while that is under way is asked for behind it."""
        if subagent in self._renewing:
            self._renewing[subagent] = True
        else:
            self._renewing[subagent] = False
            self.loop.spawn(self._renew_at(subagent), f"renew leases at {subagent}")

    async def _renew_at(self, subagent: SubagentId) -> None:
        again = True
        while again:
            self._renewing[subagent] = False
            entry = self.links.get(subagent)
            if entry is None or entry[1].state is not LinkState.COUPLED:
                break
            keys = self.leases.by_subagent().get(subagent, [])
            for place in range(0, len(keys), KEYS_PER_ASK_MAX):
                await self._ask(subagent, entry[1], tuple(keys[place : place + KEYS_PER_ASK_MAX]))
            again = self._renewing[subagent]
        del self._renewing[subagent]

    async def _ask(self, subagent: SubagentId, link: Link, keys: tuple[str, ...]) -> None:
        session = link.session
        try:
            renewals = _decode_renewals(await link.ask(encode(AskRenewals(keys))))
        except (LinkLost, Refused):
            return  # at the next coupling they are offered and asked for again
        except msgspec.MsgspecError as error:
            log.warning("renewals can not be read", subagent=subagent, fault=str(error))
            return
        # Its clock counts only within a session: after a restart of its machine it would begin anew.
        if link.session == session and self.may_act() and self.loop.closed_reason is None:
            self._grant(subagent, link, renewals)

    def _grant(self, subagent: SubagentId, link: Link, renewals: Renewals) -> None:
        times = self.machine.lease_times
        wanted = [key for key in renewals.keys if key in self.leases and self._is_under_way(key)]
        granted = self.leases.grant(subagent, wanted, self.world.clock.monotonic_ms(), times.director_ms)
        if granted:  # a grant that is lost is made good by the next one
            link.post(encode(GrantLeases(renewals.asked_ms, times.lease_ms, granted)), now=True)

    def _post(self, work: Work) -> None:
        if self.loop.closed_reason is None:
            self.loop.mailbox.put(work, bounded=False)


def _ignore(_epoch: int) -> None:
    pass
