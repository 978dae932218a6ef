"""What `peer --verbose` shows: the log, on standard error."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from peers.cli.terminal import Terminal
from protocol.text import shown

__all__ = ["logged"]


class _Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        return shown(super().formatMessage(record))

    def formatException(self, info: Any) -> str:
        return shown(super().formatException(info), keep="\n")


@contextlib.contextmanager
def logged(terminal: Terminal, *, verbose: bool) -> Iterator[None]:
    """Show the log meanwhile, if that is wanted."""
    if not verbose:
        yield
        return
    handler = logging.StreamHandler(terminal.stream())
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))
    root, log = logging.getLogger(), logging.getLogger("peers")
    levels = root.level, log.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(levels[0])
        log.setLevel(levels[1])
