"""Logging: structlog's loggers under our names; nobody is configured by importing this. Floor 0.

* The library writes through the standard logging tree below `understudy` and adds no handler: whoever embeds us sees
  what he asked for. Role processes and the command line configure output themselves.
* structlog is imported when something is logged for the first time: it costs a fifth of the start of a command.
"""

import logging
from functools import cached_property
from typing import Any

logging.getLogger("understudy").addHandler(logging.NullHandler())


class Logger:
    """The logger `understudy.<name>`; its keyword arguments become fields of the record."""

    def __init__(self, name: str) -> None:
        self.name = f"understudy.{name}"

    @cached_property
    def _bound(self) -> Any:
        import structlog  # noqa: PLC0415 - see above

        return structlog.wrap_logger(
            logging.getLogger(self.name),
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.stdlib.add_log_level,
                structlog.processors.format_exc_info,
                structlog.stdlib.render_to_log_kwargs,
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
        )

    def note(self, event: str, **fields: Any) -> None:
        """Log what is worth knowing."""
        self._bound.info(event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Log what somebody should look at."""
        self._bound.warning(event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        """Log what went wrong."""
        self._bound.error(event, **fields)

    def exception(self, event: str, **fields: Any) -> None:
        """Log the exception that is being handled."""
        self._bound.error(event, exc_info=True, **fields)


def logger(name: str) -> Logger:
    """Return the logger of one part of the engine."""
    return Logger(name)
