"""Ownership: what is asked of the register, and what follows from its answer (R5 to R14, R16). Floor 3.

* A question without an answer is unknown (R12): nothing is inferred, and the same question is asked again. That is
  harmless: a Cas that has won changes nothing a second time, and its answer shows the value there is.
* A value is obeyed once it is durable here; while it is being written no other is looked at.
* Each timer is a function of its own, so that the explorer may fire one and not another.
"""

from engine.base.pair import Cas, Member, Ownership, Read, Stale, Value, Yield
from engine.rules.pair.lease import has_missed_beats, is_silent, step_down
from engine.rules.pair.replication import commit, raised
from engine.rules.pair.state import (
    ACTIVE,
    FORCED_EPOCHS,
    LEASED,
    NOTHING,
    Activate,
    Alarm,
    Ask,
    Drain,
    Effect,
    GoOn,
    Keep,
    Pair,
    Role,
    Send,
    Setting,
)

# --- learning ---------------------------------------------------------------------------------------------------------


def on_value(me: Pair, who: Setting, value: Value, now_ms: int) -> list[Effect]:
    """Hear the register's answer."""
    own = value.ownership
    if not is_for(value, who):
        return []
    me.answered_ms = now_ms
    if own is None or own.epoch < value.known or is_other(me, own):
        return _lost(me, who, own, value.known)
    if is_late(me, own) or me.writing or me.role is Role.ENDED:
        return []
    me.register_lost = False
    me.has_read = me.has_read or own == me.cfg
    if own == me.cfg:
        return _tell_of_copy(own, who)  # what was asked has not been done (yet): the timers ask again
    me.writing, me.adopting = True, own
    stays = me.role in ACTIVE and is_mine(own, who)
    return [Keep(own, raised(me.log_epoch, own.epoch) if stays else me.log_epoch)]


def is_for(value: Value, who: Setting) -> bool:
    """Tell whether this very data has asked (R16): an empty disk begins by reading what is true after it was put in."""
    return value.store == who.store


def is_late(me: Pair, own: Ownership) -> bool:
    """Tell whether a register value is older than what was persisted here (R11): an answer that comes late."""
    return own.epoch < me.highest


def is_other(me: Pair, own: Ownership) -> bool:
    """Tell whether the register gives an epoch a second time: it fell back, and an old question came upon it then."""
    return me.cfg is not None and own.epoch == me.cfg.epoch and own != me.cfg


def is_mine(own: Ownership, who: Setting) -> bool:
    """Tell whether this incarnation owns the pair, with this very data (R7, R16)."""
    return own.owner == who.node and own.nonce == who.incarnation and own.has(who.member)


def is_copy(own: Ownership, who: Setting) -> bool:
    """Tell whether this disk is an older copy of the owner's: it has never had the incarnation that owns the pair."""
    is_owner = own.owner == who.node and own.has(who.member)
    return is_owner and 0 < who.last_incarnation < own.nonce != who.incarnation


def _tell_of_copy(own: Ownership, who: Setting) -> list[Effect]:
    if not is_copy(own, who):
        return []
    sentence = f"The disk of {who.node} is an older copy of the one that owns epoch {own.epoch}; it takes nothing over."
    return [Alarm(f"{sentence} Start the right disk, or the other node; if both are gone, force this one.")]


def is_hand_over(before: Ownership | None, own: Ownership, who: Setting) -> bool:
    """Tell whether this very value hands the pair over from the peer that yielded (R10)."""
    return (
        before is not None
        and own.epoch == before.epoch + 1
        and before.owner == who.peer
        and is_mine(own, who)
        and {one.node for one in own.insync} == {who.node, who.peer}
    )


def _lost(me: Pair, who: Setting, own: Ownership | None, known: int) -> list[Effect]:
    """R13: say so once, ask for nothing while it is so, and go on serving."""
    if me.register_lost or me.role is Role.ENDED:
        return []
    me.register_lost = True
    if own is None and not known:
        return [Alarm(f"The register knows no cluster {who.cluster}: create it there, or correct the name.")]
    says = f"knows no cluster {who.cluster}" if own is None else f"gives epoch {own.epoch} to {own.owner}"
    sentence = f"The register has lost its state: it {says}, and epoch {max(known, me.epoch)} has been."
    return [Alarm(f"{sentence} Nobody takes over until it is seeded above the highest epoch of both nodes.")]


def kept(me: Pair, who: Setting, now_ms: int) -> list[Effect]:
    """The value is durable here: obey it."""
    before, own = me.cfg, me.adopting
    assert own is not None
    me.writing, me.adopting = False, None
    me.cfg, me.has_read, me.asked, me.asked_ms = own, True, None, NOTHING
    me.good_beat_ms = now_ms
    me.skips_wait = is_hand_over(before, own, who)
    me.peer_index, me.unacked_since_ms, me.peer_is_behind = NOTHING, NOTHING, False
    if me.role is Role.ENDED:
        return []  # it stepped down while the value was being written; the next incarnation reads it
    if me.role in ACTIVE:
        if not is_mine(own, who):
            return step_down(me, f"{own.owner} owns epoch {own.epoch}")
        me.log_epoch = raised(me.log_epoch, own.epoch)
        return [*_own(me, who, now_ms), GoOn(own.epoch, me.role)]
    if me.role is Role.YIELDED:
        return step_down(me, f"{own.owner} owns epoch {own.epoch}")
    me.role = Role.PENDING if is_mine(own, who) else Role.STANDBY
    me.heard_ms = now_ms
    return []


def _own(me: Pair, who: Setting, now_ms: int) -> list[Effect]:
    """Take the role that the register's value gives its owner."""
    assert me.cfg is not None
    me.role = Role.COUPLED if any(one.node == who.peer for one in me.cfg.insync) else Role.SOLO
    me.heard_ms, me.couple_sent = now_ms, False
    return commit(me)


def on_stale(me: Pair, who: Setting, stale: Stale) -> list[Effect]:
    """Somebody says that our epoch is over: believed is only the register (R15)."""
    me.peer_epoch = max(me.peer_epoch, stale.epoch)
    return [Ask(Read(me.highest, who.store))] if stale.epoch > me.highest else []


# --- timers: what this node wants -------------------------------------------------------------------------------------


def uncouple(me: Pair, who: Setting, now_ms: int) -> list[Effect]:
    """R5: the owner goes on alone when the register agrees; until it *learns* that, the old rules hold."""
    if me.role not in LEASED or not is_silent(me, who.times, now_ms):
        return []
    if me.role is Role.JOINING and may_return(me):
        me.role, me.peer_is_behind, me.peer_index = Role.SOLO, False, NOTHING
        return [*commit(me), GoOn(me.epoch, Role.SOLO)]
    return _ask_if_heard(me, who, _mine(me, who, (who.member,)), now_ms)


def may_return(me: Pair) -> bool:
    """Tell whether JOINING may be left without asking: once the register was asked to couple, only it can say no."""
    return not me.couple_sent


def take_over(me: Pair, who: Setting, now_ms: int) -> list[Effect]:
    """R6: an in-sync standby asks for the pair after three missed beats."""
    cfg = me.cfg
    if me.role is not Role.STANDBY or cfg is None or cfg.owner != who.peer or not is_in_sync(cfg, who):
        return []
    if not has_missed_beats(me, who.times, now_ms):
        return []
    return _ask_if_heard(me, who, _mine(me, who, (who.member,)), now_ms)


def is_in_sync(cfg: Ownership, who: Setting) -> bool:
    """Tell whether this data, and not only this name, is in sync (R16)."""
    return cfg.has(who.member) and not is_copy(cfg, who)


def claim_again(me: Pair, who: Setting, now_ms: int) -> list[Effect]:
    """R8: an owner that was restarted begins a new epoch, whoever is in sync stays so."""
    cfg = me.cfg
    if me.role is not Role.STANDBY or cfg is None or cfg.owner != who.node or not is_in_sync(cfg, who):
        return []
    return _ask(me, _mine(me, who, cfg.insync), now_ms)


def activate(me: Pair, who: Setting, now_ms: int) -> list[Effect]:
    """R7: begin to act once no lease of ours can be valid any more; the whole own log is kept."""
    if me.role is not Role.PENDING or me.writing or me.cfg is None or not is_mine(me.cfg, who):
        return []
    if is_log_newer(me, me.cfg) or not has_waited(me, who, now_ms):
        return []
    me.log_epoch = raised(me.log_epoch, me.cfg.epoch)
    return [*_own(me, who, now_ms), Activate(me.cfg.epoch)]


def is_log_newer(me: Pair, own: Ownership) -> bool:
    """Tell whether somebody else has replicated to us in a later epoch than we own."""
    return own.epoch < me.log_epoch


def has_waited(me: Pair, who: Setting, now_ms: int) -> bool:
    """Tell whether the last lease granted here is over, by W; not asked of a value that is itself the hand-over."""
    return me.skips_wait or now_ms >= me.last_grant_ms + who.times.wait_ms


def join(me: Pair, who: Setting, now_ms: int) -> list[Effect]:
    """R9, first half: near the end the owner binds itself to the peer's lease and acknowledgement."""
    if me.role is not Role.SOLO or me.writing or me.peer_index == NOTHING or now_ms >= me.lease_ms:
        return []
    if me.log.last - me.peer_index > who.times.near:
        return []
    me.role, me.join_index, me.couple_sent = Role.JOINING, me.log.last, False
    return [GoOn(me.epoch, Role.JOINING)]


def couple(me: Pair, who: Setting, now_ms: int) -> list[Effect]:
    """R9, second half: with everything acknowledged there, the peer's data is in sync if the register agrees."""
    if me.role is not Role.JOINING or me.peer_is_behind or not has_caught_up(me):
        return []
    members = tuple(sorted((who.member, Member(who.peer, me.peer_store))))
    effects = _ask(me, _mine(me, who, members), now_ms)
    me.couple_sent = me.couple_sent or bool(effects)
    return effects


def has_caught_up(me: Pair) -> bool:
    """Tell whether the peer holds all that was acknowledged before we bound ourselves to it."""
    return me.peer_index >= me.join_index


def hand_over(me: Pair, who: Setting, now_ms: int) -> list[Effect]:
    """R10, repeated: offer again with each look at the register; when nobody takes it, boot and claim again (R8)."""
    if me.role is not Role.YIELDED or me.writing:
        return []
    if now_ms - me.heard_ms >= who.times.takeover_ms:
        return step_down(me, f"handed over, and {who.peer} did not take it")
    if me.looked_ms != NOTHING and now_ms - me.looked_ms < who.times.again_ms:
        return []
    return [Send(Yield(me.epoch, me.log.last))]


def look(me: Pair, who: Setting, now_ms: int) -> list[Effect]:
    """Read the register when there is something to learn: nothing known, a higher epoch heard of, its loss.

    Who is out of sync and hears no owner looks too: a question to couple may have landed after its owner died. And
    everybody looks now and then: a standby's question to take over may have landed after the owner was heard again,
    when neither knows whom the register names, and the next failure would find nobody in sync to follow; and that a
    register is away or has lost its state must be known before it is needed.
    """
    if me.writing or me.role is Role.ENDED:
        return []
    behind = max(me.peer_epoch, me.log_epoch) > me.epoch
    alone = me.role is Role.STANDBY and has_missed_beats(me, who.times, now_ms)
    seldom = now_ms - max(me.looked_ms, me.answered_ms) >= who.times.batch_ms
    wants = behind or alone or seldom or not me.has_read or me.register_lost or me.role is Role.YIELDED
    return _read(me, who, now_ms) if wants else []


TIMERS = (uncouple, take_over, claim_again, activate, join, couple, hand_over, look)


def waits(me: Pair, who: Setting, now_ms: int) -> bool:
    """Tell whether the register was asked so lately that its answer may still come (R12)."""
    return me.asked is not None and now_ms - me.asked_ms < who.times.again_ms


def _mine(me: Pair, who: Setting, insync: tuple[Member, ...], epochs: int = 1) -> Ownership:
    assert me.cfg is not None
    return Ownership(who.cluster, me.cfg.epoch + epochs, who.node, insync, who.incarnation)


def _ask_if_heard(me: Pair, who: Setting, new: Ownership, now_ms: int) -> list[Effect]:
    """Ask for the pair alone, if the register's answers arrive; else see whether they do.

    Who hears nobody could win and never know it, and would keep the other from serving.
    """
    if now_ms - me.answered_ms <= who.times.again_ms:
        return _ask(me, new, now_ms)
    return _read(me, who, now_ms)


def _read(me: Pair, who: Setting, now_ms: int) -> list[Effect]:
    """Read the register, at most so often: an answer that changes nothing must not be the reason to ask again."""
    if me.looked_ms != NOTHING and now_ms - me.looked_ms < who.times.again_ms:
        return []
    me.looked_ms = now_ms
    return [Ask(Read(me.highest, who.store))]


def _ask(me: Pair, new: Ownership, now_ms: int) -> list[Effect]:
    assert me.cfg is not None
    if me.register_lost or me.writing:
        return []
    me.asked, me.asked_ms = Cas(me.cfg, new), now_ms
    return [Ask(me.asked)]


# --- what a person asks -----------------------------------------------------------------------------------------------


def switch_over(me: Pair, _who: Setting) -> list[Effect]:
    """R10, first: let the owner come to a stop."""
    return [Drain()] if me.role is Role.COUPLED else []


def drained(me: Pair, _who: Setting, now_ms: int) -> list[Effect]:
    """R10, second: everything is acknowledged and nothing will be added; act no more and hand over."""
    if me.role is not Role.COUPLED or me.writing or me.commit != me.log.last or now_ms >= me.lease_ms:
        return []
    me.role, me.heard_ms, me.looked_ms = Role.YIELDED, now_ms, now_ms
    return [Send(Yield(me.epoch, me.log.last))]


def on_yield(me: Pair, who: Setting, offer: Yield, now_ms: int) -> list[Effect]:
    """R10, third: the standby asks for what is handed over, and both stay in sync."""
    cfg = me.cfg
    if me.role is not Role.STANDBY or cfg is None or cfg.epoch != offer.epoch or cfg.owner != who.peer:
        return []
    if not is_in_sync(cfg, who) or me.log.last != offer.last or len(cfg.insync) < 2:
        return []
    return _ask(me, _mine(me, who, cfg.insync), now_ms)


def force_take_over(me: Pair, who: Setting, now_ms: int) -> list[Effect]:
    """R14: an operator has confirmed that the peer is off; what only the peer held is lost, and that is journaled."""
    if me.role is not Role.STANDBY or me.cfg is None:
        return []
    return _ask(me, _mine(me, who, (who.member,), FORCED_EPOCHS), now_ms)
