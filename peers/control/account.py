"""Who registers, and on which line to the relay: values that travel together."""

from dataclasses import dataclass, field
from typing import NamedTuple

from peers.control.pin import Pin
from peers.transport import RelayAddress
from protocol.identity import Identity
from protocol.invitation import Token

__all__ = ["Account", "KnownRelay", "Line"]

AGENT = "roam-relay/0.1"


@dataclass(frozen=True, slots=True)
class Account:
    """Who registers."""

    identity: Identity
    instance: bytes
    """Tells this process from another one with the same key."""
    agent: str = AGENT
    """The software, as the relay's log may show it."""
    invitation: Token | None = None
    """For a relay that asks for one."""


@dataclass(frozen=True, slots=True)
class Line:
    """One connection of a peer: where it leads, and where it comes from."""

    address: RelayAddress
    source: str | None = None
    """The local address that is asked for; None leaves it to the routes."""
    flow: int = 0
    """Its number among the peer's connections."""
    pin: Pin = field(default_factory=Pin)
    """The relay where only that relay will do."""
    patience: float | None = None
    """Seconds for the connection to be made, where another relay can be tried; None: as long as
    any."""

    @property
    def expected_relay(self) -> str | None:
        """The relay's GUID where only that relay will do."""
        return self.pin.guid


class KnownRelay(NamedTuple):
    """A relay that has proven who it is."""

    address: RelayAddress
    guid: str
    features: frozenset[str] = frozenset()
    """What it and this peer have both named (protocol/features.py)."""
