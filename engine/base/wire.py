"""The messages of links: handshake, commands down, events up, beats. Floor 0.

* Each is a tagged, array-like struct in MessagePack; bodies travel as raw bytes that only their owner decodes.
* The dialling side sends Hello, Commands, Ask, Ack, Post, Beat; the listening side Welcome, Goodbye, Records, Replies,
  Answer, Beat. Goodbye is the last message of a connection.
* Numbers count from 1 inside one session, commands and queries apart; a session is one handshake.
"""

from typing import Annotated, TypeVar

import msgspec

from engine.base.ids import Cursor
from engine.base.limits import MESSAGE_ITEMS_MAX
from engine.base.problem import Problem

FEATURE_LEVEL = 1

Raw = msgspec.Raw
Item = TypeVar("Item")
Batch = Annotated[tuple[Item, ...], msgspec.Meta(max_length=MESSAGE_ITEMS_MAX)]


class Identity(msgspec.Struct, frozen=True):
    """Who a node is to others: the cluster, its role and name there, and which incarnation of it speaks.

    `pair`: the name of what acts here, where that is not the node's own: of two directors it is their agent's.
    """

    cluster: str
    role: str
    node: str
    incarnation: int = 0
    pair: str = ""


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """What all link messages share."""


class Hello(Message, frozen=True):
    """Open a session: who I am, and from which cursor on I want your records (None: no records at all)."""

    cluster: str
    role: str
    node: str
    incarnation: int
    session: str
    feature: int
    cursor: Cursor | None
    epoch: int = 0  # of the dialling side's ownership; the listening side obeys none below the highest it has seen
    pair: str = ""  # within which the epoch counts, "": within the role


class Welcome(Message, frozen=True):
    """The session is open: who I am, and my journal's published tip at this moment (up to it you must catch up)."""

    cluster: str
    role: str
    node: str
    incarnation: int
    session: str
    feature: int
    tip: Cursor


class Goodbye(Message, frozen=True):
    """The session is refused or ended, and why (Diverged, TooOld, NotMine, Closing, …)."""

    problem: Problem


class Commands(Message, frozen=True):
    """Commands `first`, `first`+1, … of this session."""

    first: int
    commands: Batch[Raw]


class Ask(Message, frozen=True):
    """A query; its answer comes as the Reply with the same number (numbered apart from commands)."""

    number: int
    query: Raw


class Reply(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The answer to one command or query: encoded Accepted, Problem, or a query's page."""

    number: int
    body: Raw


class Replies(Message, frozen=True):
    """Answers to commands, in any order."""

    replies: Batch[Reply]


class Answer(Message, frozen=True):
    """The answer to one query."""

    number: int
    body: Raw


class WireRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One journal record on its way up: index, epoch, and its events as a packed array."""

    index: int
    epoch: int
    events: bytes


class Records(Message, frozen=True):
    """Published records in order and without gaps, after the cursor of Hello."""

    records: Batch[WireRecord]


class Ack(Message, frozen=True):
    """Everything up to here is durable on my side; you may forget what was owed to me."""

    cursor: Cursor


class Beat(Message, frozen=True):
    """I am alive. Both sides send it on their own schedule, and the listening side also answers each one at once.

    `sent_ms` is the sender's monotonic clock; an answer brings it back unchanged as `echo_ms`, which is 0 elsewhere.
    """

    sent_ms: int
    echo_ms: int


class Post(Message, frozen=True):
    """A message outside of all streams, dialling side to listening side: it may be lost, and nobody counts it."""

    body: Raw


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag="Accepted", gc=False):
    """A command's events are durable; the id of its first event (place -1 when it caused none)."""

    index: int
    place: int


AnyMessage = Hello | Welcome | Goodbye | Commands | Ask | Replies | Answer | Records | Ack | Beat | Post
CommandReply = Accepted | Problem

encode_message = msgspec.msgpack.Encoder().encode
decode_message = msgspec.msgpack.Decoder(AnyMessage).decode
decode_command_reply = msgspec.msgpack.Decoder(CommandReply).decode
