"""Instruction: the plain base of all statements of a workflow. Floor 2.

* A leaf is a frozen msgspec struct with this class as a mixin, in its own file in engine/rules/instructions.
* `keyword` is its key in documents; the field of that name holds what the document writes behind the key.
"""

from collections.abc import Iterable
from typing import ClassVar


class Instruction:
    """The base of statements: what the model itself must know of them."""

    keyword: ClassVar[str]

    def blocks(self) -> "Iterable[tuple[str, tuple[Instruction, ...]]]":
        """Return the nested blocks by branch name; none for a simple step."""
        return ()
