"""Presses: Ctrl-C counted, SIGTERM taken as the first, both only while a `run` lasts. Floor 11."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Self

from engine.cli.exits import ExitCode

SUSPEND, KILL, LEAVE = 1, 2, 3  # what so many presses mean


class Presses:
    """`with Presses(on_press, on_leave) as presses:` in a running loop; `count` is how often Ctrl-C was pressed."""

    def __init__(self, on_press: Callable[[], None], on_leave: Callable[[], None]) -> None:
        """`on_leave` says the last words; then the process ends at once, because something does not end."""
        self.count = 0
        self._on_press = on_press
        self._on_leave = on_leave

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self.press)
        loop.add_signal_handler(signal.SIGTERM, self.ask)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGTERM)

    def press(self) -> None:
        """Count one more."""
        self.count += 1
        if self.count >= LEAVE:
            self._on_leave()
            os._exit(ExitCode.INTERRUPTED)
        self._on_press()

    def ask(self) -> None:
        """Count the first one, unless there was one: asking again does no harm."""
        if self.count == 0:
            self.press()
