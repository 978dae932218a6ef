"""Two ends of a byte stream without a socket: what is written at one arrives at the other in one of
the next turns of the loop."""

import asyncio
from collections.abc import Callable

from peers.transport.stream import StreamOwner

__all__ = ["MemoryStream", "streams"]


class MemoryStream:
    """One end."""

    def __init__(self, local: str, remote: str) -> None:
        self.local = local
        self.remote = remote
        self.paused = False
        self.round_trip: float | None = None
        self.other: MemoryStream | None = None
        self.end = ""
        """How it was ended here: `closed`, `aborted`, or not."""
        self.written: list[bytes] = []
        self.changes: Callable[[bytes], bytes] = lambda data: data
        """What is done to what is on its way from here."""
        self.is_settled = False
        self._owner: StreamOwner | None = None
        self._early: list[bytes] = []
        self._lost = ""

    @property
    def gone(self) -> bool:
        """Whether nothing more comes or leaves."""
        return bool(self._lost)

    def set_owner(self, owner: StreamOwner) -> None:
        self._owner = owner
        early, self._early = self._early, []
        for data in early:
            owner.stream_data(data)
        if self._lost:
            owner.stream_lost(self._lost)

    def settled(self) -> None:
        self.is_settled = True

    def write(self, data: bytes) -> None:
        if data and not self.end:
            self.written.append(data)
            if self.other is not None:
                asyncio.get_running_loop().call_soon(self.other.arrives, self.changes(data))

    def close(self) -> None:
        self._ended("closed", "the other side has closed")

    def abort(self) -> None:
        self._ended("aborted", "reset by the other side")

    def arrives(self, data: bytes) -> None:
        """These bytes have come from the other end."""
        if self._lost or not data:
            return
        if self._owner is None:
            self._early.append(data)
        else:
            self._owner.stream_data(data)

    def lose(self, reason: str) -> None:
        """Nothing more comes or leaves."""
        if not self._lost:
            self._lost = reason
            if self._owner is not None:
                self._owner.stream_lost(reason)

    def _ended(self, how: str, reason: str) -> None:
        if self.end:
            return
        self.end = how
        loop = asyncio.get_running_loop()
        loop.call_soon(self.lose, "closed here")
        if self.other is not None:
            loop.call_soon(self.other.lose, reason)


def streams() -> tuple[MemoryStream, MemoryStream]:
    """Return both ends of a stream."""
    here = MemoryStream("192.0.2.1:1", "192.0.2.2:2")
    there = MemoryStream("192.0.2.2:2", "192.0.2.1:1")
    here.other, there.other = there, here
    return here, there
