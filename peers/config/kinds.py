"""The kinds of path, and of what carries bytes to the relay."""

from enum import StrEnum

__all__ = ["CarrierKind", "PathKind"]


class PathKind(StrEnum):
    """How the two ends of a path are joined."""

    DIRECT = "direct"
    RELAYED = "relayed"


class CarrierKind(StrEnum):
    """How bytes travel to and from the relay."""

    RAW = "raw"
    WEBSOCKET = "websocket"
