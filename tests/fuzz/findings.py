"""What a target calls a finding though nothing was raised: an error that was logged."""

import contextlib
import logging
from collections.abc import Iterator

__all__ = ["nothing_logged"]


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))


@contextlib.contextmanager
def nothing_logged() -> Iterator[None]:
    """Fail where `peers`, `relay` or asyncio logs an error inside: what nobody expected is caught
    and logged there, and nobody would see it."""
    errors = _Errors()
    loggers = [logging.getLogger(name) for name in ("peers", "relay", "asyncio")]
    for logger in loggers:
        logger.addHandler(errors)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(errors)
    assert not errors.said, "\n".join(errors.said)
