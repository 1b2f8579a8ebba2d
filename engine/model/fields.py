"""Field types whose text form in documents differs from what is stored. Floor 2."""

import re
from typing import NewType

Span = NewType("Span", int)  # milliseconds; written as 90s, 1h 30m
Size = NewType("Size", int)  # bytes; written as 500kB, 10MB, 1GiB

SIZE_BYTES_MAX = 1 << 50

_UNITS = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*\Z")


def parse_size(text: str) -> Size:
    """Read a size such as `10MB` into bytes; raises ValueError with a sentence."""
    match = _SIZE.match(text)
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{text!r} is not a size; write a number and a unit, such as 500kB, 10MB or 1GiB")
    exact = float(match[1]) * _UNITS[match[2]]
    if exact > SIZE_BYTES_MAX:
        raise ValueError(f"{text[:60]!r} is larger than {SIZE_BYTES_MAX >> 40} TiB")
    return Size(round(exact))
