"""What a session asks of whoever looks after it (peers/roaming.py)."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from peers.session import Session

__all__ = ["SessionOwner"]


class SessionOwner(Protocol):
    """Who looks after a session. None of these may raise."""

    def session_pathless(self, session: "Session", reason: str) -> None:
        """The session has lost its path and goes on without one."""

    def session_moved(self, session: "Session") -> None:
        """The other side has told where it can be dialed now: `session.entries_there`."""

    def session_ended(self, session: "Session") -> None:
        """The session is over. Called once."""
