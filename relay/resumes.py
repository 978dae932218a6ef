"""Tickets for the next plane of a session that has one: who has moved comes back with it at once,
without a control connection. No I/O; the clock is passed in.
"""

import os
from collections import OrderedDict
from dataclasses import dataclass

from protocol.messages import Mode

__all__ = ["Resume", "Resumes"]

_LIFETIME = 600.0
"""Seconds for which a ticket is good after its plane has ended."""
_MAX_RELEASED = 65_536
"""Tickets of planes that have ended; beyond it the oldest goes."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Whose ticket it is, and for what."""

    guid: str
    other: str
    session: bytes
    service: str
    mode: Mode


class Resumes:
    """The tickets of one relay. Each is good for one use, by one peer."""

    def __init__(self) -> None:
        self._held: dict[str, Resume] = {}
        self._released: OrderedDict[str, float] = OrderedDict()

    def issue(self, resume: Resume) -> str:
        """Return a new ticket; it is good until `_LIFETIME` after its `release`."""
        ticket = os.urandom(16).hex()
        self._held[ticket] = resume
        return ticket

    def find(self, ticket: str) -> Resume | None:
        """Return what a ticket is for; None where it is not good."""
        return self._held.get(ticket)

    def spend(self, ticket: str) -> None:
        """Use a ticket up."""
        self._held.pop(ticket, None)
        self._released.pop(ticket, None)

    def release(self, ticket: str, now: float) -> None:
        """The ticket's plane has ended: it is good for a while longer."""
        if ticket in self._held:
            self._released[ticket] = now
            if len(self._released) > _MAX_RELEASED:
                self.spend(next(iter(self._released)))

    def sweep(self, now: float) -> None:
        """Forget what is too old: call it every now and then."""
        while self._released:
            ticket, since = next(iter(self._released.items()))
            if now - since < _LIFETIME:
                return
            self.spend(ticket)
