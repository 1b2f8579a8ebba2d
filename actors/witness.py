"""The witness: keeps a register for pairs in a third failure domain, and answers their nodes. Floor 8.

* It has no journal and decides nothing: its register does, one conditional statement for each question. A change is
  answered only when it is durable; what is not known is answered as not known, or not at all.
* Only nodes of roles that own pairs are let in, and people (clients). A node asks to own a pair for itself only; a
  person never asks so, but creates and seeds. A question of an ended session is still carried out: it may come late.
* A failed register ends the node; there is nothing that it could say any more.
"""

from collections.abc import Callable
from typing import Protocol

from engine.base.codec import DecodeError, encode
from engine.base.log import logger
from engine.base.pair import Ownership
from engine.base.problem import EngineClosed, Problem, Refused, problem
from engine.base.register import (
    QUERY_BYTES_MAX,
    AnyRegisterQuery,
    CasOwnership,
    CreateOwnership,
    OwnershipNow,
    ReadOwnership,
    RegisterCounts,
    RegisterStatus,
    SeedOwnership,
    decode_register_query,
    ownership_fault,
)
from engine.base.tasks import TaskScope
from engine.base.wire import Hello, Identity, Raw
from engine.ports import Register, RegisterUnreachable, World
from engine.runtime.reception import Reception, Respond
from engine.runtime.session import Session

PAIR_ROLES = ("controller", "agent")  # the roles that own pairs; a director pair is the agent's node
CLIENT = "client"
QUERIES_OPEN_MAX = 1_000  # of all sessions together; beyond it a question is refused

NotOfAPair = problem(
    "NotOfAPair",
    "Node {node} of role {role} is not of a pair; a witness is asked by controllers and agents only, and by people.",
)
NotYourself = problem(
    "NotYourself", "{role} {node} asked that {owner} own pair {pair}; each node asks for itself, and people seed."
)
QueryUnreadable = problem("QueryUnreadable", "The witness can not read the question: {fault}.")
WitnessBusy = problem("WitnessBusy", "The witness has {count} questions before it; ask again.")
NoCommands = problem("NoCommands", "A witness takes no commands; it answers questions only.")
OutcomeUnknown = problem("OutcomeUnknown", "Whether the register did it is not known: {reason}.")

log = logger("witness")


class KeptRegister(Register, Protocol):
    """A register that is kept here: what an operator may do to it, and its end."""

    async def seed(self, value: Ownership) -> Ownership:
        """Set a value above the one there is, or where there is none; returns the value there is."""

    def statistics(self) -> dict[str, int]: ...
    async def close(self) -> None: ...


class Witness:
    """The witness actor. It owns its register and closes it."""

    role = "witness"

    def __init__(
        self, world: World, register: KeptRegister, cluster: str, on_closed: Callable[[BaseException], None]
    ) -> None:
        self.world = world
        self.register = register
        self._on_closed = on_closed
        self._is_over = False
        self._counts = dict.fromkeys(("answered", "refused", "unknown"), 0)
        self._scope = TaskScope(world.node, self._failed)
        self.reception = Reception(
            world,
            Identity(cluster, self.role, world.node, world.incarnation),
            deliver=_deliver,
            ask=self._ask,
            admit=_admit,
            on_failure=self._failed,
        )

    async def start(self, url: str) -> None:
        """Listen for the nodes of pairs."""
        await self.reception.open(url)

    async def close(self, reason: str = "it was closed") -> None:
        """End; what was asked is carried out, and not answered any more. Safe to call twice."""
        self._is_over = True
        await self.reception.close()
        await self._scope.close()
        await self.register.close()
        self.world.revoke(reason)

    def status(self) -> RegisterCounts:
        """Return what this node has done and who is connected."""
        reception = self.reception.statistics()
        counts = {**self._counts, **self.register.statistics(), "open": len(self._scope)}
        counts |= {name: reception[name] for name in ("sessions", "opened", "malformed")}
        peers = tuple(f"{one.role}/{one.node}" for one in self.reception.sessions())
        return RegisterCounts(self.world.node, counts, peers)

    def _failed(self, error: BaseException) -> None:
        if self._is_over:
            return  # what the end of the world breaks is no failure of its own
        self._is_over = True
        log.error("witness ends", node=self.world.node, error=str(error))
        self.world.revoke(str(error))
        self._on_closed(error)

    # --- questions

    def _ask(self, session: Session, number: int, raw: Raw, answer: Respond) -> None:
        fault = _length_fault(raw)
        try:
            query = decode_register_query(raw) if fault is None else None
        except (DecodeError, RecursionError) as error:
            query, fault = None, str(error)
        if query is None:
            self._refuse(answer, QueryUnreadable(fault=fault))
        elif isinstance(query, RegisterStatus):
            answer(encode(self.status()))
        elif isinstance(query, CasOwnership) and not _asks_for_itself(session, query.new):
            names = {"role": session.role, "node": session.node, "pair": query.new.cluster}
            self._refuse(answer, NotYourself(owner=query.new.owner, **names))
        elif len(self._scope) >= QUERIES_OPEN_MAX:
            self._refuse(answer, WitnessBusy(count=len(self._scope)))
        elif not self._is_over:
            self._scope.start(self._answer(query, answer), f"question {number} of {session.node}")

    async def _answer(self, query: AnyRegisterQuery, answer: Respond) -> None:
        try:
            found = await self._carry_out(query)
        except Refused as refused:
            self._refuse(answer, refused.problem)
        except RegisterUnreachable as unknown:
            self._counts["unknown"] += 1
            answer(encode(OutcomeUnknown(reason=str(unknown))))
        except EngineClosed:
            pass  # our World is gone
        else:
            self._counts["answered"] += 1
            answer(encode(OwnershipNow(found)))

    async def _carry_out(self, query: AnyRegisterQuery) -> Ownership | None:
        register = self.register
        match query:
            case CreateOwnership():
                return await register.create(query.first)
            case CasOwnership():
                return await register.cas(query.expected, query.new)
            case SeedOwnership():
                log.warning("register seeded", cluster=query.value.cluster, epoch=query.value.epoch)
                return await register.seed(query.value)
            case ReadOwnership():
                return await register.read(query.cluster)
        raise AssertionError(f"{type(query).__name__} is answered at once")

    def _refuse(self, answer: Respond, refusal: Problem) -> None:
        self._counts["refused"] += 1
        answer(encode(refusal))


def _asks_for_itself(session: Session, new: Ownership) -> bool:
    if session.role == CLIENT:
        return False
    return new.owner == session.node or ownership_fault(new) is not None  # what is unfit the register refuses


def _length_fault(raw: Raw) -> str | None:
    length = len(memoryview(raw))
    return None if length <= QUERY_BYTES_MAX else f"it has {length} bytes, {QUERY_BYTES_MAX} is the most"


def _deliver(_session: Session, _number: int, _raw: Raw, reply: Respond) -> None:
    reply(encode(NoCommands()))


def _admit(hello: Hello) -> Problem | None:
    return None if hello.role in (*PAIR_ROLES, CLIENT) else NotOfAPair(node=hello.node, role=hello.role)
