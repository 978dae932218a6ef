"""What the directory is told of a peer here, and what it tells of the other nodes. PURE."""

from dataclasses import dataclass
from typing import TypeAlias

from relay.backplane.messages import Claim, NodeMessage

__all__ = [
    "CameElsewhere",
    "Event",
    "NodeLost",
    "NodeNow",
    "Outranked",
    "PeerHere",
    "Say",
    "TellAll",
    "WentElsewhere",
]


@dataclass(frozen=True, slots=True)
class PeerHere:
    """A peer that is registered here, as other nodes are told."""

    guid: str
    seq: int
    instance: bytes
    host: str = ""
    """Where it is observed; empty where that is not known."""
    offers: bool = False
    """Whether it offers any service."""
    shown: bool = False
    """Whether it discloses one to everybody."""
    listed: bytes = b""
    """Who may watch it besides (`listing`)."""
    named: bytes = b""
    """What the zone shows of it."""


@dataclass(frozen=True, slots=True)
class Outranked:
    """A peer that is registered here is at another node by right: its connections here end."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class CameElsewhere:
    """A peer is at another node now, or its record there has changed."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class WentElsewhere:
    """A peer was at another node, and is nowhere now."""

    guid: str
    seq: int
    instance: bytes
    ago: float
    """Seconds since anything was heard of it."""
    closed: bool
    shown: bool
    host: str


@dataclass(frozen=True, slots=True)
class Say:
    """Something is to be said to one node."""

    node: str
    message: NodeMessage


@dataclass(frozen=True, slots=True)
class TellAll:
    """A node wants to know all that is claimed here (`Directory.all_claims`)."""

    node: str


@dataclass(frozen=True, slots=True)
class NodeLost:
    """A node is not there any more: what it was asked gets no answer."""

    node: str


Event: TypeAlias = Outranked | CameElsewhere | WentElsewhere | Say | TellAll | NodeLost


@dataclass(frozen=True, slots=True)
class NodeNow:
    """A node as it is known here, for who looks after the relay."""

    name: str
    peers: int
    """That are registered there."""
    heard: float | None
    """Seconds since it was heard last; None: it is this one."""
    is_in: bool
    """Whether it has told all that it claims; of this one, whether it can ask the others."""
