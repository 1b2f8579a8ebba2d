"""The pytest plug-in: shows the timeline of a simulated test that failed, and marks such tests `simulated`. Floor 10.

* `@simulate` works without it, in any test runner; pytest finds it by the entry point `understudy`.
"""

import os
from typing import Any

import pytest

from engine.simulation.simulate import SimulationFailed, simulate

__all__ = ["simulate"]

LINES_SHOWN_MAX = 2_000  # of the timeline, in pytest's report


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "simulated: a test of engine.simulation, run over many seeds in virtual time")


def pytest_report_header() -> list[str]:
    """Say which seeds the environment asks for."""
    wanted = {name: os.environ[name] for name in ("UNDERSTUDY_SEED", "UNDERSTUDY_SEEDS") if os.environ.get(name)}
    return [f"understudy: {' '.join(f'{name}={value}' for name, value in wanted.items())}"] if wanted else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark simulated tests, so that `-m simulated` and `-m "not simulated"` choose."""
    for item in items:
        if hasattr(getattr(item, "obj", None), "simulated"):
            item.add_marker(pytest.mark.simulated)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    """Add the timeline of the seed that failed to the report."""
    report = yield
    error = None if call.excinfo is None else call.excinfo.value
    if isinstance(error, SimulationFailed) and error.timeline:
        lines = error.timeline[-LINES_SHOWN_MAX:]
        report.sections.append((f"timeline of seed {error.seed}", "\n".join(lines)))
    return report
