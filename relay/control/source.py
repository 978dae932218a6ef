"""Where a control connection comes from."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Source"]


def _nobody_listens(guid: str) -> None:
    """Who has nothing to do when a connection is proven."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a control connection comes from, and what carries it: `raw` or `websocket`."""

    carrier: str
    host: str
    """Empty where it is not known: a proxy that does not tell stands between."""
    port: int
    """0 where it is not known."""
    proxy: str = ""
    """The proxy that it came by; empty where it came by itself."""
    proven: Callable[[str], None] = _nobody_listens
    """Called with its peer's GUID once that has registered."""
