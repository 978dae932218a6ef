"""How a peer stands with its relay, as its program sees it: one word, and why.

It is told what happens to the registration, and says what is different for the program: no loop,
no clock.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from protocol.errors import Code, RoamRelayError

__all__ = ["Link", "LinkState", "Status"]


class LinkState(StrEnum):
    """What a peer is to its relay."""

    NONE = "none"
    """No relay is configured."""
    CONNECTING = "connecting"
    """It was not registered yet."""
    REGISTERED = "registered"
    """Others find this peer at its relay."""
    LOST = "lost"
    """It is registered no more, and tries to come back."""
    BACK = "back"
    """It is registered again."""
    RESTARTING = "restarting"
    """The relay has said that it goes down; the peer comes back when it is told to."""
    SUPERSEDED = "superseded"
    """Another program with the same key has registered; this one does not come back."""
    ENDED = "ended"
    """The registration has ended for good, for another cause."""
    CLOSED = "closed"
    """The peer is closed."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a peer stands with its relay."""

    state: LinkState
    """What this peer is to its relay now."""
    cause: RoamRelayError | None = None
    """Why it is not registered, as far as that is known."""
    lasting: bool = False
    """Whether waiting will not cure that, as a certificate that does not verify: somebody has to
    mend it. The peer goes on trying all the same."""
    relay_guid: str | None = None
    """The relay that this peer expects, where it is not the configured one any more: the relay has
    changed its key, and the old one has signed the new one. Keep it as `relay_guid`, or name a
    `relay_pin_file`."""

    @property
    def is_registered(self) -> bool:
        """Whether others find this peer at its relay now."""
        return self.state in (LinkState.REGISTERED, LinkState.BACK)


_FINAL = (LinkState.SUPERSEDED, LinkState.ENDED, LinkState.CLOSED)


class Link:
    """Each call returns whether the status is a different one now."""

    def __init__(self, *, has_relay: bool) -> None:
        self.status = Status(LinkState.CONNECTING if has_relay else LinkState.NONE)
        self._was_registered = False

    def registered(self) -> bool:
        """It is registered, over whichever connection."""
        if self.status.is_registered:
            return False
        again, self._was_registered = self._was_registered, True
        return self._set(Status(LinkState.BACK if again else LinkState.REGISTERED))

    def lost(self, error: RoamRelayError, *, lasting: bool) -> bool:
        """It is not registered, or once more not."""
        kept = (LinkState.CONNECTING, LinkState.RESTARTING)
        state = self.status.state if self.status.state in kept else LinkState.LOST
        return self._set(Status(state, error, lasting))

    def restarting(self) -> bool:
        """The relay goes down."""
        return self._set(Status(LinkState.RESTARTING))

    def ended(self, error: RoamRelayError) -> bool:
        """It will not come back."""
        superseded = error.code is Code.SUPERSEDED
        return self._set(Status(LinkState.SUPERSEDED if superseded else LinkState.ENDED, error))

    def closed(self) -> bool:
        """The peer was closed."""
        return self._set(Status(LinkState.CLOSED, self.status.cause))

    def succeeded(self, guid: str) -> bool:
        """The relay has another key."""
        return self._set(replace(self.status, relay_guid=guid))

    def _set(self, status: Status) -> bool:
        before = self.status
        status = replace(status, relay_guid=status.relay_guid or before.relay_guid)
        if before.state in _FINAL and status.state is not LinkState.CLOSED:
            return False
        self.status = status
        return _facts(status) != _facts(before)


def _facts(status: Status) -> tuple[object, ...]:
    cause = status.cause.reason if status.cause else None
    return status.state, cause, status.lasting, status.relay_guid
