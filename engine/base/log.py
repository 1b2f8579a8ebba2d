"""Logging: structlog's loggers under our names; nobody is configured by importing this. Floor 0.

* The library writes through the standard logging tree below `understudy` and adds no handler: whoever embeds us sees
  what he asked for. Role processes and the command line configure output themselves.
"""

import logging

import structlog

logging.getLogger("understudy").addHandler(logging.NullHandler())

_PROCESSORS: list[structlog.typing.Processor] = [
    structlog.stdlib.filter_by_level,
    structlog.stdlib.add_log_level,
    structlog.processors.format_exc_info,
    structlog.stdlib.render_to_log_kwargs,
]


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger `understudy.<name>`; its keyword arguments become fields of the record."""
    bound: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(f"understudy.{name}"),
        processors=_PROCESSORS,
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return bound
