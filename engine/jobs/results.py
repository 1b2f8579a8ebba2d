"""Results: what a process leaves in its result file, `name=value` lines or one JSON object. Floor 4."""

import json
from collections.abc import Callable
from typing import Any

import msgspec

from engine.base.codec import Value, value_fault
from engine.base.ids import is_variable
from engine.base.limits import RESULT_BYTES_MAX


class ResultFault(ValueError):
    """A result file can not be read; the sentence says where and why."""


def parse_results(raw: bytes) -> dict[str, Value]:
    """Read a result file: a JSON object, or lines `name=value` (text; empty lines and `#` lines are passed over).

    Raises ResultFault with a sentence.
    """
    if len(raw) > RESULT_BYTES_MAX:
        raise ResultFault(f"the result file is larger than {RESULT_BYTES_MAX} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise ResultFault(f"the result file is not UTF-8 at byte {error.start + 1}") from error
    results = _json(raw, text) if text.lstrip().startswith("{") else _lines(text)
    for name, value in results.items():
        if not is_variable(name):
            raise ResultFault(f"the result file names {name!r}, which can not be a variable (letters, digits, _)")
        if fault := value_fault(value):
            raise ResultFault(f"the result {name!r} can not be kept: {fault}")
    return results


_decode: Callable[[bytes], dict[str, Value]] = msgspec.json.Decoder(dict[str, Any]).decode


def _json(raw: bytes, text: str) -> dict[str, Value]:
    try:
        results = _decode(raw)
        json.loads(text, object_pairs_hook=_refuse_twins, parse_int=str, parse_float=str)  # msgspec takes the last twin
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ResultFault(f"the result file is not a JSON object: {error}") from error
    return results


def _refuse_twins(pairs: list[tuple[str, object]]) -> None:
    names: set[str] = set()
    for name, _ in pairs:
        if name in names:
            raise ResultFault(f"the result file names {name!r} twice in one object")
        names.add(name)


def _lines(text: str) -> dict[str, Value]:
    results: dict[str, Value] = {}
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise ResultFault(f"line {number} of the result file is not name=value")
        results[name.strip()] = value
    return results
