"""A folder in memory for tests that fsync thousands of times and do not ask what a real disk does."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def ram_path() -> Iterator[Path]:
    """A fresh folder on a file system in memory where there is one, else an ordinary one."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(prefix="u-", dir=place) as folder:
        yield Path(folder)
