"""How many letters may be on their way to this peer: more where they arrive quickly.

PURE: when they were asked for and when they came goes in. A letter has 60 KiB at most, and a ping
waits behind those that are on their way: on a slow link there is one.
"""

__all__ = ["Window"]

_QUICK = 0.25
"""Seconds within which a letter comes that was asked for over a link that bears more."""
_MOST = 16


class Window:
    """The window of one connection."""

    def __init__(self) -> None:
        self.letters = 1
        """How many may be on their way."""
        self._asked: float | None = None

    def asked(self, now: float) -> None:
        """More may come from now on."""
        if self._asked is None:
            self._asked = now

    def came(self, now: float) -> bool:
        """A letter has come; return whether the window is another one now. Where one comes late
        nobody knows whether the link is slow or the mailbox was empty: it gets no larger."""
        asked, self._asked = self._asked, None
        before = self.letters
        if asked is not None and now - asked < _QUICK:
            self.letters = min(_MOST, 2 * self.letters)
        elif asked is not None and now - asked < 8 * _QUICK:
            self.letters = max(1, self.letters // 2)
        return self.letters != before
