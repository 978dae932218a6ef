"""The relay's log: structlog's words through the standard library's logger `relay`.

A relay that is embedded is silent until its program asks: `logging.getLogger("relay")` takes the
handlers, and a record's text is `event key=value …`. `relay serve` asks with `configure`: a console
on a terminal, JSON lines otherwise. One line a life event.
"""

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any

import structlog

__all__ = ["NAME", "configure", "guarded", "log", "short"]

NAME = "relay"

_FIELDS = "relay_fields"
"""The attribute of a record that holds its words one by one."""

_CALLER = 4
"""Calls between whoever writes a line and the logger: structlog's."""

logging.getLogger(NAME).addHandler(logging.NullHandler())

_as_text = structlog.processors.KeyValueRenderer(key_order=["event"])


def _to_record(
    logger: Any, method: str, words: structlog.typing.EventDict
) -> tuple[tuple[str], dict[str, Any]]:
    """Turn words into the call of a standard logger; a traceback stays the record's."""
    trace = words.pop("exc_info", None)
    text = str(_as_text(logger, method, dict(words)))
    extra = {_FIELDS: dict(words)}
    return (text,), {"exc_info": trace, "extra": extra, "stacklevel": _CALLER}


log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logging.getLogger(NAME),
    wrapper_class=structlog.stdlib.BoundLogger,
    processors=[structlog.stdlib.filter_by_level, _to_record],
)


class _Lines(logging.Formatter):
    """One line a record, whoever wrote it."""

    def __init__(self, renderer: structlog.typing.Processor) -> None:
        super().__init__()
        self._renderer = renderer
        self._stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)

    def format(self, record: logging.LogRecord) -> str:
        words = dict(getattr(record, _FIELDS, None) or {"event": record.getMessage()})
        words["level"] = record.levelname.lower()
        words = dict(self._stamp(None, record.levelname, words))
        if record.exc_info:
            words["exception"] = self.formatException(record.exc_info)
        return str(self._renderer(None, record.levelname, words))


def configure(style: str, level: str) -> None:
    """Set logging up for the process: `style` is auto, console or json.

    What other libraries have to say comes in the same form, from a warning upwards.
    """
    if style == "auto":
        style = "console" if sys.stderr.isatty() else "json"
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if style == "console"
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(renderer))
    chosen = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(handlers=[handler], level=max(logging.WARNING, chosen), force=True)
    logging.getLogger(NAME).setLevel(chosen)


@contextlib.contextmanager
def guarded(what: str) -> Iterator[None]:
    """One step that must not keep others from theirs: what nobody expected is logged, once, with
    its traceback, and ends the step alone."""
    try:
        yield
    except Exception as error:
        log.error("a step failed", step=what, exc_info=error)


def short(guid: str) -> str:
    """Return the part of a GUID that a log line shows."""
    return guid[:8]
