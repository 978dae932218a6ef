"""The lock of a plane that is not TLS (protocol/lock.py), as a path uses one. Bytes in, bytes out;
no sockets here.
"""

import os
import time

from protocol.errors import PathFailed, ProtocolViolation
from protocol.lock import Lock, LockSide, NoiseLock
from protocol.noise import EPHEMERAL_BYTES

__all__ = ["NoiseChannel"]


class NoiseChannel:
    """One end of a path that is locked by Noise.

    Feed what arrived to `receive`, write `to_send()` to the stream after every call.
    """

    lock = Lock.NOISE

    def __init__(self, side: LockSide) -> None:
        self._noise = NoiseLock(side, os.urandom(EPHEMERAL_BYTES))
        self.is_client = side.is_caller
        self.began = 0.0
        """When a caller's first bytes were made, by `time.perf_counter`; 0 before that."""

    @property
    def remote_guid(self) -> str:
        """The key that the other side has proven; empty before that."""
        return self._noise.remote_guid

    @property
    def established(self) -> bool:
        """Whether the other side has proven its key."""
        return self._noise.established

    @property
    def ended(self) -> bool:
        """Whether the other side has said that nothing more follows."""
        return self._noise.ended

    def start(self) -> None:
        """Begin the handshake: a caller has its first bytes `to_send` after this."""
        self.began = time.perf_counter()
        self._noise.start()

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the stream and return the application's bytes among them.

        Raises:
            PathFailed: they are not what the other side has sent, whole and in order.
        """
        try:
            return self._noise.receive(data)
        except ProtocolViolation as violation:
            raise PathFailed(f"the lock of the plane failed: {violation.reason}") from None

    def send(self, data: bytes) -> None:
        """Encrypt the application's bytes."""
        self._noise.send(data)

    def to_send(self) -> bytes:
        """Return the bytes that are to be written to the stream."""
        return self._noise.to_send()

    def end(self) -> None:
        """Say that nothing more follows."""
        self._noise.end()
