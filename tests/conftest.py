"""What every test gets: the leak check, and a directory with a short name for those who ask."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house import leaks
from tests.house.leaks import leak_check, pytest_runtest_makereport

__all__ = ["leak_check", "pytest_runtest_makereport"]  # pytest finds them here

# A Unix socket's path ends at 107 bytes; this leaves 70 for what a test puts inside.
SHORT_LENGTH_MAX = 24


def pytest_configure(config: pytest.Config) -> None:
    """Begin the leak check; name the mark of tests that are too long for `make check`."""
    leaks.pytest_configure(config)
    config.addinivalue_line("markers", "slow: more than a few seconds; left out of `make check`")


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A fresh directory whose path is short enough for Unix sockets; removed afterwards, with all that is in it."""
    places = (tempfile.gettempdir(), "/tmp", "/dev/shm", "/var/tmp")
    place = next((one for one in places if len(one) <= SHORT_LENGTH_MAX and os.access(one, os.W_OK | os.X_OK)), None)
    if place is None:
        pytest.skip(f"none of {', '.join(places)} is both short and writable")
    path = Path(tempfile.mkdtemp(prefix="u-", dir=place))
    yield path
    for folder, names, _ in os.walk(path):
        for inner in (os.path.join(folder, name) for name in names):
            if not os.path.islink(inner):
                os.chmod(inner, stat.S_IRWXU)  # a test may have made it read-only; without this rmtree would stop there
    shutil.rmtree(path)
