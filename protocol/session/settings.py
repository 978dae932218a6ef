"""What a program may choose for its sessions, and the two weights that both sides must share."""

from typing import Annotated

import msgspec

from protocol.checked import check

__all__ = ["MAX_PAYLOAD", "MESSAGE_WEIGHT", "SessionSettings"]

MAX_PAYLOAD = 1 << 20
"""The largest message, in bytes. Larger things are sent as several messages."""
MESSAGE_WEIGHT = 32
"""What a message weighs in the window beyond its length: empty messages have a bound too."""


_Seconds = Annotated[float, msgspec.Meta(gt=0, le=604_800)]


class SessionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a program may choose for its sessions. Times are seconds."""

    window: Annotated[int, msgspec.Meta(ge=1024, le=1 << 32)] = 8 << 20
    """Bytes that may be on their way, or not yet taken by the other application; `send` waits
    beyond it. It also bounds what the other side may make us hold."""
    resume_window: _Seconds = 300.0
    """A session that has no path for this long is lost."""
    ping_interval: _Seconds = 2.0
    """A path is pinged when nothing was heard on it for this long."""
    silence_limit: _Seconds = 6.0
    """A path is dead when nothing was heard on it, or nothing acknowledged, for this long."""
    idle_interval: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.0
    """The longest that a direct path may be quiet before it is pinged, as far as its network is
    seen to bear that and the other side agrees; 0 has no such wish. It saves power; who has nothing
    to say notices by so much later that the other side is gone."""
    linger: _Seconds = 30.0
    """A closed session answers a resume for this long."""

    def __post_init__(self) -> None:
        check(self)
