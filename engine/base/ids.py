"""Names and ids: what may be called how, and the event's address. Floor 0.

* Names of people's things (workflows, agents, orders) are checked once, where they enter.
* Ids made by us (attempt keys, child orders) are built only here, so that they can be taken apart again.
"""

import hashlib
import re
from typing import NewType
from urllib.parse import quote

import msgspec

OrderId = NewType("OrderId", str)
AgentId = NewType("AgentId", str)
SubagentId = NewType("SubagentId", str)
BundleId = NewType("BundleId", str)

NAME_LENGTH_MAX = 100
ORDER_ID_LENGTH_MAX = 250
FOLDER_LENGTH_MAX = 150  # of one path component; file systems allow 255 bytes

BRANCH_SEPARATOR = "|"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")
_ORDER_ID = re.compile(r"[\w][\w.:#@+=,-]*\Z")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class EventId(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """The address of an event: the index of its record, and its place in that record, from 0."""

    index: int
    place: int


class Cursor(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """How far a reader has come: the last index it holds and the epoch of that record."""

    index: int
    epoch: int


START = Cursor(0, 0)


def is_name(text: str) -> bool:
    """Tell whether text may name a workflow, job, agent or branch: letters, digits, `_`, `.`, `-`, at most 100."""
    return len(text) <= NAME_LENGTH_MAX and _NAME.match(text) is not None


def is_variable(text: str) -> bool:
    """Tell whether text may name an order variable: a letter or `_`, then letters, digits and `_`."""
    return len(text) <= NAME_LENGTH_MAX and _WORD.match(text) is not None


def is_order_id(text: str) -> bool:
    """Tell whether a person may call an order so; `|` is ours, for branches."""
    return len(text) <= ORDER_ID_LENGTH_MAX and _ORDER_ID.match(text) is not None


def child_id(parent: OrderId, branch: str) -> OrderId:
    """Build the id of a branch's order."""
    return OrderId(f"{parent}{BRANCH_SEPARATOR}{branch}")


def attempt_key(order: OrderId, added: int, attempt: int) -> str:
    """Build the key under which one attempt is known to subagent and guard.

    `added` is the index at which the order was added, so that an id used again for a later order is another key.
    """
    return f"{order}/{added}/{attempt}"


def parse_attempt_key(key: str) -> tuple[OrderId, int, int]:
    """Take an attempt's key apart into order, `added` and attempt; raises ValueError for what is none."""
    order, added, attempt = key.rsplit("/", 2)
    return OrderId(order), int(added), int(attempt)


def attempt_folder(key: str) -> str:
    """Return the folder of an attempt's files below a subagent's state directory, safe as a path on any system."""
    order, added, attempt = parse_attempt_key(key)
    quoted = quote(order, safe="")
    if quoted.startswith("."):  # `.` and `..` are no names of folders
        quoted = f"%2E{quoted[1:]}"
    if len(quoted) > FOLDER_LENGTH_MAX:
        quoted = f"{quoted[:60]}~{hashlib.blake2b(order.encode(), digest_size=16).hexdigest()}"
    return f"attempts/{quoted}/{added}-{attempt}"
