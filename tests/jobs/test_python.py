"""Callables: how they are found, what their results become, and how they are run and ended.

Tests: engine/jobs/python.py, engine/jobs/python_calls.py
"""

import asyncio
import functools
import json
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest

from engine.base.codec import encode
from engine.base.ids import OrderId
from engine.base.problem import EngineClosed
from engine.jobs.python import CallableFault, PythonJob, find_callable, is_async, results_of, sentence_of
from engine.jobs.python_calls import PythonCalls
from engine.model.job import Start
from engine.model.outcome import Outcome, OutcomeKind
from engine.runtime.real_calls import Calls
from tests.embed.engines import WAIT_S_MAX


def test_a_registered_name_goes_before_a_module() -> None:
    mine = lambda: 1
    assert find_callable("json:loads", {"json:loads": mine}) is mine
    assert find_callable("json:loads", {}) is json.loads
    assert find_callable("json:JSONDecoder.decode", {}) is json.JSONDecoder.decode
    assert find_callable("json:loads#job", {}) is json.loads


@pytest.mark.parametrize(
    "path",
    ["", ":", "json", "json:", ":loads", "json:nothing", "json:__name__", "nowhere:x", "a b:c", "json:loads.", "\0:a"],
)
def test_what_can_not_be_found_is_a_sentence(path: str) -> None:
    with pytest.raises(CallableFault):
        find_callable(path, {})


def test_which_callables_are_awaited() -> None:
    async def coroutine() -> None: ...

    class Object:
        async def __call__(self) -> None: ...

    assert is_async(coroutine)
    assert is_async(functools.partial(coroutine))
    assert is_async(Object())
    assert not is_async(Object)
    assert not is_async(json.loads)
    assert not is_async(functools.partial(json.loads))


class Real(float):
    pass


class Odd(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no items today")


def test_results_are_plain_and_ours() -> None:
    inner = {"b": [Real(2), (True, None)]}
    found = results_of(MappingProxyType({"a": inner}))
    assert found == {"a": {"b": [2.0, [True, None]]}}
    assert type(found["a"]["b"][0]) is float  # type: ignore[call-overload, index]
    inner["b"].clear()
    assert found == {"a": {"b": [2.0, [True, None]]}}
    encode(found)
    assert results_of(5) == {"result": 5}
    assert results_of(None) == {}


@pytest.mark.parametrize(
    "value", [{1}, object(), b"x", 2**63, float("inf"), "\udfff", {"a": {2: 3}}, {"": 1}, range(3)]
)
def test_results_that_can_not_be_kept(value: Any) -> None:
    with pytest.raises(CallableFault, match="it returned"):
        results_of(value)


def test_a_result_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(CallableFault, match="deeper than 32"):
        results_of(endless)


def test_sentences_of_exceptions() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert sentence_of(ValueError("x")) == "ValueError: x"
    assert sentence_of(ValueError()) == "ValueError"
    assert sentence_of(ValueError("\ud800")) == "ValueError: ?"
    assert sentence_of(Mute()) == "Mute: its text can not be made"


# --- running ----------------------------------------------------------------------------------------------------------


class World:
    """As much of the World as callables need."""

    node = "n"

    def __init__(self, threads_max: int = 2) -> None:
        self.calls = Calls("t", threads_max)
        self.revoked = False

    def call(self, function: Callable[..., Any], arguments: Mapping[str, Any], done: Any) -> None:
        if self.revoked:
            raise EngineClosed("revoked")
        self.calls.submit(function, arguments, done)


class Bench:
    def __init__(self, **known: Callable[..., Any]) -> None:
        self.world = World()
        self.known = known
        self.told: dict[str, tuple[Outcome, dict[str, Any]]] = {}
        self.news = asyncio.Event()
        self.calls = PythonCalls(self.world, known, self.ended)  # type: ignore[arg-type]

    def ended(self, key: str, outcome: Outcome, results: dict[str, Any]) -> None:
        assert key not in self.told, "an attempt ends once"
        self.told[key] = (outcome, results)
        self.news.set()

    def begin(self, name: str, key: str = "k", **options: Any) -> None:
        job = PythonJob(name)
        start = Start(key, OrderId("o"), 1, 1, 1, "job", job, options.pop("arguments", {}), {}, **options)
        self.calls.begin(start, job)

    async def outcome(self, key: str = "k") -> Outcome:
        async with asyncio.timeout(WAIT_S_MAX):
            while key not in self.told:
                self.news.clear()
                await self.news.wait()
        return self.told[key][0]

    async def close(self) -> None:
        await self.calls.close()
        self.world.calls.close()


async def test_sync_and_async_callables_get_their_arguments() -> None:
    async def later(n: int) -> int:
        return n

    bench = Bench(now=lambda n: n, later=later)
    for name in ("now", "later"):
        bench.begin(name, name, arguments={"n": 3})
        assert (await bench.outcome(name)).is_success
        assert bench.told[name][1] == {"result": 3}
    bench.begin("json:loads", "imported", arguments={"s": '{"a": 1}'})
    assert (await bench.outcome("imported")).is_success
    bench.begin("json:loads", "again", arguments={"s": "[]"})
    assert (await bench.outcome("again")).is_success
    await bench.close()


async def test_an_object_that_fails_while_its_results_are_read_fails_its_attempt() -> None:
    bench = Bench(odd=Odd)
    bench.begin("odd")
    assert "no items today" in (await bench.outcome()).message
    await bench.close()


async def test_one_killed_before_it_begins_never_begins() -> None:
    gate, ran = threading.Event(), []
    bench = Bench(wait=gate.wait, run=lambda: ran.append(1))
    for number in range(2):
        bench.begin("wait", f"busy{number}")
    bench.begin("run")
    bench.begin("run", "late", timeout_ms=1)
    bench.calls.kill("k")
    assert (await bench.outcome()).kind is OutcomeKind.KILLED
    late = await bench.outcome("late")
    assert (late.kind, "did not begin" in late.message) == (OutcomeKind.TIMED_OUT, True)
    gate.set()
    for number in range(2):
        assert (await bench.outcome(f"busy{number}")).is_success
    bench.begin("run", "last")
    await bench.outcome("last")
    assert ran == [1]
    await bench.close()


class Gate:
    """A callable that says when it begins, and stays until it is let go."""

    def __init__(self) -> None:
        self.begun, self.open = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        self.open.wait()


async def test_a_thread_that_returns_in_time_after_a_kill_counts_as_it_ended() -> None:
    gate = Gate()
    bench = Bench(wait=gate)
    bench.begin("wait", kill_delay_ms=60_000)
    await asyncio.to_thread(gate.begun.wait)
    bench.calls.kill("k")
    bench.calls.kill("k")
    gate.open.set()
    assert (await bench.outcome()).is_success
    assert "k" not in bench.calls
    await bench.close()


async def test_a_late_return_is_dropped() -> None:
    gate = Gate()
    bench = Bench(wait=gate, quick=lambda: 1)
    bench.begin("wait", kill_delay_ms=1)
    await asyncio.to_thread(gate.begun.wait)
    bench.calls.kill("k")
    assert (await bench.outcome()).kind is OutcomeKind.UNKNOWN
    gate.open.set()
    bench.begin("quick", "quick")
    await bench.outcome("quick")
    await bench.close()


async def test_a_world_that_is_over_fails_what_would_begin() -> None:
    bench = Bench(now=lambda: 1)
    bench.world.revoked = True
    for name in ("now", "json:loads"):
        bench.begin(name, name)
        assert "revoked" in (await bench.outcome(name)).message
    await bench.close()


async def test_close_cancels_and_tells_nothing() -> None:
    cancelled: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append("x")

    bench = Bench(forever=forever)
    bench.begin("forever", "begun", timeout_ms=3_600_000)
    await asyncio.sleep(0)
    bench.begin("forever", "not begun")
    await bench.close()
    assert (cancelled, bench.told) == (["x"], {})


async def test_close_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.jobs.python_calls.CLOSE_MS_MAX", 1)
    let_go = asyncio.Event()

    async def stubborn() -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    bench = Bench(stubborn=stubborn)
    bench.begin("stubborn")
    await asyncio.sleep(0)
    await bench.close()
    let_go.set()
    await asyncio.wait(list(bench.calls._scope._tasks))
    assert bench.told == {}
