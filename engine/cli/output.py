"""What the commands share in their output: the option, JSON, times and values for people. Floor 11."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import click
import msgspec

from engine.cli.face import Face

F = TypeVar("F", bound=Callable[..., Any])

VALUE_CHARS_MAX = 2_000  # of one value on a terminal; JSON output has them whole

_encode = msgspec.json.Encoder(enc_hook=str).encode


def _json(value: Any) -> bytes:
    """Encode a value; one that JSON has no form for (a mapping with odd keys, of another version) as its text."""
    try:
        return _encode(value)
    except (msgspec.MsgspecError, TypeError, ValueError):
        return _encode(repr(value))


def output_option(function: F) -> F:
    """Add `--output text|json`."""
    choice = click.Choice(["text", "json"])
    text = "What to write to standard output."
    return click.option("--output", type=choice, default="text", show_default=True, help=text)(function)


def debug_option(function: F) -> F:
    """Add `--debug`."""

    def noted(context: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            context.ensure_object(Face).debug = True

    text = "Show log lines and, after a mistake of ours, the traceback."
    return click.option("--debug", is_flag=True, expose_value=False, callback=noted, help=text)(function)


def write_json(face: Face, value: Any) -> None:
    """Write one JSON object, indented, to standard output."""
    face.out(_shown(face, msgspec.json.format(_json(value), indent=2).decode()))


def write_json_line(face: Face, value: Any) -> None:
    """Write one JSON object on one line to standard output."""
    face.out(_shown(face, _json(value).decode()))


def _shown(face: Face, text: str) -> str:
    """Escape in JSON's own way what standard output's encoding has no character for: it must stay JSON."""
    try:
        text.encode(face.encoding)
    except UnicodeEncodeError:
        return re.sub(r"[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], text)
    return text


def value_text(value: Any) -> str:
    """Write a value for a person: text as it is where it fits on a line, everything else as JSON."""
    text = value if isinstance(value, str) and value.isprintable() else _json(value).decode()
    return text if len(text) <= VALUE_CHARS_MAX else f"{text[:VALUE_CHARS_MAX]}… ({len(text)} characters)"


def clock_text(at_ms: int) -> str:
    """Write an instant as this machine's time of day, with milliseconds."""
    return datetime.fromtimestamp(at_ms / 1_000).astimezone().strftime("%H:%M:%S.") + f"{at_ms % 1_000:03d}"


def day_text(at_ms: int) -> str:
    """Write an instant as this machine's date and time of day."""
    return datetime.fromtimestamp(at_ms / 1_000).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def span_words(span_ms: int) -> str:
    """Write how long something took: 0.42s, 12.3s, 4m 05s, 2h 03m."""
    if span_ms < 10_000:
        return f"{max(span_ms, 0) / 1_000:.2f}s"
    if span_ms < 60_000:
        return f"{span_ms / 1_000:.1f}s"
    minutes, seconds = divmod(span_ms // 1_000, 60)
    if minutes < 60:
        return f"{minutes}m {seconds:02d}s"
    return f"{minutes // 60}h {minutes % 60:02d}m"
