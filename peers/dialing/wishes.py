"""What the door is asked: a dial that somebody wants, a leg at a relay, and why."""

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from peers.config import CarrierKind, Dial
from peers.dialing.scopes import Known
from peers.transport import RelayAddress
from protocol.endpoint import Endpoint

__all__ = ["Ask", "DialCounts", "Leg", "Node", "Reason", "Witness"]


class Reason(StrEnum):
    """Why somebody dials."""

    FIRST_PATH = "first path"
    """Of a session that this peer opens."""
    NEXT_PATH = "next path"
    BETTER_PATH = "better path"
    STANDBY = "standby"
    """A second path, beside one that lives."""
    PROBE = "probe"
    SURVEY = "survey"
    DIAL_BACK = "dial back"
    """To a caller that has not come by itself."""
    MEETING = "meeting"
    """Both sides of a session dial one another at once, as the relay has brokered it."""
    CONTROL = "control connection"
    EXAMINATION = "examination"
    """Of the network, by a doctor."""
    LEG = "plane"
    NAME_SERVER = "name server"
    """One that a zone names as its own."""


class Witness(Protocol):
    """Who can be asked whether a peer's key was met at the endpoint of one dial."""

    async def has_met(self) -> bool:
        """Ask. False where it was not, or nobody says; it lasts some seconds at most."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A dial that somebody wants."""

    remote: str
    """The GUID of the peer that should be there."""
    endpoint: Endpoint
    known: Known = field(default_factory=Known)
    reason: Reason = Reason.FIRST_PATH
    caution: Dial | None = None
    """What the session's policy says; None: what is configured."""
    witness: Witness | None = None
    """Who is asked before what only the relay's having met the key there would allow."""


@dataclass(frozen=True, slots=True)
class DialCounts:
    """What one peer has dialed since it was entered."""

    dialed: dict[str, int] = field(default_factory=dict)
    """By the reason."""
    refused: dict[str, int] = field(default_factory=dict)
    """By whose word it would have been, of what was not dialed."""
    asked: dict[str, int] = field(default_factory=dict)
    """What the relay was asked before, by what it has said: `met`, or `not met`."""


@dataclass(frozen=True, slots=True)
class Leg:
    """What is asked of a relay: the path of the URL, why, and what goes with the request."""

    path: str
    reason: Reason
    carrier: CarrierKind | None
    """None: as `open_upgraded` has it."""
    source: str | None = None
    """The local address to use; None leaves it to the routes."""
    early: bytes = b""
    """The first bytes for the other leg of a plane."""
    avoid: Collection[str] = ()
    """Addresses of the relay's host that are not dialed."""


@dataclass(frozen=True, slots=True)
class Node:
    """Another node of a relay that has proven itself, as that relay names it."""

    relay: RelayAddress
    guid: str
    """Their one key."""
    url: str
