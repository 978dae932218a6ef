"""News upwards, inside a guard: what the owner makes of one must not end who tells it."""

from collections.abc import Callable
from typing import TypeVar

from peers.config import log

__all__ = ["tell_safely"]

_Event = TypeVar("_Event")


def tell_safely(tell: Callable[[_Event], None], event: _Event) -> bool:
    """Tell; return whether it was taken. What it raises is logged, and this one event is lost."""
    try:
        tell(event)
    except Exception:
        log.exception("unexpected: news were lost", news=type(event).__name__)
        return False
    return True
