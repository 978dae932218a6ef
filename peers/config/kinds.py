"""The kinds of path, of what carries bytes to the relay, of caution in dialing, and of a second
path."""

from enum import StrEnum

__all__ = ["CarrierKind", "Dial", "PathKind", "StandbyWord"]


class PathKind(StrEnum):
    """How the two ends of a path are joined."""

    DIRECT = "direct"
    """One TCP connection between the two hosts."""
    RELAYED = "relayed"
    """Through the relay, which sees bytes that it cannot read."""


class CarrierKind(StrEnum):
    """How bytes travel to and from the relay."""

    RAW = "raw"
    """An upgraded HTTP connection, of which nothing but our bytes is left."""
    WEBSOCKET = "websocket"
    """For proxies that let no other upgrade pass."""


class Dial(StrEnum):
    """Which endpoints are dialed where the peer's key was not met before."""

    OPEN = "open"
    """All but those where nobody can be, as fast as the relay's word allows: for laboratories."""
    CAREFUL = "careful"
    """Public ones within budgets; private ones and this host's own where something beside the other
    side's word says that it is there, and well-known services, only once the relay has met the key
    there."""
    PROVEN = "proven"
    """Those that the relay discloses, or has met when it was asked, and no others: for servers that
    strangers call."""


class StandbyWord(StrEnum):
    """Whether a second direct path stands ready while a session lives, where another network of
    either side leads to the other."""

    AUTO = "auto"
    """It does, but over no interface that `metered` names."""
    METERED = "metered"
    """It does, over those too."""
    NEVER = "never"
    """Neither this side dials one nor does it take one."""
