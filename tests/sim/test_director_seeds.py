"""Agents with two directors under random faults, below one controller or two.

`UNDERSTUDY_SEEDS` asks for more seeds; `make sim SEED=…` shows one with its timeline.

Tests: engine/simulation/director_faults.py, engine/simulation/director_pairs.py
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.subagent import Subagent
from engine.boot import DirectorPairNode
from engine.client.register import LinkRegister
from engine.rules.agent import AgentMachine
from engine.simulation.director_pairs import DIRECTORS_CATALOGUE
from tests.sim.batches import ONE, assert_same_trace, replay, run_batch, several, shared_folder, single
from tests.sim.pair_runs import DIRECTORS_DRAWN
from tests.sim.runs import Report, run_seed

pytestmark = [pytest.mark.timeout(1_800), pytest.mark.slow]

SEEDS = int(os.environ.get("UNDERSTUDY_SEEDS") or 60)
BATCHES = 6
MUTANT_SEEDS_MAX = 30
DIGEST = (
    "from tests.sim.pair_runs import *; from tests.sim.runs import *; print(run_seed({seed}, DIRECTORS_DRAWN).digest)"
)

Patch = Callable[..., None]


def run_directors_seed(seed: int) -> Report:
    return run_seed(seed, DIRECTORS_DRAWN)


@pytest.fixture
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_folder(tmp_path_factory, "director-accounts")


@single
def test_one_seed_of_directors() -> None:
    replay(run_seed(int(ONE or 0), DIRECTORS_DRAWN, with_timeline=True))


@several
@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_seed_of_directors_keeps_its_accounts_and_all_together_meet_everything(
    batch: int, accounts: Path
) -> None:
    run_batch(run_directors_seed, accounts, batch, seeds=SEEDS, batches=BATCHES, catalogue=DIRECTORS_CATALOGUE)


@several
def test_a_seed_of_directors_gives_the_same_trace_again_and_under_another_hash_seed() -> None:
    assert_same_trace(run_directors_seed, DIGEST, 3)


def stale_directors_are_obeyed(patch: Patch) -> None:
    """A subagent obeys whoever comes: a deposed director may still start and kill."""
    admit = Subagent._admit

    def admitted(subagent: Any, hello: Any) -> Any:
        subagent._obeyed.pop(hello.pair, None)
        return admit(subagent, hello)

    patch(Subagent, "_admit", admitted)


def directors_need_no_register(patch: Patch) -> None:
    """A director takes what it asked its register for as granted."""

    async def cas(_register: Any, _expected: Any, new: Any) -> Any:
        return new

    patch(LinkRegister, "cas", cas)


def nothing_is_owed_after_a_takeover(patch: Patch) -> None:
    """A director of a later epoch does not tell a subagent what it should be running."""
    owed = AgentMachine.owed_to_subagent

    def nothing(machine: Any, state: Any, subagent: Any, now_ms: int) -> Any:
        return [] if state.epoch > 1 else owed(machine, state, subagent, now_ms)

    patch(AgentMachine, "owed_to_subagent", nothing)


def the_register_link_outlives_its_node(patch: Patch) -> None:
    """A director that ends leaves its link to the register open."""

    async def close(node: Any, reason: str = "") -> None:
        await super(DirectorPairNode, node).close(reason)

    patch(DirectorPairNode, "close", close)


MUTANTS: dict[str, Callable[[Patch], None]] = {
    one.__name__: one
    for one in (
        stale_directors_are_obeyed,
        directors_need_no_register,
        nothing_is_owed_after_a_takeover,
        the_register_link_outlives_its_node,
    )
}


@several
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mistake_planted_in_directors_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch.setattr)
    if not any(run_directors_seed(seed).breaches for seed in range(MUTANT_SEEDS_MAX)):
        raise AssertionError(f"{name}: {MUTANT_SEEDS_MAX} seeds noticed nothing ({MUTANTS[name].__doc__})")
