"""Face: where a command's words go, and what the outermost frame must know of it. Floor 11.

* A reader that goes away is no error: what would be written is dropped, and `is_cut` says so.
* Output that can not be written for another reason (a full disk) is told once, and kept in `fault`.
* Whatever a terminal's encoding can not show is escaped, never an exception.
"""

import contextlib
import os
import sys
from pathlib import Path
from typing import TextIO


class Face:
    """Standard output and standard error of one command."""

    def __init__(self) -> None:
        self.debug = False
        self.state: Path | None = None  # the state directory, once it is ours: a place for logs and crash files
        self.is_cut = False  # nothing more reaches standard output
        self.fault = ""
        self._out, self._err = sys.stdout, sys.stderr  # these very ones: others may be put in their place later
        for stream in (self._out, self._err):
            with contextlib.suppress(AttributeError, ValueError):
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]

    def out(self, text: str = "") -> None:
        """Write a line to standard output."""
        if self.is_cut or self._out is None:
            return
        try:
            self._out.write(text + "\n")
            self._out.flush()
        except (OSError, ValueError) as error:  # ValueError: the stream was closed under us
            self.cut(error)

    def err(self, text: str = "") -> None:
        """Write a line to standard error; where that is gone too, nobody is left to tell."""
        if self._err is None:
            return
        try:
            self._err.write(text + "\n")
            self._err.flush()
        except (OSError, ValueError):
            silence(self._err)

    def cut(self, error: OSError | ValueError) -> None:
        """Take note that standard output is gone."""
        self.is_cut = True
        silence(self._out)
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            self.fault = f"Standard output can not be written: {error.strerror or error}."
            self.err(self.fault)

    @property
    def encoding(self) -> str:
        """Return the encoding of standard output."""
        return getattr(self._out, "encoding", None) or "utf-8"

    @property
    def is_terminal(self) -> bool:
        """Tell whether standard output is a terminal that can be drawn on."""
        stream = self._out
        return stream is not None and stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def silence(stream: TextIO | None) -> None:
    """Point a broken stream's descriptor to nowhere, so that its last flush, at exit, breaks nothing."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        descriptor = stream.fileno()  # type: ignore[union-attr]
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
