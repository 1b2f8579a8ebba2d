"""Small trees for the checks to look at."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.house.tree import House

Plant = Callable[[dict[str, str]], House]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Write files, by path, into an empty tree and read it as a house."""

    def build(files: dict[str, str]) -> House:
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text, encoding="utf-8")
        return House(tmp_path)

    return build
