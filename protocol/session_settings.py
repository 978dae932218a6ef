"""What a program may choose for its sessions, and the two weights that both sides must share."""

import msgspec

__all__ = ["MAX_PAYLOAD", "MESSAGE_WEIGHT", "SessionSettings"]

MAX_PAYLOAD = 1 << 20
"""The largest message, in bytes. Larger things are sent as several messages."""
MESSAGE_WEIGHT = 32
"""What a message weighs in the window beyond its length: empty messages have a bound too."""


class SessionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a program may choose for its sessions. Times are seconds."""

    window: int = 8 << 20
    """Bytes that may be on their way, or not yet taken by the other application; `send` waits
    beyond it. It also bounds what the other side may make us hold."""
    resume_window: float = 300.0
    """A session that has no path for this long is lost."""
    ping_interval: float = 2.0
    """A path is pinged when nothing was heard on it for this long."""
    silence_limit: float = 6.0
    """A path is dead when nothing was heard on it, or nothing acknowledged, for this long."""
    linger: float = 30.0
    """A closed session answers a resume for this long."""
