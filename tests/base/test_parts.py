"""Task scopes, registries, logs, limits.

Tests: engine/base/tasks.py, engine/base/registry.py, engine/base/log.py, engine/base/limits.py
"""

import asyncio
import logging
from typing import ClassVar

import msgspec
import pytest

from engine.base import limits
from engine.base.log import logger
from engine.base.registry import Registry
from engine.base.tasks import TaskScope


async def test_a_scope_keeps_its_tasks_and_cancels_them_on_close() -> None:
    scope = TaskScope("s", on_failure=lambda _: None)
    cancelled = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    scope.start(wait(), "w")
    await asyncio.sleep(0)
    assert len(scope) == 1
    await scope.close()
    assert cancelled.is_set()
    assert len(scope) == 0
    with pytest.raises(RuntimeError, match="closed"):
        scope.start(wait(), "late")


async def test_a_failed_task_tells_the_owner() -> None:
    failures: list[BaseException] = []
    scope = TaskScope("s", failures.append)

    async def fail() -> None:
        raise ValueError("no")

    scope.start(fail(), "f")
    while not failures:
        await asyncio.sleep(0)
    assert str(failures[0]) == "no"
    await scope.close()


class Leaf:
    keyword: ClassVar[str]


class One(msgspec.Struct, Leaf, array_like=True, tag="one"):
    keyword: ClassVar[str] = "one"
    value: int = 0


class Again(msgspec.Struct, Leaf, array_like=True, tag="one"):
    keyword: ClassVar[str] = "one"


def test_a_registry_decodes_by_keyword_and_refuses_the_rest() -> None:
    registry: Registry[Leaf] = Registry(Leaf, [One])
    assert registry.decode(["one", 5], lambda kind, _: kind) == One(5)
    for raw in (["two"], [], "one", [1], ["one", "text"]):
        with pytest.raises(msgspec.ValidationError):
            registry.decode(raw, lambda kind, _: kind)
    with pytest.raises(ValueError, match="two leaves are called 'one'"):
        Registry(Leaf, [One, Again])


def test_logs_go_to_the_standard_tree_and_nowhere_by_themselves(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "understudy"):
        logger("x").note("something happened", order="o")
    record = caplog.records[0]
    assert (record.name, record.msg, getattr(record, "order", None)) == ("understudy.x", "something happened", "o")
    assert all(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("understudy").handlers)


def test_every_limit_is_a_positive_number() -> None:
    bounds = {name: value for name, value in vars(limits).items() if name.isupper()}
    assert bounds
    assert all(isinstance(value, int) and value > 0 for value in bounds.values())
