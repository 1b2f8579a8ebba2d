"""Tables of cases as plain text: what is given, and indented below it what is expected."""

from typing import Any

import pytest


def cases(table: str) -> list[Any]:
    """Read a table: cases are apart by an empty line; the expectation may run over several lines and is one line then.

    The line `(nothing)` stands for an empty text.
    """
    found = []
    for case in table.strip("\n").split("\n\n"):
        given, *expected = case.split("\n")
        assert all(line.startswith("  ") for line in expected), case
        value = "" if given == "(nothing)" else given
        found.append(pytest.param(value, " ".join(line.strip() for line in expected), id=given))
    return found


def agrees(found: str, expected: str) -> bool:
    """Tell whether a text is the expected one; an expectation that ends in … tells its beginning only."""
    return found.startswith(expected[:-1]) if expected.endswith("…") else found == expected
