"""What code must not call, what to call instead, and which files may, each with its reason.

* A mention counts like a call: `clock=time.monotonic` hands the real clock on.
* ruff's TID251 bans the same names for the editor's sake; a file allowed here may need a line there (pyproject.toml).
"""

import ast
import dataclasses
import fnmatch
import tomllib
from collections.abc import Iterator

from tests.house.tree import SOURCE_FOLDERS, House, PythonFile


@dataclasses.dataclass(frozen=True)
class Rule:
    """Banned dotted names (`random.*` bans everything below), the replacement, and pattern → reason of who may."""

    name: str
    banned: tuple[str, ...]
    instead: str
    allowed: dict[str, str]


REAL_WORLD = {
    "engine/runtime/real_*.py": "the real World is made of it",
    "engine/simulation/*.py": "measures real time, guards the real functions against escapes, and draws from a seed",
}
GUARD = {"engine/jobs/guard.py": "a script of its own process, outside of any World"}

RULES = (
    Rule(
        "clock",
        (
            "time.time",
            "time.time_ns",
            "time.monotonic",
            "time.monotonic_ns",
            "time.perf_counter",
            "time.perf_counter_ns",
            "time.clock_gettime",
            "time.clock_gettime_ns",
            "time.localtime",
            "datetime.datetime.now",
            "datetime.datetime.utcnow",
            "datetime.datetime.today",
            "datetime.date.today",
        ),
        "take the time from World.clock; inside the rules it is the argument now_ms",
        {**REAL_WORLD, **GUARD, "engine/base/clock.py": "the home of time's units"},
    ),
    Rule(
        "sleep",
        ("time.sleep",),
        "wait for a timer of the World, or for the condition itself; time.sleep blocks the whole node",
        GUARD,
    ),
    Rule(
        "randomness",
        ("random.*", "secrets.*", "os.urandom", "os.getrandom", "numpy.random.*"),
        "take randomness from the World, so that a seed replays it",
        REAL_WORLD,
    ),
    Rule("ids", ("uuid.*",), "take ids from the World, so that a seed replays them", REAL_WORLD),
    Rule(
        "task",
        (
            "asyncio.create_task",
            "asyncio.ensure_future",
            "asyncio.get_event_loop",
            "asyncio.tasks.create_task",
            "<loop>.create_task",
        ),
        "start it in an engine.base.tasks.TaskScope: asyncio keeps no reference to a task",
        {
            "engine/base/tasks.py": "the one place where tasks are made",
            "engine/simulation/*.py": "the virtual loop makes tasks for asyncio itself",
        },
    ),
    Rule(
        "print",
        ("builtins.print", "builtins.input"),
        "return text and let a face print it, or log it",
        {
            "engine/cli/*.py": "speaks to people",
            "engine/__main__.py": "speaks to people",
        },
    ),
)

# Tests wait for conditions, not for time; acceptance tests meet the real world, benchmarks measure it, and simulated
# time passes by sleeping.
SLEEP_ALLOWED_IN = ("tests/acceptance/", "tests/benchmarks/", "tests/sim/", "tests/simulation/")
SLEEP_FOREVER_S = 60  # from here on a sleep stands for "never comes back" in a test that cancels it


def check_calls(house: House) -> Iterator[str]:
    """Source mentions no banned name outside the files that own it."""
    for file in house.source.values():
        told: set[tuple[int, str]] = set()
        for rule in RULES:
            if any(fnmatch.fnmatch(file.path, pattern) for pattern in rule.allowed):
                continue
            mentions = [(use.line, use.path) for use in file.uses]
            mentions += [(one.line, one.target) for one in file.imports]
            for line, path in mentions:
                if any(_matches(path, banned) for banned in rule.banned) and (line, rule.name) not in told:
                    told.add((line, rule.name))
                    yield f"{file.path}:{line}: {path.removeprefix('builtins.')} is banned here; {rule.instead}"


def check_allowed_files(house: House) -> Iterator[str]:
    """An allowed file exists, unless its whole folder is still to come: a list of exceptions must not rot."""
    for rule in RULES:
        for pattern in rule.allowed:
            folder = house.root / pattern.rpartition("/")[0]
            if "*" not in pattern and folder.is_dir() and not (house.root / pattern).exists():
                yield f"tests/house/calls.py:1: rule {rule.name} allows {pattern}, which does not exist; remove it"


def check_ruff_agrees(house: House) -> Iterator[str]:
    """Source that ruff lets off its own ban (TID251) is let off here too, with a reason."""
    text = house.document("pyproject.toml") or ""
    lint = tomllib.loads(text).get("tool", {}).get("ruff", {}).get("lint", {})
    reasons = {pattern for rule in RULES for pattern in rule.allowed}
    for pattern, codes in lint.get("per-file-ignores", {}).items():
        if "TID251" in codes and pattern.startswith(SOURCE_FOLDERS) and pattern not in reasons:
            yield f"pyproject.toml:1: ruff allows banned calls in {pattern}; give the reason in tests/house/calls.py"


def check_sleep(house: House) -> Iterator[str]:
    """No test waits for real time to pass."""
    for file in house.tests:
        if file.path.startswith(SLEEP_ALLOWED_IN):
            continue
        for line, call in _sleeps(file):
            yield f"{file.path}:{line}: {call}; wait for the condition or the event itself, or move to tests/acceptance"


def _matches(path: str, banned: str) -> bool:
    if banned.endswith(".*"):
        return path == banned[:-2] or path.startswith(banned[:-1])
    return path == banned


def _sleeps(file: PythonFile) -> Iterator[tuple[int, str]]:
    blocking = {use.line for use in file.uses if use.path == "time.sleep"}
    yield from ((line, "time.sleep") for line in sorted(blocking))
    asynchronous = {use.line for use in file.uses if use.path == "asyncio.sleep"}
    if not asynchronous:
        return
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Call) and node.lineno in asynchronous and node.args:
            text, span = ast.unparse(node.func), node.args[0]
            seconds = span.value if isinstance(span, ast.Constant) else None
            if text.endswith("sleep") and isinstance(seconds, int | float) and 0 < seconds < SLEEP_FOREVER_S:
                yield node.lineno, f"asyncio.sleep({seconds})"
