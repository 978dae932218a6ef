"""A path as a program sees it: what it is, between which addresses, and how far the other end is.

What is done with one is in end.py, for the rooms that do it.
"""

from peers.config import PathKind
from protocol.hosts import host_in
from protocol.lock import Lock

__all__ = ["Path"]


class Path:
    """One path of a session."""

    def __init__(self, kind: PathKind, local: str, remote: str, lock: Lock = Lock.TLS) -> None:
        self._kind = kind
        self._lock = lock
        self._local = local
        self._remote = remote
        self._remote_guid = ""
        self._round_trip: float | None = None

    def __repr__(self) -> str:
        return f"<Path {self.kind.value} {self.local} to {self.remote}>"

    @property
    def kind(self) -> PathKind:
        """Direct, or by the relay."""
        return self._kind

    @property
    def lock(self) -> Lock:
        """What keeps the relay, and whoever else is on the way, from reading it: of a direct path
        TLS, of one by the relay what both sides take."""
        return self._lock

    @property
    def local(self) -> str:
        """This end's address and port."""
        return self._local

    @property
    def remote(self) -> str:
        """The other end's address and port; of a relayed path, the relay's."""
        return self._remote

    @property
    def local_host(self) -> str:
        """This end's address without the port."""
        return host_in(self._local)

    @property
    def remote_guid(self) -> str:
        """The identity that the other end has proven."""
        return self._remote_guid

    @property
    def round_trip(self) -> float | None:
        """Seconds of the handshake's round trip; None at the end that answered."""
        return self._round_trip
