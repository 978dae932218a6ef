"""A path without a network: what a session needs of one, alone or between two sessions."""

import asyncio
import os
from typing import Any, cast

from peers.config import PathKind
from peers.path import PathEnd
from protocol.lock import Lock
from protocol.session import NO_EARLY, Keepalive

__all__ = ["FakePath", "linked"]


class FakePath:
    """One end of a path. It tells its user what a path tells, and keeps what was done with it."""

    def __init__(
        self,
        kind: PathKind = PathKind.DIRECT,
        *,
        remote: str = "192.0.2.1:9",
        local_host: str = "10.0.0.1",
        lost_at_once: bool = False,
    ) -> None:
        self.kind = kind
        self.lock = Lock.TLS
        self.remote = remote
        self.local_host = local_host
        self.local = f"{local_host}:40000"
        self.remote_guid = ""
        self.keepalive = Keepalive() if kind is PathKind.DIRECT else None
        self.round_trip: float | None = 0.05
        self.usual_round_trip: float | None = 0.04
        self.paused = False
        self.sent: list[bytes] = []
        self.early = NO_EARLY
        self.end = ""
        """How it was ended here: `finished`, `aborted`, or not."""
        self._other: FakePath | None = None
        self._user: Any = None
        self._early = b""
        self._lost_at_once = lost_at_once
        self._exported = os.urandom(32)

    def __repr__(self) -> str:
        return f"<FakePath {self.kind.value} {self.remote} {self.end}>"

    @property
    def path(self) -> PathEnd:
        """It, as the code under test knows it."""
        return cast(PathEnd, self)

    @property
    def is_gone(self) -> bool:
        return bool(self.end)

    # -- what a session does --------------------------------------------------------------------

    def carry(self, user: Any) -> None:
        self._user = user
        early, self._early = self._early, b""
        if early:
            user.path_data(self, early)
        if self._lost_at_once:
            self.lose("lost at once")

    def export(self, context: bytes) -> bytes:
        """Both ends of one path have the same; those of two never."""
        return self._exported + context[:16].ljust(16, b"\0")

    def hand_to(self, user: Any) -> None:
        if self._user is not None:
            self._user = user

    def send(self, data: bytes) -> None:
        self.sent.append(data)
        if self._other is not None:
            asyncio.get_running_loop().call_soon(self._other.arrives, data)

    def finish(self) -> None:
        self._ended("finished")

    def abort(self) -> None:
        self._ended("aborted")

    # -- what a test does -----------------------------------------------------------------------

    def arrives(self, data: bytes) -> None:
        """These bytes come from the other side."""
        if self._user is not None:
            self._user.path_data(self, data)
        else:
            self._early += data

    def takes_again(self) -> None:
        """It is not paused any more."""
        self.paused = False
        if self._user is not None:
            self._user.path_writable(self)

    def lose(self, reason: str) -> None:
        """It is gone, by itself."""
        user, self._user = self._user, None
        if user is not None:
            user.path_lost(self, reason)

    def _ended(self, how: str) -> None:
        self.end = self.end or how
        self._user = None
        other, self._other = self._other, None
        if other is not None:
            other._other = None
            asyncio.get_running_loop().call_soon(other.lose, "the other side closed the path")


def linked() -> tuple[FakePath, FakePath]:
    """Return two ends of one path."""
    here, there = FakePath(), FakePath()
    here._other, there._other = there, here
    there._exported = here._exported
    return here, there
