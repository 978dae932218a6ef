"""A second path of a session, which stands ready and is quiet.

What it may carry, and when it is dead, is decided by `protocol.session.Standby`; this gives it a
path and a timer, and tells the session what comes of it.
"""

import asyncio
from typing import Protocol

from peers.path import PathEnd
from protocol.errors import ProtocolViolation
from protocol.session import QUIET_INTERVAL, Standby, SwitchAsked

__all__ = ["StandbyPath", "StandbyUser"]

_LATER = 10.0
"""Seconds by which the side that was dialed pings later: the other's ping comes first."""


class StandbyUser(Protocol):
    """What a session is for its second path."""

    def standby_asked(self, standby: "StandbyPath", asked: SwitchAsked) -> None:
        """The other side goes on over it."""

    def standby_lost(self, standby: "StandbyPath", reason: str) -> None:
        """It is gone. Not told after `release` and `drop`."""


class StandbyPath:
    """One such path, as the session has it until it is used."""

    def __init__(
        self, user: StandbyUser, path: PathEnd, *, by_caller: bool, dialed_here: bool
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._user: StandbyUser | None = user
        self.path = path
        self.by_caller = by_caller
        """Whether the session's caller has dialed it."""
        interval = QUIET_INTERVAL if dialed_here else QUIET_INTERVAL + _LATER
        self.machine = Standby(self._loop.time(), interval)
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the session may go on over it."""
        return self.machine.is_ready

    def begin(self) -> None:
        """Take what the path brings; what has arrived meanwhile comes at once."""
        self._set_timer()
        self.path.carry(self)

    def probe(self) -> None:
        """Ping it at once: the network has changed, and nobody knows what still works."""
        self.machine.probe(self._loop.time())
        self._after()

    def release(self) -> PathEnd:
        """Give the path up to who goes on over it."""
        self._leave()
        return self.path

    def drop(self) -> None:
        """Close the path: nobody needs it."""
        if self._user is not None:
            self._leave()
            self.machine.lost()
            self.path.finish()

    # -- the path's side ------------------------------------------------------------------------

    def path_data(self, path: PathEnd, data: bytes) -> None:
        user = self._user
        try:
            asked = self.machine.receive(data, self._loop.time())
        except ProtocolViolation as violation:
            self._lose(f"it carried what a quiet path does not: {violation}")
            return
        if asked is not None and user is not None:
            user.standby_asked(self, asked)
        else:
            self._after()

    def path_heard(self, path: PathEnd) -> None:
        """A record that is not whole says nothing of a path on which every record is small."""

    def path_writable(self, path: PathEnd) -> None:
        self._after()

    def path_lost(self, path: PathEnd, reason: str) -> None:
        self.machine.lost()
        self._tell_lost(reason)

    # -- inside ---------------------------------------------------------------------------------

    def _lose(self, reason: str) -> None:
        self.path.abort()
        self._tell_lost(reason)

    def _tell_lost(self, reason: str) -> None:
        user = self._user
        self._leave()
        if user is not None:
            user.standby_lost(self, reason)

    def _leave(self) -> None:
        self._user = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _after(self) -> None:
        if self._user is None:
            return
        if not self.path.paused and (data := self.machine.data_to_send()):
            self.path.send(data)
        if self._timer is None or (
            (when := self.machine.next_timeout()) is not None and when < self._timer.when()
        ):
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        when = self.machine.next_timeout()
        self._timer = None if when is None else self._loop.call_at(when, self._time)

    def _time(self) -> None:
        # A deadline that moved meanwhile is met here, and not at each byte.
        self._timer = None
        self.machine.handle_timeout(self._loop.time())
        if not self.machine.is_ready:
            self._lose("no answer to a ping")
            return
        self._after()
