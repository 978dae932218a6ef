"""The library's log: structlog's words through the standard library's logger `peers`.

A library is silent until its program asks: `logging.getLogger("peers")` takes the handlers.
"""

import logging

import structlog

__all__ = ["log"]

_logger = logging.getLogger("peers")
_logger.addHandler(logging.NullHandler())

log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    _logger,
    wrapper_class=structlog.stdlib.BoundLogger,
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.processors.KeyValueRenderer(key_order=["event"]),
    ],
)
