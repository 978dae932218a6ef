"""When a nats-server that keeps nothing any more is started anew.

PURE. Who says that it keeps nothing are the nodes; whether there is room for it is looked up by
`nats.py`, and `supervisor.py` does it.
"""

__all__ = ["Revival"]

_FIRST, _LONGEST = 5.0, 320.0
"""Seconds after a new start in which none is made; twice as long each time, while it is needed
again within `_CALM` of them."""
_CALM = 3600.0


class Revival:
    """Of one nats-server."""

    def __init__(self) -> None:
        self._pause = _FIRST
        self._begun: float | None = None

    def may_begin(self, now: float) -> bool:
        """Whether it may be started anew, where nodes say that it keeps nothing."""
        return self._begun is None or now - self._begun >= self._pause

    def begun(self, now: float) -> None:
        """It is started anew."""
        if self._begun is not None:
            soon = now - self._begun < _CALM
            self._pause = min(2 * self._pause, _LONGEST) if soon else _FIRST
        self._begun = now
