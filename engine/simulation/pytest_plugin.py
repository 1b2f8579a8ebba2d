"""The pytest plug-in: options for seeds, progress, timelines of what failed or is replayed, the marker. Floor 10.

* `@simulate` works without it, in any test runner; pytest finds it by the entry point `understudy`.
* What is said while tests run goes to the terminal, past pytest's capturing; a worker of pytest-xdist has no terminal.
"""

import contextlib
import os
from collections.abc import Callable
from typing import Any

import pytest

from engine.simulation.corpus import FOLDER, OFF
from engine.simulation.seeds import WANTED, SimulationFailed, tell_stderr
from engine.simulation.simulate import simulate

__all__ = ["simulate"]

LINES_SHOWN_MAX = 2_000  # of the timeline, in pytest's report
ENVIRONMENT = ("UNDERSTUDY_SEED", "UNDERSTUDY_SEEDS", "UNDERSTUDY_CORPUS")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; each goes before the environment variable of the same meaning."""
    group = parser.getgroup("understudy", "simulated clusters (@simulate)")
    group.addoption(
        "--sim-seed", type=_number(0), metavar="SEED", help="replay this one seed and print its timeline: --sim-seed 17"
    )
    group.addoption(
        "--sim-seeds", type=_number(1), metavar="N", help="run N seeds of each simulated test, whatever it asks for"
    )
    group.addoption(
        "--sim-corpus",
        metavar="DIR",
        help=f"where seeds that failed are kept ({FOLDER} beside the test's file), or {OFF}",
    )


def _number(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        found = int(text)
        if found < least:
            raise ValueError(text)
        return found

    return number


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and take over what the person wants."""
    config.addinivalue_line("markers", "simulated: a test of engine.simulation, run over many seeds in virtual time")
    WANTED.seed = config.getoption("--sim-seed")
    WANTED.seeds = config.getoption("--sim-seeds")
    WANTED.corpus = config.getoption("--sim-corpus")
    WANTED.tell = _teller(config)


def pytest_unconfigure() -> None:
    """Give back what was taken over."""
    WANTED.seed = WANTED.seeds = WANTED.corpus = None
    WANTED.tell = tell_stderr


def _teller(config: pytest.Config) -> Callable[[str], None]:
    def tell(text: str) -> None:
        reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        capture: Any = config.pluginmanager.get_plugin("capturemanager")
        if reporter is None:
            tell_stderr(text)
            return
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            reporter.ensure_newline()
            for line in text.splitlines():
                reporter.write_line(line)
            reporter.flush()

    return tell


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say which seeds the person asks for."""
    options = {"--sim-seed": WANTED.seed, "--sim-seeds": WANTED.seeds, "--sim-corpus": WANTED.corpus}
    wanted = {name: value for name, value in options.items() if value is not None}
    wanted |= {name: os.environ[name] for name in ENVIRONMENT if os.environ.get(name)}
    return [f"understudy: {' '.join(f'{name}={value}' for name, value in wanted.items())}"] if wanted else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark simulated tests, so that `-m simulated` and `-m "not simulated"` choose."""
    for item in items:
        if hasattr(getattr(item, "obj", None), "simulated"):
            item.add_marker(pytest.mark.simulated)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    """Add to the report how the seed that failed is replayed, and its timeline."""
    report = yield
    error = None if call.excinfo is None else call.excinfo.value
    if isinstance(error, SimulationFailed):
        report.sections.append(("replay", f'pytest "{item.nodeid}" --sim-seed {error.seed}'))
        if error.timeline:
            lines = error.timeline[-LINES_SHOWN_MAX:]
            report.sections.append((f"timeline of seed {error.seed}", "\n".join(lines)))
    return report
