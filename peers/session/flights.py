"""One sealed flight that leaves from here, as the path takes it that sends it.

What is in it, and what is taken of one, is decided in end.py; keys and sealing are `protocol`'s.
"""

from collections.abc import Callable
from dataclasses import dataclass

from protocol.codec import MessageDecoder
from protocol.errors import ProtocolViolation
from protocol.first_bytes import FLIGHT_HEAD, MAX_SEALED
from protocol.first_flight import Sealed
from protocol.messages import PathHello
from protocol.tables import ON_PATH

__all__ = ["AROUND_FRAMES", "FLIGHT_BYTES", "MAX_FLIGHT", "SessionFlight", "head_of"]

FLIGHT_BYTES = 8192
"""Bytes of messages in a flight, about: with the ClientHello behind it, it fits into what TCP sends
at once, so that TLS is no later."""
AROUND_FRAMES = 192
"""Bytes of the head, the tag, and what frames have beside their messages, at most."""
MAX_FLIGHT = FLIGHT_HEAD + MAX_SEALED


@dataclass(frozen=True, slots=True)
class SessionFlight:
    """It, until its answer has come."""

    sealed: Sealed
    on_answer: Callable[[bytes], None]
    on_failed: Callable[[], None]

    @property
    def data(self) -> bytes:
        """All that leaves."""
        return self.sealed.data

    def answered(self, data: bytes) -> None:
        """Take what the other side says, if it is sealed for this very flight."""
        plain = self.sealed.open_answer(data)
        if plain is not None:
            self.on_answer(plain)

    def failed(self) -> None:
        """The other side has not proven itself behind it."""
        self.on_failed()


def head_of(plain: bytes) -> tuple[PathHello, bytes]:
    """Return the hello of a flight, and the frames behind it.

    Raises:
        ProtocolViolation: it does not begin with a hello.
    """
    decoder = MessageDecoder(ON_PATH)
    for message in decoder.receive(plain):
        if isinstance(message, PathHello):
            return message, decoder.rest()
        break
    raise ProtocolViolation("a flight that does not begin with a hello")
