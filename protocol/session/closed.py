"""What is left of a session that both sides have closed: the numbers with which it still answers.

The other side may have missed the last word, and asks for another path to hear it.
"""

from dataclasses import dataclass

from protocol.errors import ProtocolViolation
from protocol.session.frames import Frame, pack

__all__ = ["ClosedSession"]


@dataclass(frozen=True, slots=True)
class ClosedSession:
    """The numbers of this side: of its welcome, and of the frames behind that."""

    received: int
    consumed: int
    window: int
    sent: int
    revised: bool
    """Whether the session's paths had the second revision of the frames."""

    def check(self, received: int, *, revised: bool) -> None:
        """Refuse a hello that cannot be of this session.

        Raises:
            ProtocolViolation: another revision than on the paths before, or a message is
                acknowledged that was never sent.
        """
        if revised != self.revised:
            raise ProtocolViolation("another revision than on the path before")
        if received > self.sent:
            raise ProtocolViolation(f"{received} were acknowledged, but only {self.sent} were sent")

    def answer(self) -> bytes:
        """Return all that is said on such a path, behind the welcome: that the other side's close
        was understood, and this side's own."""
        return pack((Frame.CLOSED, self.received)) + pack((Frame.CLOSE, self.sent))
