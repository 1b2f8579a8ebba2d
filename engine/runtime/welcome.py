"""Welcome: how the dialling side says who it is, and what it looks at before it believes its peer. Floor 5."""

from engine.base.ids import Cursor
from engine.base.problem import Problem, problem
from engine.base.wire import FEATURE_LEVEL, Hello, Identity, Welcome
from engine.runtime.line import FEATURE_LEVEL_MIN, FeatureTooOld

WrongPeer = problem("WrongPeer", "At {url} there is {found}, not {expected}; correct the address or the name.")
PeerBehind = problem("PeerBehind", "The peer's journal ends at {tip}, before our cursor {cursor}: it lost records.")
PeerDiverged = problem(
    "PeerDiverged", "At record {index} the peer has epoch {theirs}, we have {ours}: these are two histories."
)

# Why no further attempt will do before a person has done something; told once, for from above it looks like silence.
FOR_A_PERSON = (
    *("WrongPeer", "FeatureTooOld", "PeerBehind", "PeerDiverged", "Diverged", "TooOld", "StaleEpoch"),
    *("NotMine", "NotMyPeer", "TimesDiffer", "PeerTooOld", "StaleIncarnation", "StaleDirector"),
)


def hello_of(identity: Identity, session: str, cursor: Cursor | None, epoch: int) -> Hello:
    """Return the message that opens a session."""
    who = (identity.cluster, identity.role, identity.node, identity.incarnation)
    return Hello(*who, session, FEATURE_LEVEL, cursor, epoch, identity.pair)


def welcome_fault(welcome: Welcome, url: str, expected: tuple[str, str, str], cursor: Cursor | None) -> Problem | None:
    """Return why a session can not begin, None when it can; `expected` is the peer's cluster, role and node."""
    found = (welcome.cluster, welcome.role, welcome.node)
    if found != expected:
        return WrongPeer(url=url, found="/".join(found), expected="/".join(expected))
    if welcome.feature < FEATURE_LEVEL_MIN:
        return FeatureTooOld(peer=url, level=welcome.feature, lowest=FEATURE_LEVEL_MIN)
    if cursor is not None and welcome.tip.index < cursor.index:
        return PeerBehind(tip=welcome.tip.index, cursor=cursor.index)
    if cursor is not None and cursor.index == welcome.tip.index > 0 and cursor.epoch != welcome.tip.epoch:
        return PeerDiverged(index=cursor.index, ours=cursor.epoch, theirs=welcome.tip.epoch)
    return None
