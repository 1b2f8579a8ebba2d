"""The guard's own door: what it says, and that no request, however wrong, keeps it from its work.

Tests: engine/jobs/guard.py
"""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.jobs import guard_launch
from tests.support.guarding import WAIT_S_MAX, WallClock, alive, environment, gone

OPTIONS = {"linger_ms": 100, "reserve_bytes": 0, "running_max": 10, "compact_bytes": 1 << 20}


class Line:
    """A connection to a guard, spoken by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.frames: list[dict[str, Any]] = []

    def say(self, *requests: object) -> None:
        self.writer.write(b"".join(json.dumps(one).encode() + b"\n" for one in requests))

    async def until(self, name: str) -> Any:
        """The next frame that has this field."""
        async with asyncio.timeout(WAIT_S_MAX):
            while True:
                frame = json.loads(await self.reader.readuntil(b"\n"))
                self.frames.append(frame)
                if name in frame:
                    return frame[name]

    async def report(self, key: str, kind: str) -> list[Any]:
        async with asyncio.timeout(WAIT_S_MAX):
            while True:
                for row in await self.until("reports"):
                    if row[:2] == [key, kind]:
                        return list(row)

    async def end(self) -> None:
        async with asyncio.timeout(WAIT_S_MAX):
            assert await self.reader.read() is not None


@contextlib.asynccontextmanager
async def dialled(state: Path) -> AsyncIterator[Line]:
    folder = os.open(state, os.O_RDONLY)
    try:
        link = socket.socket(socket.AF_UNIX)
        link.connect(guard_launch.socket_address(folder))
    finally:
        os.close(folder)
    reader, writer = await asyncio.open_unix_connection(sock=link, limit=64 << 20)
    line = Line(reader, writer)
    try:
        yield line
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def guarded(state: Path) -> AsyncIterator[int]:
    """A guard begun by hand; it ends with its linger."""
    state.mkdir(exist_ok=True)
    begun = guard_launch.launch(str(state), OPTIONS, WallClock().now_ms())
    assert begun is not None
    guard, faults = begun
    assert faults == []
    assert (state / "guard.lock").read_text() == f"{guard}\n"
    try:
        yield guard
    finally:
        await gone(guard)
        guard_launch.reap()
        assert (state / "guard.err").read_text() == ""


def start(key: str, *argv: str, **more: Any) -> list[Any]:
    request = {"key": key, "folder": f"at/{key}", "argv": argv, "environment": environment(), "directory": "/"}
    return [
        "start",
        {"timeout_ms": -1, "kill_delay_ms": 5_000, "output_bytes_max": 1_000, "script": None, **request, **more},
    ]


async def test_a_new_owner_hears_what_is_known_and_then_ready(tmp_path: Path) -> None:
    async with guarded(tmp_path) as guard, dialled(tmp_path) as line:
        assert await line.until("ready") == guard
        line.say(start("a", "false"))
        row = await line.report("a", "ended")
        assert row[4:] == [1, "exited", "", 0, 0]
        assert sum(frame.get("taken", 0) for frame in line.frames) >= 1
        async with dialled(tmp_path) as other:
            assert await other.until("reports") == [row]
            assert await other.until("ready") == guard
            assert await line.until("bye") == "somebody else took over this guard"


WRONG = [
    b"",
    b"nonsense",
    b"\xff\xfe\xfd",
    b"null",
    b"{}",
    b"[]",
    b"[1]",
    b'["start"]',
    b'["start",null]',
    b'["start",{}]',
    b'["start",[]]',
    b'["kill",{}]',
    b'["kill",[]]',
    b'["forget",null]',
    b'["forget",[[]]]',
    b'["dance","a"]',
    b'["kill","a",true,1,2]',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"9" * 10_000,
    json.dumps(start("x", "true", timeout_ms="soon")).encode(),
    json.dumps(start("x", "true", timeout_ms=None)).encode(),
    json.dumps(start("x", "true", kill_delay_ms=float("inf"))).encode(),
    json.dumps(start("x", "true", output_bytes_max={})).encode(),
    json.dumps(start("x", "true", folder=["at"])).encode(),
    b'["start",{"key":["x"],"folder":"at/x","timeout_ms":1,"kill_delay_ms":1,"output_bytes_max":1}]',
    b'["start",{"key":{},"folder":"at/x","timeout_ms":1,"kill_delay_ms":1,"output_bytes_max":1}]',
]


async def test_wrong_requests_are_answered_and_nothing_else_suffers(tmp_path: Path) -> None:
    async with guarded(tmp_path) as guard, dialled(tmp_path) as line:
        line.say(start("a", "sleep", "1000"))
        await line.report("a", "started")
        for number, wrong in enumerate(WRONG):
            line.writer.write(wrong + b"\n")
            assert "this is no request" in await line.until("fault"), wrong[:50]
            assert alive(guard), wrong[:50]
            line.say(start(f"b{number}", "true"))
            await line.report(f"b{number}", "ended")
        line.say(["kill", "a"])
        assert (await line.report("a", "ended"))[5] == "killed"


@pytest.mark.parametrize("field", ["argv", "environment", "directory", "script"])
@pytest.mark.parametrize("value", [5, {}, [], {"a": 5}, [5], "\0", [""], ["\ud800"]])
async def test_a_start_of_wrong_content_is_refused_or_runs_and_the_guard_lives(
    tmp_path: Path, field: str, value: object
) -> None:
    async with guarded(tmp_path) as guard, dialled(tmp_path) as line:
        line.say(start("a", "true", **{field: value}), start("b", "true"))
        assert (await line.report("b", "ended"))[4] == 0
        assert alive(guard)
        async with dialled(tmp_path) as other:
            await other.until("ready")
            told = [row for frame in other.frames for row in frame.get("reports", ())]
            assert {row[1] for row in told} <= {"ended", "refused"}
            assert {row[0] for row in told} == {"a", "b"}


async def test_a_line_without_end_ends_the_connection_not_the_guard(tmp_path: Path) -> None:
    async with guarded(tmp_path) as guard:
        async with dialled(tmp_path) as line:
            line.writer.write(b"x" * (8 << 20))
            with contextlib.suppress(ConnectionError):
                await line.end()
        assert alive(guard)
        async with dialled(tmp_path) as line:
            assert await line.until("ready") == guard


async def test_an_owner_that_does_not_read_loses_the_connection_and_no_report(tmp_path: Path) -> None:
    async with guarded(tmp_path) as guard:
        async with dialled(tmp_path) as line:
            await line.until("ready")
            line.writer.transport.pause_reading()  # type: ignore[attr-defined]
            long = "k" * 900
            line.say(
                *(start(f"{long}{number}", "true", folder=f"at/{number}", argv=["no such"]) for number in range(9))
            )
            for _ in range(200):
                line.say(*(start(f"{long}{number}", "true") for number in range(9)))
            link = line.writer.get_extra_info("socket")
            async with asyncio.timeout(WAIT_S_MAX):
                while not line.writer.transport.is_closing():
                    line.writer.write(b"[]\n")
                    await asyncio.sleep(0)
            del link
        assert alive(guard)
        async with dialled(tmp_path) as line:
            await line.until("ready")
            told = [row for frame in line.frames for row in frame.get("reports", ())]
            assert len(told) == 9


async def test_half_a_request_is_taken_when_its_rest_comes(tmp_path: Path) -> None:
    async with guarded(tmp_path), dialled(tmp_path) as line:
        request = json.dumps(start("a", "false")).encode() + b"\n"
        await line.until("ready")
        for place in range(0, len(request), 40):
            line.writer.write(request[place : place + 40])
            await line.writer.drain()
        assert (await line.report("a", "ended"))[4] == 1


async def test_only_this_user_may_connect(tmp_path: Path) -> None:
    async with guarded(tmp_path):
        assert (tmp_path / "guard.socket").stat().st_mode & 0o777 == 0o600
