"""What the body of an offer says: where its maker could be met from both sides at once.

Both sides of a session may be behind NATs or firewalls that let in only what answers. Where each
dials the other at the same time, from the port whose mapping the relay has observed, each opens its
own way for the other (RFC 5128 §3.4, RFC 9293 §3.5).
"""

from typing import Annotated

import msgspec

from protocol.endpoint import Endpoint
from protocol.errors import ProtocolViolation

__all__ = ["MEETING_DELAY", "Reflexive", "begins_after", "meeting_part", "read_meeting"]

MEETING_DELAY = 0.3
"""Seconds from the response to a request until its two sides dial one another, beside the round
trips of a handshake: a path that needs no meeting is there by then."""
_ROUND_TRIPS = 2
"""Of TCP and TLS 1.3; by the relay, as the way between the two is not known."""
_LONGEST_WAY = 1.0
"""Seconds of a round trip to the relay that are believed: what is told is the other side's word."""


class Reflexive(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the relay sees a flow of the offer's maker that leaves from where it will dial."""

    host: Annotated[str, msgspec.Meta(max_length=45)]
    """The address that the relay has told it."""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    """The port."""
    round_trip: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.0
    """Seconds to the relay and back; 0 where it is not known."""

    @property
    def endpoint(self) -> Endpoint | None:
        """Where it can be dialed; None where nothing can be."""
        try:
            return Endpoint.parse(self.host, self.port)
        except ProtocolViolation:
            return None


class _Body(msgspec.Struct, frozen=True, omit_defaults=True):
    meeting: Reflexive | None = None


_decode = msgspec.msgpack.Decoder(_Body).decode


def meeting_part(reflexive: Reflexive) -> dict[str, object]:
    """Return the part of an offer's body that says so."""
    return {"meeting": reflexive}


def read_meeting(body: bytes) -> Reflexive | None:
    """Return what the body of an offer says; None where it says nothing of that, or cannot be
    read."""
    try:
        return _decode(body).meeting
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def begins_after(own: float, other: float, *, asked: bool) -> float:
    """Return the seconds after which a side dials: the one that was `asked` from its answer, and
    the other one from the response, which comes half of both round trips to the relay later."""
    trips = min(own, _LONGEST_WAY) + min(other, _LONGEST_WAY)
    return MEETING_DELAY + _ROUND_TRIPS * trips + (trips / 2 if asked else 0.0)
