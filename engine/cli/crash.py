"""Crash files: what is kept of an exception nobody foresaw, so that the person sees one line. Floor 11.

* It holds the traceback and the versions, never the command's arguments: they may be secret.
"""

import os
import platform
import tempfile
import traceback
from pathlib import Path

from engine.base.clock import instant_text
from engine.cli.face import Face
from engine.cli.log import LOG_FOLDER
from engine.runtime.real_clock import RealClock

FRAMES_MAX = 100  # of a traceback, its ends: a recursion has thousands


def report_crash(face: Face, error: BaseException) -> None:
    """Say in one line that we made a mistake, and where its details are; with --debug they are shown instead."""
    text = _details(error)
    summary = f"A mistake of ours: {type(error).__name__}: {_one_line(str(error))}"
    if face.debug:
        face.err(text)
        face.err(summary)
        return
    path = _kept(face.state, text)
    if path is None:
        face.err(f"{summary} Nothing could be written about it; run again with --debug to see the details.")
    else:
        face.err(f"{summary} The details are in {path}; please report them. (--debug shows them.)")


def _details(error: BaseException) -> str:
    frames = "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=FRAMES_MAX))
    return f"Python {platform.python_version()} on {platform.platform()}, process {os.getpid()}\n{frames}"


def _kept(state: Path | None, text: str) -> Path | None:
    """Write the details into the state directory's log folder, else where temporary files go."""
    name = f"understudy-crash-{instant_text(RealClock().now_ms()).replace(':', '')}-{os.getpid()}.txt"
    folders = [] if state is None else [state / LOG_FOLDER]
    for folder in (*folders, Path(tempfile.gettempdir())):
        path = folder / name
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError:
            continue
        return path
    return None


def _one_line(text: str) -> str:
    line = " ".join(text.split())[:300]
    return line if line.endswith((".", "!", "?")) else f"{line}."
