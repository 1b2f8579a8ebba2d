"""What controller and agent journal and keep when they were forced to act."""

from engine.base.ids import AgentId
from engine.base.pair import Member, Ownership
from engine.language import standard_language
from engine.model import query as q
from engine.model.event import OwnershipChanged, PairForced
from engine.rules.agent import AgentMachine
from engine.rules.controller import ControllerMachine
from engine.rules.forced import TakenOverByForce

FORCED = TakenOverByForce("north", 1_002, 41, 57)
EVENT = PairForced(5, "north", 1_002, 41, 57)


def machines() -> list[ControllerMachine | AgentMachine]:
    language = standard_language()
    return [ControllerMachine(language), AgentMachine(language, AgentId("a"))]


def test_a_forced_takeover_is_journaled_once_and_kept() -> None:
    for machine in machines():
        state = machine.blank()
        assert machine.decide(state, FORCED, 5) == [EVENT]  # type: ignore[arg-type]
        packed = standard_language().encode([EVENT])
        assert machine.decode_events(packed) == [EVENT]
        machine.apply(state, EVENT, 1)  # type: ignore[arg-type]
        assert state.forced_epoch == 1_002
        assert machine.decide(state, FORCED, 6) == []  # type: ignore[arg-type]
        assert (list(machine.touched(state, EVENT)), machine.effects(state, EVENT)) == ([], [])  # type: ignore[arg-type]
        again = machine.decode_state(machine.encode_state(state))  # type: ignore[arg-type]
        assert again.forced_epoch == 1_002
        status = machine.query(state, q.GetStatus(), 7)  # type: ignore[arg-type]
        assert status.counts["forced_epoch"] == 1_002


def test_a_forced_controller_trusts_none_of_the_ownerships_it_kept() -> None:
    machine = ControllerMachine(standard_language())
    state = machine.blank()
    assert "forced_epoch" not in machine.query(state, q.GetStatus(), 7).counts
    machine.apply(state, OwnershipChanged(1, Ownership("pair", 3, "a", (Member("a", "s"),), 1), seeded=True), 1)
    machine.apply(state, EVENT, 2)
    assert list(state.unconfirmed) == ["pair"]
