"""Timeline: what happened in a simulated run, one dense line each. Floor 10.

* Lines are written when they are asked for; while the simulation runs only references are kept.
* Bounded: beyond the bound the oldest are forgotten, and the first line says how many.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

ENTRIES_MAX = 100_000
VALUE_LENGTH_MAX = 60
NS_PER_SECOND = 1_000_000_000


class Timeline:
    """The story of one run."""

    def __init__(self, now_ns: Callable[[], int], entries_max: int = ENTRIES_MAX) -> None:
        """`now_ns`: nanoseconds of true virtual time."""
        self._now_ns = now_ns
        self.start_ns = now_ns()  # the instant that lines call 0
        self._entries: deque[tuple[int, str, Any]] = deque(maxlen=entries_max)
        self._count = 0

    def note(self, node: str, what: Any) -> None:
        """Remember something: a sentence, or a struct (an event, a command)."""
        self._count += 1
        self._entries.append((self._now_ns() - self.start_ns, node, what))

    @property
    def forgotten(self) -> int:
        """How many entries are not remembered any more."""
        return self._count - len(self._entries)

    def entries(self) -> Iterator[tuple[int, str, Any]]:
        """Everything that is remembered: nanoseconds since the beginning, node or process, what was noted."""
        yield from self._entries

    def lines(self) -> Iterator[str]:
        """Write everything that is remembered."""
        if self.forgotten > 0:
            yield f"… {self.forgotten} earlier lines are forgotten"
        for at_ns, node, what in self._entries:
            yield f"{at_ns / NS_PER_SECOND:12.6f} {node:<14} {what if isinstance(what, str) else brief(what)}"

    def __len__(self) -> int:
        return len(self._entries)


def brief(what: msgspec.Struct) -> str:
    """Write a struct in one line: its name and its fields, without defaults and instants."""
    parts = [type(what).__name__]
    for field in msgspec.structs.fields(what):
        value = getattr(what, field.name)
        if field.name == "at_ms" or value == field.default:
            continue
        parts.append(_short(value) if field.name in {"order", "agent", "subagent"} else f"{field.name}={_short(value)}")
    return " ".join(parts)


def _short(value: Any) -> str:
    name, source = getattr(value, "id", None), str(value)
    if isinstance(value, msgspec.Struct) and isinstance(name, str):
        source = f"<{name}>"
    return source if len(source) <= VALUE_LENGTH_MAX else f"{source[: VALUE_LENGTH_MAX - 1]}…"
