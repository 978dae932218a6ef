"""The library's log: structlog's words through the standard library's logger `peers`.

A library is silent until its program asks: `logging.getLogger("peers")` takes the handlers.
"""

import logging
from typing import Any

import structlog

__all__ = ["log"]

_logger = logging.getLogger("peers")
_logger.addHandler(logging.NullHandler())

_as_text = structlog.processors.KeyValueRenderer(key_order=["event"])


def _to_record(
    logger: Any, method: str, words: structlog.typing.EventDict
) -> tuple[tuple[str], dict[str, Any]]:
    """Turn words into the call of a standard logger; a traceback stays the record's."""
    trace = words.pop("exc_info", None)
    return (str(_as_text(logger, method, words)),), {"exc_info": trace}


log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    _logger,
    wrapper_class=structlog.stdlib.BoundLogger,
    processors=[structlog.stdlib.filter_by_level, _to_record],
)
