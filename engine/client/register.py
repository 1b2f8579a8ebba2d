"""LinkRegister: a register that another node keeps, asked over a link, behind `ports.Register`. Floor 6.

* Whatever keeps an answer from coming (no link, a link lost, a time-out, a refusal) is RegisterUnreachable; its
  sentence is that of the refusal where a person must do something about it.
* A question is put once. Asking again is the business of the rules, which know what they asked (R12).
* The link dials again by itself, for good, until `close`.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from engine.base.codec import DecodeError, encode
from engine.base.pair import Ownership
from engine.base.problem import EngineClosed, Problem, Refused
from engine.base.register import (
    AnyRegisterQuery,
    CasOwnership,
    CreateOwnership,
    OwnershipNow,
    ReadOwnership,
    RegisterCounts,
    RegisterStatus,
    SeedOwnership,
    decode_register_answer,
)
from engine.base.wire import Identity
from engine.ports import RegisterUnreachable
from engine.runtime.line import PACE, LinkWorld, Pace
from engine.runtime.link import Link, LinkLost

ANSWER_MS_MAX = 2_000  # from a question to its answer, dialling included; then its outcome is unknown

Answer = TypeVar("Answer", OwnershipNow, RegisterCounts)


class LinkRegister:
    """A handle on the register at some url. Implements ports.Register."""

    def __init__(
        self,
        world: LinkWorld,
        urls: Sequence[str],
        identity: Identity,
        *,
        on_failure: Callable[[BaseException], None],
        peer_role: str = "witness",
        answer_ms_max: int = ANSWER_MS_MAX,
        pace: Pace = PACE,
    ) -> None:
        """Prepare; `start` dials. `identity`: the asking node, of a role that owns pairs."""
        self._urls = ", ".join(urls)
        self._answer_ms_max = answer_ms_max
        self.link = Link(world, urls, identity, peer_role=peer_role, on_failure=on_failure, pace=pace)

    def start(self) -> None:
        """Begin to dial."""
        self.link.start()

    async def close(self) -> None:
        """End; whoever waits gets RegisterUnreachable. Safe to call twice."""
        await self.link.close()

    # --- the port

    async def create(self, first: Ownership) -> Ownership:
        """Create a cluster's value unless there is one; returns the value there is. Raises RegisterUnreachable."""
        return _there(await self._now(CreateOwnership(first)))

    async def read(self, cluster: str) -> Ownership | None:
        """Return a cluster's value, None for an unknown one; raises RegisterUnreachable."""
        return await self._now(ReadOwnership(cluster))

    async def cas(self, expected: Ownership, new: Ownership) -> Ownership | None:
        """Replace exactly `expected` by `new`; returns the value there is. Raises RegisterUnreachable."""
        return await self._now(CasOwnership(expected, new))

    # --- an operator's word, and a look

    async def seed(self, value: Ownership) -> Ownership:
        """Set a value above the one there is, or where there is none; returns the value there is (R13, R14)."""
        return _there(await self._now(SeedOwnership(value)))

    async def status(self) -> RegisterCounts:
        """Return what the node that keeps the register has done, and who is connected to it."""
        return await self._ask(RegisterStatus(), RegisterCounts)

    async def _now(self, query: AnyRegisterQuery) -> Ownership | None:
        return (await self._ask(query, OwnershipNow)).ownership

    async def _ask(self, query: AnyRegisterQuery, kind: type[Answer]) -> Answer:
        try:
            encoded = encode(query)
            async with asyncio.timeout(self._answer_ms_max / 1_000):
                await self.link.until_coupled()
                answer = decode_register_answer(await self.link.ask(encoded))
        except TimeoutError:
            raise self._unreachable(self._why_no_answer()) from None
        except LinkLost as lost:
            raise self._unreachable(lost.problem.sentence) from None
        except Refused as refused:
            raise self._unreachable(refused.problem.sentence) from None
        except EngineClosed as closed:
            raise self._unreachable(f"{closed}.") from None
        except (DecodeError, RecursionError, ValueError, OverflowError) as error:
            raise self._unreachable(f"Its answer or our question can not be read: {error}.") from None
        if isinstance(answer, Problem):
            raise self._unreachable(answer.sentence)
        if not isinstance(answer, kind):
            raise self._unreachable(f"Its answer is {type(answer).__name__} where {kind.__name__} was due.")
        return answer

    def _why_no_answer(self) -> str:
        waited = f"No answer came within {self._answer_ms_max} ms."
        reason = self.link.problem
        return waited if self.link.peer is not None or reason is None else f"{waited} {reason.sentence}"

    def _unreachable(self, sentence: str) -> RegisterUnreachable:
        return RegisterUnreachable(f"The register at {self._urls} gave no answer that counts. {sentence}")


def _there(value: Ownership | None) -> Ownership:
    if value is None:
        raise RegisterUnreachable("The register said that it has no value for what it was just given.")
    return value
