"""PairClient: a person's handle on one node of a pair: its status, a switch-over, a forced takeover. Floor 6.

* It speaks with the pair's own address of a node, which answers whether that node acts or not.
* Whatever keeps an answer from coming is PairUnreachable; a refusal is Refused with the node's Problem.
* A question is put once. A switch-over or a forced takeover without an answer may have happened: see the status.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import msgspec

from engine.base.codec import DecodeError, encode
from engine.base.pair_query import (
    AnyPairQuery,
    ForceTakeOver,
    GetPairStatus,
    PairDone,
    PairStatus,
    SwitchOver,
    decode_pair_answer,
)
from engine.base.problem import EngineClosed, Problem, Refused
from engine.base.wire import Identity
from engine.runtime.line import PACE, LinkWorld, Pace
from engine.runtime.link import Link, LinkLost

ANSWER_MS_MAX = 10_000  # a switch-over may take as long as a lease

Found = TypeVar("Found", PairStatus, PairDone)


class PairUnreachable(Exception):
    """The node gave no answer; the sentence says why."""


class PairClient:
    """A handle on the node at some address."""

    def __init__(
        self,
        world: LinkWorld,
        url: str,
        cluster: str,
        role: str,
        *,
        on_failure: Callable[[BaseException], None],
        answer_ms_max: int = ANSWER_MS_MAX,
        pace: Pace = PACE,
    ) -> None:
        """Prepare; `start` dials. `url`: where the node speaks with its peer; `role`: controller or agent."""
        self.url = url
        self._answer_ms_max = answer_ms_max
        identity = Identity(cluster, "client", world.new_id())
        self.link = Link(world, (url,), identity, peer_role=role, on_failure=on_failure, pace=pace)

    def start(self) -> None:
        """Begin to dial, and keep on until `close`."""
        self.link.start()

    async def close(self) -> None:
        """End; whoever waits gets PairUnreachable. Safe to call twice."""
        await self.link.close()

    async def status(self) -> PairStatus:
        """Return what the node is, and what it knows of the other and of the register."""
        return await self._ask(GetPairStatus(), PairStatus)

    async def switch_over(self) -> str:
        """Let the owner hand over; returns what it says. Raises Refused where it is not the owner, or not coupled."""
        return (await self._ask(SwitchOver(), PairDone)).sentence

    async def force_take_over(self, *, peer_is_off: bool) -> str:
        """Let the node act although its data may be incomplete; returns what it says.

        `peer_is_off`: you have seen that the other node is off. Raises Refused where that is not so, or not needed.
        """
        return (await self._ask(ForceTakeOver(peer_is_off), PairDone)).sentence

    async def _ask(self, query: AnyPairQuery, kind: type[Found]) -> Found:
        try:
            async with asyncio.timeout(self._answer_ms_max / 1_000):
                await self.link.until_coupled()
                answer = decode_pair_answer(await self.link.ask(encode(query)))
        except TimeoutError:
            reason = self.link.problem
            why = "" if self.link.peer is not None or reason is None else f" {reason.sentence}"
            raise self._unreachable(f"No answer came within {self._answer_ms_max} ms.{why}") from None
        except LinkLost as lost:
            raise self._unreachable(lost.problem.sentence) from None
        except EngineClosed as closed:
            raise self._unreachable(f"{closed}.") from None
        except (DecodeError, msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise self._unreachable(f"Its answer can not be read: {error}.") from None
        if isinstance(answer, Problem):
            raise Refused(answer)
        if not isinstance(answer, kind):
            raise self._unreachable(f"Its answer is {type(answer).__name__} where {kind.__name__} was due.")
        return answer

    def _unreachable(self, sentence: str) -> PairUnreachable:
        return PairUnreachable(f"The node at {self.url} gave no answer that counts. {sentence}")
