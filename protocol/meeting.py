"""What the body of an offer says: where its maker could be met from both sides at once.

Both sides of a session may be behind NATs or firewalls that let in only what answers. Where each
dials the other at the same time, from the port whose mapping the relay has observed, each opens its
own way for the other (RFC 5128 §3.4, RFC 9293 §3.5).
"""

from enum import StrEnum
from typing import Annotated

import msgspec

from protocol.endpoint import Endpoint
from protocol.errors import ProtocolViolation

__all__ = [
    "MEETING_DELAY",
    "Mapping",
    "Reflexive",
    "begins_after",
    "hopeless",
    "meeting_part",
    "read_meeting",
]

MEETING_DELAY = 0.3
"""Seconds from the response to a request until its two sides dial one another, beside the round
trips of a handshake: a path that needs no meeting is there by then."""
_ROUND_TRIPS = 2
"""Of TCP and TLS 1.3; by the relay, as the way between the two is not known."""
_LONGEST_WAY = 1.0
"""Seconds of a round trip to the relay that are believed: what is told is the other side's word."""


class Mapping(StrEnum):
    """Of a NAT: what the address and port depend on at which others see one of its hosts (RFC 4787
    §4.1)."""

    UNKNOWN = "unknown"
    NONE = "none"
    """There is no NAT: others see the host's own address and port."""
    ENDPOINT_INDEPENDENT = "endpoint-independent"
    """They are the same for everybody."""
    ADDRESS_DEPENDENT = "address-dependent"
    """Others for each address that the host talks to."""
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"
    """Others for each address and port."""

    @property
    def can_meet(self) -> bool:
        """Whether a side can be met where its relay sees it, as far as that is known."""
        return self not in (Mapping.ADDRESS_DEPENDENT, Mapping.ADDRESS_AND_PORT_DEPENDENT)


_MAPPINGS = {one.value: one for one in Mapping}


class Reflexive(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the relay sees a flow of the offer's maker that leaves from where it will dial."""

    host: Annotated[str, msgspec.Meta(max_length=45)]
    """The address that the relay has told it."""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    """The port."""
    round_trip: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.0
    """Seconds to the relay and back; 0 where it is not known."""
    mapping: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """A word of `Mapping`; empty of who does not say. Others count as not known."""

    @property
    def kind(self) -> Mapping:
        """What its NAT does."""
        return _MAPPINGS.get(self.mapping, Mapping.UNKNOWN)

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


def hopeless(own: Mapping, other: Mapping) -> str:
    """Return why two sides cannot meet, which is where either of them is seen elsewhere than by the
    relay; empty where they may.

    One that is so can still reach a side which takes whoever comes: but that one is dialed without
    a meeting.
    """
    for whose, mapping in (("this", own), ("the other", other)):
        if not mapping.can_meet:
            return f"{whose} side's NAT gives each destination another port ({mapping.value})"
    return ""
