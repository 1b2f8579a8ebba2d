"""MessagePack in one place: encoding, decoding, and what cannot be encoded. Floor 0.

* Values from people are checked here before they enter an event: integers beyond 64 bits, lone surrogates, NaN,
  too deep or too large values are refused at the door, not in the middle of a turn.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

Raw = msgspec.Raw
if TYPE_CHECKING:
    Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]
else:
    Value = Any  # msgspec knows no recursive aliases; values from people are checked by value_fault

VALUE_DEPTH_MAX = 32
INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**63 - 1

_encoder = msgspec.msgpack.Encoder()

encode = _encoder.encode
DecodeError = msgspec.MsgspecError


def pack(parts: Sequence[bytes]) -> bytes:
    """Join encoded messages into one encoded array without looking into them."""
    return encode([Raw(part) for part in parts])


_raws = msgspec.msgpack.Decoder(list[msgspec.Raw])


def unpack(packed: bytes) -> list[Raw]:
    """Take an encoded array apart into its still encoded elements."""
    return _raws.decode(packed)


def value_fault(value: object, depth: int = 0) -> str | None:
    """Say what keeps a person's value from being kept, or None when it can be.

    The bounds: integers of 64 bits with sign, text that is valid Unicode, finite numbers, nesting of 32.
    """
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return None if INTEGER_MIN <= value <= INTEGER_MAX else f"the integer {_short(value)} does not fit into 64 bits"
    if isinstance(value, float):
        return None if value - value == 0.0 else f"{value} is not a finite number"
    if isinstance(value, str):
        return _text_fault(value)
    if depth >= VALUE_DEPTH_MAX:
        return f"it is nested deeper than {VALUE_DEPTH_MAX}"
    if isinstance(value, Mapping):
        return _mapping_fault(value, depth)
    if isinstance(value, list | tuple):
        return next((fault for item in value if (fault := value_fault(item, depth + 1))), None)
    return f"a {type(value).__name__} is not a value that can be kept (text, number, boolean, null, list, object)"


def _mapping_fault(value: Mapping[object, object], depth: int) -> str | None:
    for key, item in value.items():
        if not isinstance(key, str):
            return f"the key {key!r} is not text"
        if fault := _text_fault(key) or value_fault(item, depth + 1):
            return fault
    return None


def _text_fault(text: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"the text holds a lone surrogate at character {error.start + 1}, which is not Unicode"
    return None


def _short(value: int) -> str:
    digits = f"{value:x}" if value.bit_length() > 4000 else str(value)
    return digits if len(digits) <= 40 else f"{digits[:20]}… ({value.bit_length()} bits)"
