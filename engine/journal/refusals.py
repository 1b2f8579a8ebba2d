"""What every store refuses, in the same words: wishes that do not fit the log, and values beyond a bound. Floor 4.

* A refusal is a StoreFault that is raised before anything was changed; the store goes on.
"""

from collections.abc import Mapping

from engine.ports import StoreFault, Tip

READ_RECORDS_MAX = 1_000  # of one read; keeps the read transaction short
REPLAY_RECORDS_MAX = 4_000  # of one batch of a replay, when nobody else is served yet
CELL_NAME_LENGTH_MAX = 200
CELL_BYTES_MAX = 1 << 20


def refuse_truncation(index: int, recovery_index: int) -> None:
    """Raise StoreFault when cutting behind `index` would cut into the snapshot."""
    if index < recovery_index:
        raise StoreFault(
            f"The journal cannot be cut behind record {index}: its snapshot already stands at {recovery_index}."
        )


def refuse_snapshot(new: Tip, known: Tip | None, tip: Tip, recovery_index: int) -> None:
    """Raise StoreFault when a snapshot does not belong to this log; `known` is the record it claims to stand behind."""
    if new.index > tip.index:
        raise StoreFault(f"A snapshot behind record {new.index} was refused: the journal ends at {tip.index}.")
    if new.index < recovery_index:
        raise StoreFault(
            f"A snapshot behind record {new.index} was refused: there is a newer one behind {recovery_index}."
        )
    if known != new:
        raise StoreFault(f"A snapshot behind record {new.index} was refused: that record has another hash.")


def refuse_cells(path: str, cells: Mapping[str, bytes]) -> None:
    """Raise StoreFault when cells cannot be written."""
    for name, value in cells.items():
        refused = f"The journal {path} refused to write the cell {name[:CELL_NAME_LENGTH_MAX]!r}:"
        if not 0 < len(name) <= CELL_NAME_LENGTH_MAX:
            raise StoreFault(f"{refused} its name has {len(name)} characters, 1 to {CELL_NAME_LENGTH_MAX} fit.")
        if not isinstance(value, bytes):
            raise StoreFault(f"{refused} its value is a {type(value).__name__}, bytes fit.")
        if len(value) > CELL_BYTES_MAX:
            raise StoreFault(f"{refused} its value has {len(value)} bytes, at most {CELL_BYTES_MAX} fit.")
