"""Peer: messages between the two nodes of a pair, sent and forgotten. Floor 6.

* Each node dials the other and speaks on the link it dialled; what it hears comes over the other's. So a cut in one
  direction is one, and no message waits for an answer.
* The first word of each session are the speaker's times: a lease that one side counts and the other waits out must be
  the same on both.
* Messages that must not be late (beats, leases, offers) go before everything else.
* Who is not the other node of this very pair is refused, on both sides, with a sentence.
"""

from collections.abc import Callable

import msgspec

from engine.base.log import logger
from engine.base.pair import AnyPairMessage, Beat, BeatAck, Stale, Yield
from engine.base.problem import Problem, problem
from engine.base.wire import Hello, Identity, Raw
from engine.pair.content import fault_of
from engine.ports import World
from engine.rules.pair.times import Times
from engine.runtime.line import LineEnded, Pace
from engine.runtime.link import Link, LinkState
from engine.runtime.reception import Reception, Respond
from engine.runtime.session import Session

NotMyPeer = problem(
    "NotMyPeer",
    "{role} {node} is not the other node of this pair, which is {expected}; correct the address or the name.",
)
TimesDiffer = problem(
    "TimesDiffer", "The times of {node} and {peer} differ ({differences}); give both nodes of the pair the same."
)
PeersTakeNoCommands = problem("PeersTakeNoCommands", "The nodes of a pair take no commands of each other.")

URGENT = (Beat, BeatAck, Yield, Stale)


class Terms(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The first word of a session: what both nodes must agree on before they believe each other."""

    times: Times


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
        pace: Pace | None = None,
    ) -> None:
        """`on_connected`: we can speak, from the beginning; what was under way before may be lost."""
        self.malformed = 0
        self.refused: Problem | None = None  # whom we refused last, and why
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
            deliver=_refuse,
            admit=self._admit,
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

    def send(self, message: AnyPairMessage) -> bool:
        """Send a message, if there is a connection and room; it may be lost all the same."""
        return self.connected and self._link.post(encode(message), now=isinstance(message, URGENT))

    async def room(self) -> None:
        """Wait until there is room for what is not urgent, or no connection."""
        await self._link.room()

    @property
    def problem(self) -> Problem | None:
        """Why the two do not speak: what keeps us from the other node, or else whom we refused; None when all is well.

        A connection alone says nothing: who refuses our terms says so after it.
        """
        if self._link.problem is not None and not (self.connected and self._believed):
            return self._link.problem
        return self.refused

    async def close(self) -> None:
        """End; safe to call twice."""
        await self._link.close()
        await self._reception.close()

    def _coupled(self) -> None:
        self._link.post(encode(Terms(self._times)), now=True)
        self._on_connected()

    def _admit(self, hello: Hello) -> Problem | None:
        if (hello.role, hello.node) == (self._identity.role, self._peer_node):
            return None
        self.refused = NotMyPeer(role=hello.role, node=hello.node, expected=self._peer_node)
        return self.refused

    def _over(self, session: Session) -> None:
        if session.id == self._believed:
            self._believed = ""

    def _take(self, session: Session, body: Raw) -> None:
        try:
            message = decode(body)
            fault = None if isinstance(message, Terms) else fault_of(message)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            fault = str(error)
        if fault is not None:
            self._note_malformed(fault)
        elif isinstance(message, Terms):
            self._agree(session, message.times)
        elif session.id == self._believed:
            self._on_message(message)
        else:
            self._note_malformed(f"{type(message).__name__} before the times were told")

    def _agree(self, session: Session, theirs: Times) -> None:
        if theirs != self._times:
            self._believed = ""
            differences = ", ".join(
                f"{name}: {getattr(self._times, name)} and {getattr(theirs, name)}"
                for name in Times.__struct_fields__
                if getattr(self._times, name) != getattr(theirs, name)
            )
            self.refused = TimesDiffer(node=self._identity.node, peer=self._peer_node, differences=differences)
            raise LineEnded(self.refused)
        self._believed, self.refused = session.id, None

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


def _refuse(_session: Session, _number: int, _raw: Raw, reply: Respond) -> None:
    reply(encode(PeersTakeNoCommands()))
