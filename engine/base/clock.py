"""Time's units and its text forms; nobody reads a clock here. Floor 0.

* An instant is an integer of milliseconds since 1970 UTC; a span is an integer of milliseconds.
"""

import re
from datetime import UTC, datetime

MS_PER_SECOND = 1_000
SPAN_MS_MAX = 100 * 366 * 86_400_000

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SPAN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def parse_span(text: str) -> int:
    """Read a span such as `90s`, `1h 30m`, `500ms` into milliseconds; raises ValueError with a sentence."""
    position, total_ms = 0, 0.0
    while match := _SPAN.match(text, position):
        total_ms += float(match[1]) * _UNITS_MS[match[2]]
        position = match.end()
    if position == 0 or text[position:].strip():
        raise ValueError(f"{text!r} is not a duration; write a number and a unit, such as 500ms, 30s, 5m, 2h or 1d")
    if total_ms > SPAN_MS_MAX:
        raise ValueError(f"{text!r} is longer than a hundred years")
    return round(total_ms)


def span_text(span_ms: int) -> str:
    """Write a span in the largest units that say it exactly, such as `1h 30m`; the inverse of parse_span."""
    if span_ms == 0:
        return "0s"
    parts: list[str] = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, span_ms = divmod(span_ms, _UNITS_MS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts)


def instant_text(at_ms: int) -> str:
    """Write an instant as ISO 8601 in UTC with milliseconds."""
    return datetime.fromtimestamp(at_ms / MS_PER_SECOND, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
