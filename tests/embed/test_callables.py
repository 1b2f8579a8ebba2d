"""Callables of python jobs on the real engine: whatever one does is its order's outcome, and no node ends for it."""

import asyncio
import sys
import threading
from collections import OrderedDict, UserDict
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from engine import Engine, Workflow, job
from engine.jobs import python_calls
from engine.model.event import AttemptAssigned, AttemptEnded
from engine.model.order import OrderState
from engine.model.outcome import OutcomeKind
from tests.embed.engines import WAIT_S_MAX, call, node, restarts, run, seen, true


class Real(float):
    """As numpy's float64: a float, and not of the type float."""


class Text(str):
    __slots__ = ()


class Unsayable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("this has no text")


def plain() -> dict[str, Any]:
    return {"n": 1, "items": [1, 2.5, "x", None, True]}


def of_other_types() -> Any:
    return MappingProxyType({"real": Real(1.5), "text": Text("x"), "nested": OrderedDict(a=UserDict(b=(1, Real(2))))})


async def alone() -> int:
    return 7


def raising(error: BaseException) -> Callable[[], None]:
    def raises() -> None:
        raise error

    return raises


def raising_async(error: BaseException) -> Callable[[], Any]:
    async def raises() -> None:
        raise error

    return raises


def returning(value: Any) -> Callable[[], Any]:
    return lambda: value


async def later() -> None:
    raise AssertionError("nobody awaits it")


def exits() -> None:
    sys.exit(3)


@pytest.mark.parametrize(
    ("function", "results"),
    [
        (plain, {"n": 1, "items": [1, 2.5, "x", None, True]}),
        (of_other_types, {"real": 1.5, "text": "x", "nested": {"a": {"b": [1, 2.0]}}}),
        (alone, {"result": 7}),
        (returning(None), {}),
    ],
)
async def test_what_is_returned_becomes_variables(tmp_path: Path, function: Any, results: dict[str, Any]) -> None:
    ended = await run(tmp_path, call(function))
    assert (ended.state, ended.variables) == (OrderState.FINISHED, results)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (raising(ValueError("no")), "ValueError: no"),
        (raising(ValueError("\ud800")), "ValueError: ?"),
        (raising(Unsayable()), "Unsayable: its text can not be made"),
        (raising(KeyboardInterrupt()), "KeyboardInterrupt"),
        (exits, "SystemExit: 3"),
        (raising_async(SystemExit(3)), "SystemExit: 3"),
        (raising_async(KeyboardInterrupt()), "KeyboardInterrupt"),
        (raising_async(asyncio.CancelledError()), "CancelledError"),
        (raising_async(TimeoutError("mine")), "TimeoutError: mine"),
        (returning(float("nan")), "not a finite number"),
        (returning(10**5_000), "does not fit into 64 bits"),
        (returning("\ud800"), "lone surrogate"),
        (returning({"a": b"raw"}), "a bytes is not a value"),
        (returning({1: 2}), "the key 1 is not text"),
        (returning({"not a name": 1}), "can not be the name of a variable"),
        (returning("x" * (2 << 20)), "more than 1048576 bytes"),
        (returning(["é" * 400_000, "é" * 400_000]), "more than 1048576 bytes"),
        (returning(list(range(2_000_000))), "more than 1048576 bytes"),
        (lambda **_: later(), "a coroutine is not a value"),
    ],
)
async def test_what_goes_wrong_is_the_failure_of_its_order(tmp_path: Path, function: Any, message: str) -> None:
    ended = await run(tmp_path, call(function))
    assert (ended.state, ended.outcome and ended.outcome.kind) == (OrderState.FAILED, OutcomeKind.FAILED)
    assert message in str(ended.outcome)


@pytest.mark.parametrize("path", ["nowhere:at_all", "json:none_such", "json:__name__", "tests.embed.exits_at_import:x"])
async def test_a_callable_that_can_not_be_had_fails_the_order(tmp_path: Path, path: str) -> None:
    ended = await run(tmp_path, Workflow("w", job("job", python=path)))
    assert ended.state is OrderState.FAILED
    assert repr(path) in str(ended.outcome)


async def test_a_wrong_argument_fails_the_order(tmp_path: Path) -> None:
    ended = await run(tmp_path, call(plain, arguments={"other": "1"}))
    assert "unexpected keyword argument" in str(ended.outcome)


async def test_a_result_changed_after_the_return_is_kept_as_it_was(tmp_path: Path) -> None:
    shared: dict[str, Any] = {"n": 0}

    def count() -> dict[str, Any]:
        shared["n"] += 1
        return shared

    workflow = Workflow("w", *(job(f"j{one}", python=count) for one in range(3)))
    async with Engine(tmp_path) as engine:
        stream = engine.events()
        order = await engine.add_order(workflow)
        await order.ended()
        found = [(await seen(stream, AttemptEnded)).results["n"] for _ in range(3)]
    assert found == [1, 2, 3]


async def test_a_callable_deployed_anew_under_the_same_name_is_the_one_that_runs(tmp_path: Path) -> None:
    def made(value: int) -> Any:
        return Workflow("w", job("job", python=lambda: value))

    async with Engine(tmp_path) as engine:
        for value in (1, 2):
            order = await engine.add_order(made(value))
            assert await order.result() == {"result": value}


# --- ends that do not come by themselves ------------------------------------------------------------------------------


class Gate:
    """A callable that stays until it is let go, in a thread or in the loop."""

    def __init__(self) -> None:
        self._open, self._open_here = threading.Event(), asyncio.Event()
        self.has_begun = False

    def let_go(self) -> None:
        self._open.set()
        self._open_here.set()

    def wait(self) -> None:
        self.has_begun = True
        self._open.wait()

    async def forever(self) -> None:
        self.has_begun = True
        await asyncio.Event().wait()

    async def stubborn(self) -> None:
        self.has_begun = True
        while not self._open_here.is_set():
            try:
                await self._open_here.wait()
            except asyncio.CancelledError:
                continue


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    one = Gate()
    yield one
    one.let_go()


@pytest.mark.parametrize(
    ("kind", "timeout", "outcome"),
    [
        ("forever", True, OutcomeKind.TIMED_OUT),
        ("wait", True, OutcomeKind.UNKNOWN),
        ("stubborn", True, OutcomeKind.UNKNOWN),
        ("forever", False, OutcomeKind.KILLED),
        ("wait", False, OutcomeKind.UNKNOWN),
        ("stubborn", False, OutcomeKind.UNKNOWN),
    ],
)
async def test_one_that_does_not_return_ends_by_timeout_or_kill(
    tmp_path: Path, gate: Gate, kind: str, timeout: bool, outcome: OutcomeKind
) -> None:
    options: dict[str, Any] = {"timeout": "20ms"} if timeout else {}
    workflow = call(getattr(gate, kind), kill_delay="10ms", on_lost="fail", **options)
    async with Engine(tmp_path) as engine:
        stream = engine.events()
        order = await engine.add_order(workflow)
        if not timeout:
            await seen(stream, AttemptAssigned)
            await true(lambda: gate.has_begun)  # a kill before it begins is one, and nothing is unknown
            await order.cancel(kill=True)
        assert (await seen(stream, AttemptEnded)).outcome.kind is outcome
        ended = await order.ended()
        assert ended.state is (OrderState.FAILED if timeout else OrderState.CANCELLED)
        assert restarts(engine) == 0
        gate.let_go()
        if kind == "stubborn":  # a callable may end after all; nobody waits for it any more
            await asyncio.wait(list(node(engine, "subagent-local")._calls._scope._tasks))


async def test_closing_ends_async_callables_and_leaves_threads_to_themselves(tmp_path: Path, gate: Gate) -> None:
    async with Engine(tmp_path) as engine:
        stream = engine.events()
        for function in (gate.wait, gate.forever):
            order = await engine.add_order(call(function, name=function.__name__))
            await seen(stream, AttemptAssigned, order.id)
    assert not [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]


async def test_an_attempt_that_waits_for_a_thread_ends_by_its_timeout_and_never_begins(
    tmp_path: Path, gate: Gate
) -> None:
    late: list[int] = []

    def runs_late() -> None:
        late.append(1)

    async with Engine(tmp_path) as engine:
        stream = engine.events()
        busy = [await engine.add_order(call(gate.wait, name="busy")) for _ in range(32)]
        order = await engine.add_order(call(runs_late, name="late", timeout="20ms"))
        ended = await order.ended()
        assert (ended.state, ended.outcome and ended.outcome.kind) == (OrderState.FAILED, OutcomeKind.TIMED_OUT)
        gate.let_go()
        for one in busy:
            await one.result()
        await seen(stream, AttemptEnded)
        assert late == []


async def test_one_that_was_given_up_does_not_keep_the_engine_from_closing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(python_calls, "CLOSE_MS_MAX", 50)
    go_on, ended = asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        while not go_on.is_set():
            with suppress(asyncio.CancelledError):
                await go_on.wait()
        ended.set()

    engine = Engine(tmp_path, callables={"stubborn": stubborn})
    await engine.open()
    stream = engine.events()
    await engine.add_order(Workflow("w", job("job", python="stubborn", timeout="10ms", kill_delay="10ms")))
    assert (await seen(stream, AttemptEnded)).outcome.kind is OutcomeKind.UNKNOWN
    async with asyncio.timeout(WAIT_S_MAX):
        await engine.close()
    go_on.set()
    await ended.wait()
