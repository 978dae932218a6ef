"""How far a session is: the numbers of both its directions, for whoever asks."""

from protocol.session.incoming import Incoming
from protocol.session.outgoing import Outgoing

__all__ = ["Figures"]


class Figures:
    """What has arrived, and what was sent."""

    __slots__ = ("_incoming", "_outgoing")

    def __init__(self, incoming: Incoming, outgoing: Outgoing) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    @property
    def received(self) -> int:
        """Messages of the other side that have arrived."""
        return self._incoming.received

    @property
    def partial(self) -> int:
        """Bytes that have arrived of the message after those of `received`."""
        return self._incoming.partial

    @property
    def consumed(self) -> int:
        """Weight of those that were taken from the inbox."""
        return self._incoming.consumed

    @property
    def sent(self) -> int:
        """Messages that were given to `send`."""
        return self._outgoing.sent

    @property
    def acknowledged(self) -> int:
        """Those of them that the other side has received."""
        return self._outgoing.acknowledged

    @property
    def outstanding(self) -> int:
        """Messages that the other side is not known to have."""
        return self._outgoing.sent - self._outgoing.acknowledged

    @property
    def unacknowledged(self) -> tuple[bytes, ...]:
        """Those messages, in order: at most the window's worth, and one."""
        return self._outgoing.messages
