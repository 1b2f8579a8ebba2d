"""Every store against a model of ten lines, in any order of calls, closings and reopenings; crashes included.

Tests: engine/journal/memory.py, engine/journal/sqlite_store.py
"""

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.journal.record import EMPTY_TIP, link
from engine.ports import Entry, Record, Snapshot, StoreFault, Tip
from tests.journal.stores import KINDS, OpenStore, Site, everything, snapshot_at

CELLS = st.none() | st.dictionaries(st.sampled_from(["a", "b", "c"]), st.binary(max_size=8), min_size=1, max_size=3)


class Model:
    """What the port promises, as plainly as it can be said."""

    def __init__(self) -> None:
        self.base = EMPTY_TIP
        self.records: list[Record] = []
        self.saved: Snapshot | None = None
        self.cells: dict[str, bytes] = {}

    @property
    def tip(self) -> Tip:
        return tip_of(self.records[-1]) if self.records else self.base

    @property
    def lowest_cut(self) -> int:
        return self.saved.index if self.saved else 0

    def at(self, index: int) -> Tip:
        return self.base if index == self.base.index else tip_of(self.records[index - self.base.index - 1])


def tip_of(record: Record) -> Tip:
    return Tip(record.index, record.epoch, record.hash)


class StoreMachine(RuleBasedStateMachine):
    """One store on one site, and the model beside it."""

    kind = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = tempfile.TemporaryDirectory(prefix="u-model-", dir=place)
        self.site = Site(self.kind, Path(self.folder.name))
        self.model = Model()
        self.store: OpenStore = self.run(self.site.open())

    def run(self, work: Any) -> Any:
        async def call() -> Any:
            return await work

        return self.runner.run(call())

    def refused(self, work: Any) -> None:
        with pytest.raises(StoreFault):
            self.run(work)

    @initialize(count=st.integers(0, 5))
    def begin(self, count: int) -> None:
        self.append([b"begin"] * count, 0, None)

    @rule(contents=st.lists(st.binary(max_size=50), max_size=6), rise=st.integers(0, 2), cells=CELLS)
    def append(self, contents: list[bytes], rise: int, cells: dict[str, bytes] | None) -> None:
        model = self.model
        epoch = model.tip.epoch + rise
        new = [Entry(model.tip.index + 1 + n, epoch, events, events[:3]) for n, events in enumerate(contents)]
        model.records += link(model.tip, new)
        model.cells |= cells or {}
        assert self.run(self.store.append(new, cells)) == model.tip

    @rule(shift=st.integers(-3, 3).filter(bool), cells=CELLS)
    def append_elsewhere(self, shift: int, cells: dict[str, bytes] | None) -> None:
        self.refused(self.store.append([Entry(self.model.tip.index + 1 + shift, 99, b"x")], cells))

    @rule(back=st.integers(0, 8), cells=CELLS)
    def truncate(self, back: int, cells: dict[str, bytes] | None) -> None:
        model = self.model
        index = max(model.tip.index - back, 0)
        if index < model.lowest_cut:
            self.refused(self.store.truncate_after(index, cells))
            return
        del model.records[index - model.base.index :]
        model.cells |= cells or {}
        assert self.run(self.store.truncate_after(index, cells)) == model.tip

    @rule(back=st.integers(0, 8), state=st.binary(max_size=100), sound=st.booleans())
    def add_snapshot(self, back: int, state: bytes, sound: bool) -> None:
        model = self.model
        index = max(model.tip.index - back, model.lowest_cut, model.base.index)
        snapshot = snapshot_at(model.at(index), state)
        if sound:
            model.saved = snapshot
            self.run(self.store.add_snapshot(snapshot))
        else:
            self.refused(self.store.add_snapshot(Snapshot(index, snapshot.epoch, b"w" * 16, state)))

    @rule(index=st.integers(1, 40), epoch=st.integers(1, 9), cells=CELLS)
    def install_snapshot(self, index: int, epoch: int, cells: dict[str, bytes] | None) -> None:
        model = self.model
        model.saved = Snapshot(index, epoch, b"%016d" % index, b"installed")
        model.base, model.records = Tip(index, epoch, b"%016d" % index), []
        model.cells |= cells or {}
        assert self.run(self.store.install_snapshot(model.saved, cells)) == model.tip

    @precondition(lambda self: self.model.saved is not None)
    @rule(back=st.integers(-2, 6))
    def trim(self, back: int) -> None:
        model = self.model
        upto = model.lowest_cut - back
        last = min(upto, model.lowest_cut)
        if last > model.base.index:
            base = model.at(last)
            del model.records[: last - model.base.index]
            model.base = base
        self.run(self.store.trim(upto))

    @rule()
    def reopen(self) -> None:
        self.run(self.store.close())
        self.store = self.run(self.site.open())

    @rule(after=st.integers(-3, 10), records_max=st.integers(1, 7))
    def read(self, after: int, records_max: int) -> None:
        model = self.model
        place = after if model.base.index + after >= 0 else 0
        index = model.base.index + place
        if place < 0:
            with pytest.raises(LookupError):
                self.run(self.store.read(index))
        else:
            expected = model.records[place : place + records_max]
            assert self.run(self.store.read(index, records_max=records_max)) == expected

    @invariant()
    def agree(self) -> None:
        model, store = self.model, self.store
        assert store.tip == model.tip
        assert store.first == model.base.index + 1
        assert {name: value for name in "abc" if (value := store.cell(name)) is not None} == model.cells

    def teardown(self) -> None:
        try:
            self.run(self.store.close())
            store = self.run(self.site.open())
            assert self.run(everything(store)) == self.model.records
            assert self.run(store.snapshot()) == self.model.saved
            self.run(store.close())
        finally:
            self.runner.close()
            self.folder.cleanup()


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_does_what_the_model_does(kind: str) -> None:
    machine: type[StoreMachine] = type("Machine", (StoreMachine,), {"kind": kind})
    examples = 20 if kind == "sqlite" else 40
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=examples, stateful_step_count=25, deadline=None, suppress_health_check=checks),
    )
