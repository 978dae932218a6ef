"""Whose invitations a relay believes, and what each of them grants.

Pure. What was used how often is in the book; how an invitation is signed is in
`protocol.invitation`.
"""

import math
from collections.abc import Callable, Collection, Iterable

from protocol.identity import public_key_of
from protocol.invitation import BadInvitation, Invitation, opened
from protocol.messages import Mode
from relay.admission.grants import Grant, Outcome, Refusal

__all__ = ["Operators", "grant_of", "invited_only"]


class Operators:
    """The keys whose invitations are believed: those of the relay itself, which `relay` returns,
    and of its operators."""

    def __init__(self, relay: Callable[[], Iterable[bytes]], guids: Iterable[str]) -> None:
        self._relay = relay
        self._keys = tuple(public_key_of(guid) for guid in guids)

    def open(self, presented: bytes, to: bytes, nonce: bytes, guid: str) -> Invitation | Refusal:
        """Check what a peer presents to the relay's key `to`: two signatures at most."""
        try:
            return opened(presented, (*self._relay(), *self._keys), to, nonce, guid)
        except BadInvitation as error:
            return Refusal(error.reason, outcome=Outcome.FORGED)


def grant_of(modes: Collection[str], rate: float, expires: float | None, now: float) -> Grant:
    """Return what an invitation grants. Modes that are not known here grant nothing."""
    known = [Mode(mode) for mode in modes if mode in list(Mode)]
    return Grant(
        None if expires is None else max(1.0, expires - now),
        frozenset(known) if modes else None,
        rate if rate > 0 and math.isfinite(rate) else None,
    )


def invited_only(asks: bool) -> Refusal:
    """Return the refusal of who shows nothing."""
    reason = (
        "this relay admits invited peers: ask its operator for an invitation"
        if asks
        else "this relay admits the peers of its list: ask its operator"
    )
    return Refusal(reason, outcome=Outcome.NOT_LISTED)
