"""What may happen next in the explorer's world, and what comes of it.

* A label is a plain tuple; the same label in the same world gives the same next world, so a path is a list of labels.
* `None` instead of a world means that nothing has changed.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

from msgspec.structs import replace

from engine.base.pair import AnyPairMessage, Beat, BeatAck, Cas, InstallSnapshot, Rep, Value
from engine.rules.pair import lease, machine, ownership, replication
from engine.rules.pair.state import (
    ACTIVE,
    NOTHING,
    Activate,
    Ask,
    Drain,
    Effect,
    End,
    GoOn,
    Install,
    Keep,
    Pair,
    Role,
    Send,
    Setting,
    Write,
)
from tests.prove.obeying import give_command, obey
from tests.prove.world import (
    NODES,
    NOW,
    Mail,
    Node,
    Published,
    World,
    decode_mail,
    encode,
    other,
    setting,
    spend,
    store_name,
    with_node,
)

Label = tuple[Any, ...]

TIMERS = ("uncouple", "take_over", "claim_again", "activate", "join", "couple", "hand_over")


def labels(world: World) -> Iterator[Label]:
    """Yield everything that may happen, in a fixed order."""
    yield ("tick",)
    for name in NODES:
        node = world.node(name)
        if not node.alive:
            yield ("boot", name)
            continue
        if node.pending is not None:
            yield ("fsync", name)
        if world.left.crashes:
            yield ("crash", name)
        if world.left.wipes:
            yield ("wipe", name)
        for timer in TIMERS:
            yield ("timer", name, timer)
        yield ("beat", name)
        if world.left.events:
            yield ("append", name)
        yield ("read", name)
        if world.left.yields:
            yield ("yield", name)
        if world.left.forces:
            yield ("force", name)
        if world.left.keeps:
            yield ("keep", name)
        if world.left.commands:
            yield ("command", name)
        yield from _replications(world, name, node)
    for number in range(len(world.mail)):
        yield ("mail", number)
    for epoch in world.commands:
        yield ("obey", epoch)
    for number in range(len(world.past) if world.left.rollbacks else 0):
        yield ("rollback", number)


def _replications(world: World, name: str, node: Node) -> Iterator[Label]:
    for number, log in enumerate(world.published):
        if log.owner == name or (log.epoch < node.pair.highest and not world.left.old_mail):
            continue
        length = len(log.epochs)
        if world.left.whole_logs:
            taken_over = sum(epoch != log.epoch for epoch in log.epochs)
            yield from (("rep", name, number, 0, count) for count in range(taken_over, length + 1))
            continue
        for prev in range(log.first_known, length + 1):
            for count in range(length - prev + 1):
                yield ("rep", name, number, prev, count)
        if world.left.snapshots:
            for index in range(max(log.first_known, 1), min(length, len(world.acked)) + 1):
                yield ("snapshot", name, number, index)


# --- one step ---------------------------------------------------------------------------------------------------------


def step(world: World, label: Label) -> World | None:
    """Do what the label says."""
    after = STEPS[label[0]](world, *label[1:])
    if after is None:
        return None
    if not world.left.slow_disk:
        for name in NODES:
            if after.node(name).pending is not None:  # a crash in between is as if the message had not come
                after = _fsync(after, name) or after
    return pruned(after)


def _mailed(world: World, to: str, message: Any) -> World:
    raw = encode(Mail(to, message))
    return world if raw in world.mail else replace(world, mail=tuple(sorted((*world.mail, raw))))


def apply(world: World, name: str, rule: Callable[..., list[Effect]], *arguments: Any) -> World | None:
    """Let a node's rule act, and let its effects happen."""
    node = world.node(name)
    me = copy.copy(node.pair)
    who = setting(name, node.incarnation, node.stores)
    effects = rule(me, who, *arguments)
    after = _normal(me, who, world.left.commits)
    if after == node.pair and not effects:
        return None
    return perform(with_node(world, name, replace(node, pair=after)), name, effects)


def _normal(me: Pair, who: Setting, commits: bool) -> Pair:
    """Forget what plays no part where every suspicion is allowed at every instant."""
    me.heard_ms = me.good_beat_ms = me.peer_batch_ms = me.peer_epoch = me.answered_ms = 0
    me.asked, me.asked_ms, me.looked_ms, me.unacked_since_ms = None, NOTHING, NOTHING, NOTHING
    me.lease_not_for_ms = -9
    me.lease_ms = max(me.lease_ms, NOW)
    if me.role in ACTIVE:
        me.last_grant_ms, me.skips_wait = -1, False
    if me.role is Role.COUPLED:
        me.peer_store = ""
    if me.cfg is not None and (me.role is not Role.STANDBY or me.cfg.has(who.member)):
        me.has_read = True  # of no account
    if me.role not in ACTIVE:
        me.join_index, me.couple_sent = 0, False
        if not commits:
            me.commit = 0
        if me.role is not Role.PENDING:
            me.lease_ms, me.peer_store, me.peer_index, me.peer_is_behind = 0, "", NOTHING, False
    if me.role is not Role.JOINING:
        me.peer_is_behind = False
    if me.role in ACTIVE or not commits:
        me.same_epoch = me.same_index = 0
    return me


def perform(world: World, name: str, effects: list[Effect]) -> World:
    """Let effects happen: messages are sent, writes are begun, an end is a death."""
    for effect in effects:
        match effect:
            case Send(message):
                world = _sent(world, name, message)
            case Ask(question) if isinstance(question, Cas):
                world = _mailed(world, "R", question)
            case Keep() | Write() | Install():
                world = with_node(world, name, replace(world.node(name), pending=effect))
            case Activate() | GoOn():
                world = publish(world, name)
            case End():
                world = _died(world, name, _dead(world.node(name)))
            case _:
                pass
    return world


IN_VAIN = ("Stale", "RepNack")  # they only hasten what is allowed anyway: reading, uncoupling


def _sent(world: World, name: str, message: AnyPairMessage) -> World:
    return world if type(message).__name__ in IN_VAIN else _mailed(world, other(name), message)


def publish(world: World, name: str) -> World:
    """What an owner holds may be on its way from now on."""
    node = world.node(name)
    if node.pair.role not in ACTIVE:
        return world
    epochs = tuple(node.pair.log.epoch_at(index) or 0 for index in range(1, len(node.content) + 1))
    mine = Published(name, node.incarnation, node.pair.epoch, epochs, node.content)
    key = (mine.owner, mine.incarnation, mine.epoch)
    others = [one for one in world.published if (one.owner, one.incarnation, one.epoch) != key]
    return replace(world, published=tuple(sorted((*others, mine), key=encode)))


def _dead(node: Node) -> Node:
    """Keep what the disk holds."""
    pair = Pair(cfg=node.pair.cfg, log_epoch=node.pair.log_epoch, log=node.pair.log)
    return replace(node, alive=False, pair=pair, pending=None, pending_content=())


def _tick(world: World) -> World | None:
    nodes = []
    for name in NODES:
        node = world.node(name)
        me = copy.copy(node.pair)
        me.lease_ms, me.last_grant_ms = 0, -1
        nodes.append(replace(node, pair=me))
    mail = []
    for raw in world.mail:
        found = decode_mail(raw)
        sent = getattr(found.message, "sent_ms", None)
        if sent is None:
            mail.append(raw)
        elif sent == NOW and world.left.late_beats:
            mail.append(encode(Mail(found.to, replace(found.message, sent_ms=NOW - 1))))
    after = replace(world, a=nodes[0], b=nodes[1], mail=tuple(sorted(set(mail))))
    return None if after == world else after


def _died(world: World, name: str, node: Node) -> World:
    """Bury a node; it is booted at once, since one that boots later can do nothing that a silent one can not.

    Only where an operator may say that a node is off does it matter that it is.
    """
    after = with_node(world, name, node)
    return after if world.left.forces else _boot(after, name)


def _boot(world: World, name: str) -> World:
    node = world.node(name)
    me = machine.boot(node.pair.cfg, node.pair.log_epoch, node.pair.log, NOW)
    incarnation = node.incarnation + 1
    me = _normal(me, setting(name, incarnation, node.stores), world.left.commits)
    return with_node(world, name, replace(node, alive=True, incarnation=incarnation, pair=me))


def _crash(world: World, name: str) -> World:
    return spend(_died(world, name, _dead(world.node(name))), "crashes")


def _wipe(world: World, name: str) -> World:
    node = world.node(name)
    empty = Node(False, node.incarnation, node.stores + 1, Pair())
    return spend(_died(world, name, empty), "wipes")


def _fsync(world: World, name: str) -> World | None:
    node = world.node(name)
    pending, content = node.pending, node.pending_content
    assert pending is not None
    if isinstance(pending, Keep):
        return apply(with_node(world, name, replace(node, pending=None)), name, ownership.kept, NOW)
    node = replace(node, pending=None, pending_content=(), content=content)
    return apply(with_node(world, name, node), name, replication.written, pending)


def _timer(world: World, name: str, timer: str) -> World | None:
    return apply(world, name, getattr(ownership, timer), NOW)


def _beat(world: World, name: str) -> World | None:
    beat = lease.beat_of(world.node(name).pair, NOW)
    if beat is None:
        return None
    beat = replace(beat, commit=beat.commit if world.left.commits else 0, ack_age_ms=0)
    if world.left.late_beats:
        after = _mailed(world, other(name), beat)
        return None if after is world else after
    return _round(world, name, beat)


def _round(world: World, name: str, beat: Beat) -> World | None:
    """Let a beat be heard and its answer too, all between two ticks: an order of events that hides no other.

    Whatever happens to either side between sending and hearing could as well have happened before the beat was sent.
    """
    peer = other(name)
    if not world.node(peer).alive:
        return None
    heard = apply(world, peer, _hear, beat)
    if heard is None:
        return None
    answers = [raw for raw in heard.mail if isinstance(decode_mail(raw).message, BeatAck)]
    if not answers:
        return heard
    heard = replace(heard, mail=tuple(raw for raw in heard.mail if raw not in answers))
    granted = apply(heard, name, _hear, decode_mail(answers[0]).message)
    granted = granted or heard
    return None if granted == world else granted


def _append(world: World, name: str) -> World | None:
    node = world.node(name)
    if node.pair.role not in ACTIVE:
        return None
    grown = replace(node, content=(*node.content, world.records))
    world = replace(spend(world, "events"), records=world.records + 1)
    epochs = (node.pair.epoch,)
    after = apply(with_node(world, name, grown), name, lambda me, _who: replication.appended(me, epochs, NOW))
    assert after is not None
    return publish(after, name)


def _read(world: World, name: str) -> World | None:
    node = world.node(name)
    return _answered(world, name, Value(world.register, node.pair.highest, store_name(name, node.stores)))


def _mail(world: World, number: int) -> World | None:
    found = decode_mail(world.mail[number])
    message = found.message
    if isinstance(message, Cas):
        return _cas(world, message)
    if not world.node(found.to).alive:
        return None
    if isinstance(message, Value):
        return apply(world, found.to, ownership.on_value, message, NOW)
    return apply(world, found.to, _hear, message)


def _hear(me: Pair, who: Setting, message: AnyPairMessage) -> list[Effect]:
    return machine.hear(me, who, message, NOW)


def _answered(world: World, name: str, value: Value) -> World | None:
    """Send a register's answer, unless it says what the node knows."""
    assert value.ownership is not None
    me = world.node(name).pair
    is_twin = value.ownership.epoch == me.epoch and value.ownership != me.cfg
    is_old = value.known <= value.ownership.epoch <= me.epoch and me.has_read and not is_twin
    if is_old and not me.register_lost and not world.left.old_mail:
        return None
    after = _mailed(world, name, value)
    return None if after is world else after


def pruned(world: World) -> World:
    """Drop what is ignored for ever: questions whose epoch is over, answers and logs of which that is known."""
    if world.left.old_mail:
        return world
    mail = tuple(raw for raw in world.mail if _may_matter(world, decode_mail(raw)))
    published = tuple(one for one in world.published if one.epoch >= world.node(other(one.owner)).pair.highest)
    if len(mail) == len(world.mail) and len(published) == len(world.published):
        return world
    return replace(world, mail=mail, published=published)


def _may_matter(world: World, mail: Mail) -> bool:
    message = mail.message
    if isinstance(message, Cas):
        return message.expected.epoch >= world.register.epoch or world.left.rollbacks > 0
    me = world.node(mail.to).pair
    if isinstance(message, Value):
        assert message.ownership is not None
        if not is_asked_by_present_disk(world, mail.to, message):
            return False
        epoch = message.ownership.epoch
        if epoch == me.epoch and message.ownership != me.cfg:
            return True
        return epoch > me.epoch or epoch < message.known or (epoch == me.epoch and not me.has_read)
    return message.epoch >= me.highest


def is_asked_by_present_disk(world: World, name: str, value: Value) -> bool:
    """Tell whether an answer can still be believed."""
    return value.store == store_name(name, world.node(name).stores)


def _cas(world: World, cas: Cas) -> World | None:
    if cas.new.epoch > world.left.epochs:
        return None
    past = world.past
    register = world.register
    acked = world.acked
    if register == cas.expected and cas.new.epoch > cas.expected.epoch:
        past = (*past, register) if world.left.rollbacks else past
        register = cas.new
        if cas.new.epoch == cas.expected.epoch + FORCED:  # R14: what only the other one had is lost, and that is known
            acked = _common(acked, world.node(register.owner).content)
    after = replace(world, register=register, past=past, acked=acked)
    after = _answered(after, cas.new.owner, Value(register, cas.expected.epoch, cas.store)) or after
    return None if after == world else after


def _yield(world: World, name: str) -> World | None:
    after = apply(world, name, _drain_and_yield)
    return None if after is None else spend(after, "yields")


def _drain_and_yield(me: Pair, who: Any) -> list[Effect]:
    drains = ownership.switch_over(me, who)
    return ownership.drained(me, who, NOW) if drains == [Drain()] else []


def _force(world: World, name: str) -> World | None:
    """An operator's word: he has seen that the peer is off, and it stays so until it is booted again."""
    if world.node(other(name)).alive:
        return None
    after = apply(world, name, _force_by_little)
    return None if after is None else spend(after, "forces")


def _keep(world: World, name: str) -> World | None:
    """A standby makes a snapshot of its own log, as far as it may."""
    me = copy.copy(world.node(name).pair)
    index = replication.compared(me)
    if not replication.may_keep(me, index, me.log.epoch_at(index) or 0):
        return None
    replication.based(me, index, me.log.epoch_at(index) or 0)
    return spend(with_node(world, name, replace(world.node(name), pair=me)), "keeps")


FORCED = 2  # in small worlds this is a thousand


def _force_by_little(me: Pair, who: Setting) -> list[Effect]:
    effects = ownership.force_take_over(me, who, NOW)
    return [_by_little(one) for one in effects]


def _by_little(effect: Effect) -> Effect:
    assert isinstance(effect, Ask)
    cas = effect.question
    assert isinstance(cas, Cas)
    return Ask(Cas(cas.expected, replace(cas.new, epoch=cas.expected.epoch + FORCED)))


def _common(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    count = 0
    while count < min(len(first), len(second)) and first[count] == second[count]:
        count += 1
    return first[:count]


def _rollback(world: World, number: int) -> World | None:
    """The register falls back. Only what happens while both nodes know better is promised anything (R13)."""
    if any(world.node(name).pair.epoch < world.register.epoch for name in NODES):
        return None
    return spend(replace(world, register=world.past[number], past=()), "rollbacks")


def _rep(world: World, name: str, number: int, prev: int, count: int) -> World | None:
    log = world.published[number]
    epochs = log.epochs[prev : prev + count]
    rep = Rep(log.epoch, prev, log.epochs[prev - 1] if prev else 0, epochs)
    after = apply(world, name, replication.on_rep, rep)
    return after and _with_content(after, name, log.content[prev : prev + count])


def _with_content(world: World, name: str, content: tuple[int, ...]) -> World:
    """Say which records a write under way will bring."""
    node = world.node(name)
    if not isinstance(node.pending, Write) or node.pending_content:
        return world
    write = node.pending
    kept = node.content if write.drop_after is None else node.content[: write.drop_after]
    return with_node(world, name, replace(node, pending_content=(*kept, *content[write.skip :])))


def _snapshot(world: World, name: str, number: int, index: int) -> World | None:
    log = world.published[number]
    snapshot = InstallSnapshot(log.epoch, "s", index, log.epochs[index - 1], b"", 0, 0, b"")
    after = apply(world, name, replication.on_snapshot, snapshot)
    if after is None:
        return None
    node = after.node(name)
    if node.pending is not None:
        content = log.content[:index] if isinstance(node.pending, Install) else node.content
        after = with_node(after, name, replace(node, pending_content=content))
    return spend(after, "snapshots")


STEPS: dict[str, Callable[..., World | None]] = {
    "tick": _tick,
    "boot": _boot,
    "crash": _crash,
    "wipe": _wipe,
    "fsync": _fsync,
    "timer": _timer,
    "beat": _beat,
    "append": _append,
    "read": _read,
    "mail": _mail,
    "yield": _yield,
    "force": _force,
    "keep": _keep,
    "command": give_command,
    "obey": obey,
    "rollback": _rollback,
    "rep": _rep,
    "snapshot": _snapshot,
}
