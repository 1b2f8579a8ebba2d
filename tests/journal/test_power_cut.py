"""The power fails behind every single system call of a run: nothing acknowledged is lost, nothing looks damaged.

Tests: engine/journal/sqlite_store.py, engine/journal/wal.py
"""

import random
from pathlib import Path

import pytest

from tests.journal.crashes import assert_sound
from tests.journal.power import Disk, trace
from tests.journal.test_syscalls import why_not

UPTO = 60
SEEDS_SOAK = 10  # different cuts at the same place

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def needs_strace() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)


async def cut_everywhere(folder: Path, synchronous: str = "FULL", seeds: int = 1) -> tuple[int, list[str]]:
    """Cut the power behind each call; returns how often, and what was lost or looked damaged."""
    calls = trace(folder, UPTO, synchronous)
    disk, cuts, wrong = Disk(), 0, []
    for number, call in enumerate(calls):
        if not disk.see(call):
            continue
        for seed in range(seeds):
            cuts += 1
            left = folder / "left"
            left.mkdir()
            disk.cut(left, random.Random(f"{number} {seed}"))
            if "traced.db" in disk.files:
                try:
                    await assert_sound(str(left / "traced.db"), disk.acked)
                except Exception as error:  # noqa: BLE001 - whatever goes wrong is what we count
                    wrong.append(f"behind call {number} ({call.name}), seed {seed}: {error!r}")
            for file in left.iterdir():
                file.unlink()
            left.rmdir()
    assert disk.acked >= UPTO
    return cuts, wrong


async def test_nothing_acknowledged_is_lost_by_a_power_cut(ram_path: Path) -> None:
    cuts, wrong = await cut_everywhere(ram_path)
    assert cuts > 150
    assert not wrong, "\n".join(wrong)


async def test_the_same_without_fsync_loses_records(ram_path: Path) -> None:
    _, wrong = await cut_everywhere(ram_path, "OFF")
    lost = ("was acknowledged, the journal ends at", "There is no journal at")  # where something was acknowledged
    assert any(sentence in one for one in wrong for sentence in lost)


@pytest.mark.soak
@pytest.mark.timeout(1_000)
async def test_many_ways_to_lose_the_page_cache(ram_path: Path) -> None:
    cuts, wrong = await cut_everywhere(ram_path, seeds=SEEDS_SOAK)
    assert cuts > 1_500
    assert not wrong, "\n".join(wrong)
