"""Records as lines: events of a journal, decoded without types, get the names of their fields where these are known.

Floor 11.

* Pure. What is not known (another version's event, bytes that can not be decoded) is shown as it is stored.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from engine.base.clock import instant_text
from engine.base.ids import BRANCH_SEPARATOR
from engine.cli.output import value_text
from engine.documents.node import printable
from engine.journal.inspect import DumpedRecord
from engine.model.event import AnyEvent

FIELD_CHARS_MAX = 200

# kind of event → names of its fields, in the order in which they are stored
FIELDS: dict[str, tuple[str, ...]] = {
    kind.__name__: tuple(field.encode_name for field in msgspec.structs.fields(kind)) for kind in AnyEvent.__args__
}


class DumpedEvent(msgspec.Struct, frozen=True):
    """One event, or (with `fault`) a record that is damaged. `at` is empty where the event has no instant."""

    index: int
    place: int
    epoch: int
    at: str
    event: str
    order: str | None
    fields: dict[str, Any]
    fault: str | None = None

    def is_about(self, order: str) -> bool:
        """Tell whether the event is about an order or one of its branches."""
        if self.order is not None:
            return self.order == order or self.order.startswith(order + BRANCH_SEPARATOR)
        return order in self.fields.get("orders", ())


def events_of(records: Iterable[DumpedRecord]) -> Iterator[DumpedEvent]:
    """Yield the events of records, and one entry for each damaged record before what could be read of it."""
    for record in records:
        if record.fault is not None:
            yield DumpedEvent(record.index, -1, record.epoch, "", "", None, {}, record.fault)
        for place, stored in enumerate(record.events if isinstance(record.events, tuple) else ()):
            yield _event(record, place, stored)


def line_of(one: DumpedEvent) -> str:
    """Write an event as one line."""
    if one.fault is not None:
        return f"{one.index}  DAMAGED: record {one.index} {printable(one.fault)}"
    fields = " ".join(f"{name}={_short(value)}" for name, value in one.fields.items())
    about = f"{printable(one.order)}  " if one.order else ""
    return f"{one.index}.{one.place}  {one.at or '-':24}  {printable(one.event):16}  {about}{fields}".rstrip()


def _event(record: DumpedRecord, place: int, stored: Any) -> DumpedEvent:
    if not isinstance(stored, tuple) or not stored or not isinstance(stored[0], str):
        return DumpedEvent(record.index, place, record.epoch, "", "?", None, {"stored": stored})
    kind, *values = stored
    names = FIELDS.get(kind, ())
    fields = {names[number] if number < len(names) else f"field{number}": value for number, value in enumerate(values)}
    order = fields.pop("order", None)
    at_ms = fields.pop("at_ms", None)
    try:
        at = instant_text(at_ms) if isinstance(at_ms, int) else ""
    except (ValueError, OverflowError, OSError):
        at = str(at_ms)
    return DumpedEvent(record.index, place, record.epoch, at, kind, order if isinstance(order, str) else None, fields)


def _short(value: Any) -> str:
    text = printable(value_text(value))
    return text if len(text) <= FIELD_CHARS_MAX else f"{text[:FIELD_CHARS_MAX]}…"
