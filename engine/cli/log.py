"""Logging of the role `run`: structured lines into a bounded file of the state directory. Floor 11.

* The terminal belongs to the order's progress; only --debug puts log lines there, on standard error.
* Loggers that show what a program hands to a library are kept from telling details: operands hold people's secrets.
* What is logged before the state directory is ours waits in memory; a file that can not be written stops nobody.
"""

import contextlib
import logging
import os
from pathlib import Path
from typing import Any, Self

import msgspec

from engine.base.clock import instant_text

LOG_FOLDER = "log"
LOG_FILE = "run.log"
LOG_BYTES_MAX = 5 << 20  # of run.log; then it becomes run.log.1, and the one before that is gone
EARLY_RECORDS_MAX = 1_000

TELLTALES = ("aiosqlite",)  # its debug lines hold each statement with its operands

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_encode = msgspec.json.Encoder(enc_hook=str).encode


class RunLog(logging.Handler):
    """Writes records as JSON, one a line."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._early: list[bytes] = []
        self._path: Path | None = None
        self._file: int | None = None
        self._size_bytes = 0

    def open(self, state: Path) -> None:
        """Begin to write below a state directory that is ours, with what came before."""
        folder = state / LOG_FOLDER
        self._path = folder / LOG_FILE
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
            self._begin(self._path)
        early, self._early = self._early, []
        for line in early:
            self._write(line)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = _encode(fields_of(record)) + b"\n"
        except Exception:  # noqa: BLE001 - whatever somebody's object does when it is written as text
            line = _encode({"level": record.levelname, "event": "a record that can not be written"}) + b"\n"
        if self._path is not None:
            self._write(line)
        elif len(self._early) < EARLY_RECORDS_MAX:
            self._early.append(line)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        super().close()

    def _begin(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size_bytes = os.fstat(self._file).st_size

    def _write(self, line: bytes) -> None:
        if self._file is None or self._path is None:
            return
        with contextlib.suppress(OSError):
            if self._size_bytes + len(line) > LOG_BYTES_MAX:
                os.close(self._file)
                self._file = None
                self._path.replace(self._path.with_name(f"{LOG_FILE}.1"))
                self._begin(self._path)
            if self._file is not None:
                self._size_bytes += os.write(self._file, line)


class DebugLog(logging.StreamHandler[Any]):
    """Writes records to standard error for the person who said --debug."""

    def format(self, record: logging.LogRecord) -> str:
        fields = fields_of(record)
        at, level, logger, event = (fields.pop(name) for name in ("at", "level", "logger", "event"))
        error = fields.pop("exception", "")
        rest = " ".join(f"{name}={value!r}" for name, value in fields.items())
        return f"{at} {level:8} {logger}: {event} {rest}".rstrip() + (f"\n{error}" if error else "")


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return a record's fields in the order in which they are read: when, how bad, who, what, and the rest."""
    fields: dict[str, Any] = {
        "at": instant_text(int(record.created * 1_000)),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": record.getMessage(),
    }
    fields.update((name, value) for name, value in vars(record).items() if name not in _STANDARD)
    if record.exc_info:
        fields["exception"] = logging.Formatter().formatException(record.exc_info)
    return fields


class Logging:
    """The role's logging, from its begin to its end: `with Logging(debug=…) as log: … log.file.open(state)`."""

    def __init__(self, *, debug: bool) -> None:
        self.file = RunLog()
        self._all: list[logging.Handler] = [self.file, *([DebugLog()] if debug else [])]
        self._level = logging.DEBUG if debug else logging.INFO
        self._before = logging.WARNING
        self._telltales: dict[str, int] = {}

    def __enter__(self) -> Self:
        top = logging.getLogger()
        self._before = top.level
        top.setLevel(self._level)
        for name in TELLTALES:
            self._telltales[name] = logging.getLogger(name).level
            logging.getLogger(name).setLevel(max(self._telltales[name], logging.INFO))
        for one in self._all:
            top.addHandler(one)
        return self

    def __exit__(self, *_: object) -> None:
        top = logging.getLogger()
        top.setLevel(self._before)
        for name, level in self._telltales.items():
            logging.getLogger(name).setLevel(level)
        for one in self._all:
            top.removeHandler(one)
            one.close()
