"""The library's log: a line `event=… key=…` through the standard library's logger `peers`.

A library is silent until its program asks: `logging.getLogger("peers")` takes the handlers.
No library is imported for it: structlog, with what it imports, took a sixth of `import peers`.
"""

import logging
import sys
from typing import Final

__all__ = ["Log", "log"]

_logger: Final = logging.getLogger("peers")
_logger.addHandler(logging.NullHandler())

_CALLER = 3
"""Calls between whoever says something and the logger."""


class Log:
    """What has happened, and its facts."""

    def debug(self, event: str, **facts: object) -> None:
        """Say something that only who looks for a fault wants to know."""
        _say(logging.DEBUG, event, facts)

    def info(self, event: str, **facts: object) -> None:
        """Say what has happened."""
        _say(logging.INFO, event, facts)

    def warning(self, event: str, **facts: object) -> None:
        """Say what is not as it should be, and is borne."""
        _say(logging.WARNING, event, facts)

    def error(self, event: str, *, exc_info: BaseException | None = None, **facts: object) -> None:
        """Say what is lost, with the traceback of an exception."""
        _say(logging.ERROR, event, facts, exc_info)

    def exception(self, event: str, **facts: object) -> None:
        """Say what nobody expected, with the traceback of what is being handled."""
        _say(logging.ERROR, event, facts, sys.exception())


def _say(
    level: int, event: str, facts: dict[str, object], error: BaseException | None = None
) -> None:
    if _logger.isEnabledFor(level):
        line = " ".join(f"{name}={value!r}" for name, value in {"event": event, **facts}.items())
        _logger.log(level, "%s", line, exc_info=error, stacklevel=_CALLER)


log: Final = Log()
