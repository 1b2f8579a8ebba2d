"""What simulated nodes log goes to whoever runs them, not to the loggers of the whole process. Floor 10.

* A run's lines are its own: thousands of nodes end in a storm, and a test's report would show nothing else.
* What other threads log meanwhile goes where it always goes; handlers somebody put below `understudy` see everything.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

import structlog.stdlib  # noqa: F401 - now: what it imports must not be imported first by a node that logs, in mid-run

from engine.simulation.loop_nodes import NODE

Tell = Callable[[str, str], None]

_OURS = logging.getLogger("understudy")
_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "level"}  # what is no field of ours

_lock = threading.Lock()
_runs: dict[int, Tell] = {}  # thread → who is told of what its nodes log


@contextlib.contextmanager
def logs_go_to(tell: Tell) -> Iterator[None]:
    """Tell (node, sentence) of everything that is logged in this thread until the block is left."""
    thread = threading.get_ident()
    with _lock:
        if not _runs:
            _OURS.addHandler(_DIVERSION)
            _DIVERSION.propagated, _OURS.propagate = _OURS.propagate, False
        outer = _runs.get(thread)
        _runs[thread] = tell
    try:
        yield
    finally:
        with _lock:
            if outer is None:
                del _runs[thread]
            else:
                _runs[thread] = outer
            if not _runs:
                _OURS.removeHandler(_DIVERSION)
                _OURS.propagate = _DIVERSION.propagated


class _Diversion(logging.Handler):
    propagated = True  # whether the logger passed its records on before

    def emit(self, record: logging.LogRecord) -> None:
        tell = _runs.get(threading.get_ident())
        if tell is not None:
            tell(NODE.get(), _sentence(record))
        elif self.propagated:
            logging.getLogger().callHandlers(record)


_DIVERSION = _Diversion()


def _sentence(record: logging.LogRecord) -> str:
    """Write a record in one line, with its fields; of a traceback the last line is enough."""
    fields = {name: str(value) for name, value in vars(record).items() if name not in _KNOWN}
    parts = [f"{name}={value.rstrip().rpartition(chr(10))[2]}" for name, value in fields.items()]
    return " ".join([f"{record.levelname.lower()}: {record.getMessage()}", *parts])
