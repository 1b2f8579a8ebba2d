"""The live tree of steps on a terminal, drawn by rich in our own loop, without a thread. Floor 11.

* It never grows over the window while it lives; what remains on the screen at the end may be longer.
* The window is as large as the terminal says: LINES and COLUMNS may be left over from another one.
"""

import os

from rich.console import Console, ConsoleDimensions
from rich.live import Live
from rich.table import Table
from rich.text import Text

from engine.cli.face import Face
from engine.cli.rows import Row, rows_of
from engine.cli.steps import StepTable, Strand
from engine.model.event import Event

DRAWN_EACH_MS = 100
LAST_ROWS_MAX = 400
NAME_CHARS_MAX, STATE_CHARS, SPAN_CHARS = 40, 9, 7
SPARE_ROWS = 2  # of the window, so that the cursor's line does not scroll it

_STYLES = {
    "running": "cyan",
    "succeeded": "green",
    "finished": "green",
    "done": "green",
    "failed": "red",
    "broken": "red",
    "timed out": "red",
    "killed": "red",
    "unknown": "magenta",
    "held": "magenta",
    "cancelled": "yellow",
    "suspended": "yellow",
    "sleeping": "blue",
    "waiting": "blue",
    "expecting": "blue",
}
_MARKS = {"succeeded": "✓", "finished": "✓", "done": "✓", "failed": "✗", "broken": "✗", "timed out": "✗", "killed": "✗"}
_OTHER_MARK = "•"


class Window(Console):
    """A console with the size of the terminal it writes to."""

    @property  # type: ignore[misc] # nobody sets it
    def size(self) -> ConsoleDimensions:
        try:
            columns, lines = os.get_terminal_size(self.file.fileno())
        except (OSError, ValueError):
            return super().size
        return ConsoleDimensions(columns, lines) if columns and lines else super().size


class LiveScreen:
    """A tree that is redrawn in place."""

    def __init__(self, face: Face) -> None:
        self._face = face
        self._console = Window(highlight=False, markup=False, emoji=False)
        self._live: Live | None = None
        self._table: StepTable | None = None
        self._drawn_ms = 0

    def begin(self, table: StepTable, heading: str) -> None:
        self._table = table
        if self._live is None:
            self._console.print(Text(heading, style="dim"))
            self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
            self._live.start()

    def happened(self, strand: Strand, event: Event) -> None:
        pass

    def draw(self, now_ms: int) -> None:
        if abs(now_ms - self._drawn_ms) >= DRAWN_EACH_MS:
            self._drawn_ms = now_ms
            self._draw(now_ms, max(self._console.size.height - SPARE_ROWS, 3))

    def note(self, text: str) -> None:
        if self._face.is_cut:
            return
        try:
            self._console.print(Text(text, style="yellow"))
        except OSError as error:
            self._face.cut(error)

    def end(self, now_ms: int) -> None:
        if self._live is None:
            return
        self._draw(now_ms, LAST_ROWS_MAX)
        live, self._live = self._live, None
        try:
            live.stop()
        except OSError as error:
            self._face.cut(error)

    def _draw(self, now_ms: int, rows_max: int) -> None:
        if self._live is None or self._table is None or self._face.is_cut:
            return
        try:
            self._live.update(_picture(rows_of(self._table, now_ms, rows_max)), refresh=True)
        except OSError as error:
            self._face.cut(error)


def _picture(rows: list[Row]) -> Table:
    picture = Table.grid(padding=(0, 2), expand=True)
    picture.add_column(no_wrap=True, overflow="ellipsis", max_width=NAME_CHARS_MAX)
    picture.add_column(no_wrap=True, min_width=STATE_CHARS)
    picture.add_column(no_wrap=True, min_width=SPAN_CHARS, justify="right")
    picture.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        style = _STYLES.get(row.state, "")
        name = Text("  " * row.depth)
        if row.state:
            name.append(_MARKS.get(row.state, _OTHER_MARK) + " ", style=style)
        name.append(row.name, style="bold" if row.depth == 0 else "")
        picture.add_row(name, Text(row.state, style=style), Text(row.span), Text(row.note, style="dim"))
    return picture
