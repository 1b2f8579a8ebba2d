"""Peer: messages between the two nodes of a pair, sent and forgotten. Floor 6.

* Each node dials the other and speaks on the link it dialled; what it hears comes over the other's. So a cut in one
  direction is one, and no message waits for an answer.
* The first word of each session are the speaker's terms: its times (a lease that one side counts and the other waits
  out must be the same on both), the feature level it reads, its wall clock. They are told again now and then.
* At the same address people ask about the pair (`desk`), a bounded number at once; they are never heard as a peer.
* Messages that must not be late (beats, leases, offers) go before everything else.
* Who is not the other node of this very pair is refused, on both sides, with a sentence.
"""

from collections.abc import Callable
from typing import NoReturn

import msgspec

from engine.base.log import logger
from engine.base.pair import AnyPairMessage, Beat, BeatAck, Stale, Yield
from engine.base.problem import Problem, problem
from engine.base.wire import FEATURE_LEVEL, Hello, Identity, Raw
from engine.pair.content import fault_of
from engine.ports import World
from engine.rules.pair.times import Times
from engine.runtime.line import LineEnded, Pace
from engine.runtime.link import Link, LinkState
from engine.runtime.reception import Answering, NoQueries, Reception, Respond
from engine.runtime.session import Session

NotMyPeer = problem(
    "NotMyPeer",
    "{role} {node} is not the other node of this pair, which is {expected}; correct the address or the name.",
)
TimesDiffer = problem(
    "TimesDiffer", "The times of {node} and {peer} differ ({differences}); give both nodes of the pair the same."
)
PeersTakeNoCommands = problem(
    "PeersTakeNoCommands",
    "At its pair's own address a node takes no commands, only questions about the pair; give commands to the address"
    " at which {role} is served.",
)
PeerTooOld = problem(
    "PeerTooOld",
    "{peer} has feature level {level}, and the journal of {node} may hold events of level {needed}, which it can not"
    " read; start {peer} with the newer program.",
)
TooManyAsking = problem("TooManyAsking", "There are {count} who ask about this pair already; try again later.")

CLIENT = "client"
CLIENTS_MAX = 32
TERMS_AGAIN_MS = 60_000

URGENT = (Beat, BeatAck, Yield, Stale)


class Terms(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The first word of a session: what both nodes must agree on before they believe each other."""

    times: Times
    wall_ms: int = 0  # 0: not told
    feature: int = 1


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(AnyPairMessage | Terms).decode
log = logger("pair")


class Peer:
    """The other node, as far as messages go."""

    def __init__(
        self,
        world: World,
        identity: Identity,
        *,
        peer_node: str,
        own_url: str,
        peer_url: str,
        times: Times,
        on_message: Callable[[AnyPairMessage], None],
        on_connected: Callable[[], None],
        on_failure: Callable[[BaseException], None],
        on_terms: Callable[[int], None] = lambda _: None,
        ask: Answering | None = None,
        feature: int = FEATURE_LEVEL,
        feature_min: Callable[[], int] = lambda: 1,
        pace: Pace | None = None,
    ) -> None:
        """`on_connected`: we can speak, from the beginning; what was under way before may be lost.

        `on_terms`: the other node's feature level, whenever it tells it; below `feature_min` it is refused. `ask`:
        answers a person's questions about the pair.
        """
        self.malformed = 0
        self.refused: Problem | None = None  # whom we refused, and why, until all is well again
        self.stranger: Problem | None = None  # whom we refused last
        self.feature = 0  # the other node's level as told last, 0: never
        self.ahead_ms: int | None = None  # by how much its wall clock was ahead of ours then
        self._world = world
        self._own_feature = feature
        self._feature_min = feature_min
        self._on_terms = on_terms
        self._told_ms = 0  # when our terms were told last
        self._identity = identity
        self._peer_node = peer_node
        self._own_url = own_url
        self._times = times
        self._on_message = on_message
        self._on_connected = on_connected
        self._believed = ""  # the session whose terms are ours
        pace = pace or pace_of(times)
        self._reception = Reception(
            world,
            identity,
            deliver=self._refuse,
            admit=self._admit,
            ask=ask or _no_desk,
            on_failure=on_failure,
            on_post=self._take,
            on_ended=lambda session, _: self._over(session),
            pace=pace,
        )
        self._link = Link(
            world,
            (peer_url,),
            identity,
            peer_role=identity.role,
            peer_node=peer_node,
            on_failure=on_failure,
            on_coupled=lambda _: self._coupled(),
            pace=pace,
        )

    async def open(self) -> None:
        """Listen for the other node, and begin to dial it."""
        await self._reception.open(self._own_url)
        self._link.start()

    @property
    def connected(self) -> bool:
        """Whether there is a connection to speak on."""
        return self._link.state is LinkState.COUPLED

    @property
    def hears_or_speaks(self) -> bool:
        """Whether there is a connection in one direction at least."""
        return self.connected or any(one.role != CLIENT for one in self._reception.sessions())

    def send(self, message: AnyPairMessage) -> bool:
        """Send a message, if there is a connection and room; it may be lost all the same."""
        if not self.connected:
            return False
        if self._world.clock.monotonic_ms() - self._told_ms >= TERMS_AGAIN_MS:
            self._tell_terms()
        return self._link.post(encode(message), now=isinstance(message, URGENT))

    async def room(self) -> None:
        """Wait until there is room for what is not urgent, or no connection."""
        await self._link.room()

    @property
    def problem(self) -> Problem | None:
        """Why the two do not speak: what keeps us from the other node, or else whom we refused; None when all is well.

        A connection alone says nothing: who refuses our terms says so after it.
        """
        if self.connected and self._believed:
            return None  # a stranger who knocks is told beside, and is no reason not to begin
        if self.connected and self.refused is not None:
            return self.refused
        return self._link.problem or self.refused

    async def close(self) -> None:
        """End; safe to call twice."""
        await self._link.close()
        await self._reception.close()

    def _coupled(self) -> None:
        self._tell_terms()
        self._on_connected()

    def _tell_terms(self) -> None:
        clock = self._world.clock
        self._told_ms = clock.monotonic_ms()
        self._link.post(encode(Terms(self._times, clock.now_ms(), self._own_feature)), now=True)

    def _admit(self, hello: Hello) -> Problem | None:
        if hello.role == CLIENT:
            asking = sum(one.role == CLIENT and one.node != hello.node for one in self._reception.sessions())
            return TooManyAsking(count=asking) if asking >= CLIENTS_MAX else None
        if (hello.role, hello.node) == (self._identity.role, self._peer_node):
            return None
        self.stranger = self.refused = NotMyPeer(role=hello.role, node=hello.node, expected=self._peer_node)
        return self.refused

    def _refuse(self, _session: Session, _number: int, _raw: Raw, reply: Respond) -> None:
        reply(encode(PeersTakeNoCommands(role=f"the {self._identity.role}")))

    def _over(self, session: Session) -> None:
        if session.id == self._believed:
            self._believed = ""

    def _take(self, session: Session, body: Raw) -> None:
        try:
            message = decode(body)
            fault = None if isinstance(message, Terms) else fault_of(message)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            fault = str(error)
        if session.role == CLIENT:
            fault = "a person's questions are no messages of a peer"
        if fault is not None:
            self._note_malformed(fault)
        elif isinstance(message, Terms):
            self._agree(session, message)
        elif session.id == self._believed:
            self._on_message(message)
        else:
            self._note_malformed(f"{type(message).__name__} before the times were told")

    def _agree(self, session: Session, terms: Terms) -> None:
        self.feature, theirs = terms.feature, terms.times
        if terms.wall_ms:
            self.ahead_ms = terms.wall_ms - self._world.clock.now_ms()
        if terms.feature < self._feature_min():
            self._turn_away(
                PeerTooOld(
                    node=self._identity.node, peer=self._peer_node, level=terms.feature, needed=self._feature_min()
                )
            )
        if theirs != self._times:
            differences = ", ".join(
                f"{name}: {getattr(self._times, name)} and {getattr(theirs, name)}"
                for name in Times.__struct_fields__
                if getattr(self._times, name) != getattr(theirs, name)
            )
            self._turn_away(TimesDiffer(node=self._identity.node, peer=self._peer_node, differences=differences))
        self._believed, self.refused = session.id, None
        self._on_terms(terms.feature)

    def _turn_away(self, refusal: Problem) -> NoReturn:
        self._believed, self.refused, self.stranger = "", refusal, refusal
        raise LineEnded(refusal)

    def _note_malformed(self, fault: str) -> None:
        """Count, and write the first, second, fourth, eighth … into the log: a flood must not fill that too."""
        self.malformed += 1
        if self.malformed & (self.malformed - 1) == 0:
            log.warning(
                "a message of the peer can not be read", peer=self._peer_node, fault=fault, malformed=self.malformed
            )


def pace_of(times: Times) -> Pace:
    """Return the pace of a pair's links: who comes back is found before the other has given it up."""
    return Pace(
        beat_ms=times.beat_ms,
        handshake_ms_max=2 * times.beat_ms,
        reconnect_ms_min=max(1, times.beat_ms // 20),
        reconnect_ms_max=max(1, times.beat_ms // 2),
    )


def _no_desk(_session: Session, _number: int, _query: Raw, answer: Respond) -> None:
    answer(encode(NoQueries()))
