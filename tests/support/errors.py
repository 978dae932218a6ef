"""The errors that are logged in the process of the tests, and which of them a test expects."""

import logging
import re
from collections.abc import Iterable

import structlog

__all__ = ["LOGGERS", "ErrorLog"]

LOGGERS = ("peers", "relay", "asyncio")
"""asyncio's own logger is where its exception handler speaks: of tasks whose error nobody took,
and of callbacks that raised."""


class ErrorLog(logging.Handler):
    """Keeps what the three loggers say at ERROR or above."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        self._said: list[str] = []

    def install(self) -> None:
        """Listen, for as long as the process lives; the relay's log goes the same way."""
        structlog.configure(
            wrapper_class=structlog.stdlib.BoundLogger,
            logger_factory=structlog.stdlib.LoggerFactory(),
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.stdlib.render_to_log_kwargs,
            ],
        )
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(self.format(record))

    def take(self, expected: Iterable[str] = ()) -> list[str]:
        """Return, and forget, what none of these regular expressions is found in."""
        said, self._said = self._said, []
        return [text for text in said if not any(re.search(one, text) for one in expected)]
