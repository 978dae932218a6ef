"""What was seen of a network: facts, without a word of what they mean."""

from collections.abc import Sequence
from dataclasses import dataclass

from protocol.endpoint import Endpoint
from protocol.errors import RoamRelayError
from protocol.meeting import Mapping

__all__ = [
    "AddressSeen",
    "Diagnosis",
    "HealthSeen",
    "NameSeen",
    "RegistrationSeen",
    "WaySeen",
    "ZoneSeen",
]


@dataclass(frozen=True, slots=True)
class AddressSeen:
    """An address of this host that leads somewhere."""

    host: str
    interface: str


@dataclass(frozen=True, slots=True)
class NameSeen:
    """What the name of a relay leads to."""

    relay: str
    hosts: tuple[str, ...] = ()
    failure: str = ""
    is_name: bool = True
    """Whether a name was asked for, and no address was given."""


@dataclass(frozen=True, slots=True)
class WaySeen:
    """One try to reach a relay: by a carrier, at an address, from one of this host's."""

    relay: str
    carrier: str
    host: str
    """The relay's address; empty where a proxy was asked for the name."""
    source: str
    """This host's; empty where the routes had to choose one and have none."""
    interface: str = ""
    seconds: float | None = None
    """For all of it; None where it failed."""
    failure: RoamRelayError | None = None
    proxy: str = ""
    """The proxy that the environment names; empty where there is none."""

    @property
    def family(self) -> str:
        """The version of IP."""
        return _family(self.host or self.source)


@dataclass(frozen=True, slots=True)
class HealthSeen:
    """What a relay answers to plain HTTP."""

    relay: str
    status: int = 0
    """Of HTTP; 0 where there was no answer."""
    clock_ahead: float | None = None
    """Seconds by which this host's clock is ahead of the relay's; None where that says nothing."""
    certificate_days: float | None = None
    """For which its certificate is good; None without one."""
    is_relay: bool = True
    """Whether it looks like one."""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class RegistrationSeen:
    """What came of registering from one address of this host."""

    relay: str
    host: str
    """The relay's address."""
    failure: RoamRelayError | None = None
    relay_guid: str = ""
    local: Endpoint | None = None
    observed: Endpoint | None = None
    """Where the relay sees it; None where the relay does not know."""
    mapping: Mapping = Mapping.UNKNOWN
    may_observe: bool = False
    """Whether the relay observes at a second port."""
    reachable: bool | None = None
    """Whether the relay has met this host's key where it listens; None where it cannot say."""
    at_mapping: bool = False
    """Whether it has met it at the port that its NAT has given to the connection, and not there."""
    port: int = 0
    """Where this host listened."""
    why_unknown: str = ""
    proxied: bool = False
    """Whether it came by a proxy."""

    @property
    def family(self) -> str:
        """The version of IP."""
        return _family(self.host)


@dataclass(frozen=True, slots=True)
class ZoneSeen:
    """What the DNS says of the zone that is configured."""

    zone: str
    seconds: float | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that was seen."""

    addresses: Sequence[AddressSeen] = ()
    names: Sequence[NameSeen] = ()
    ways: Sequence[WaySeen] = ()
    health: Sequence[HealthSeen] = ()
    registrations: Sequence[RegistrationSeen] = ()
    zone: ZoneSeen | None = None


def _family(host: str) -> str:
    return "" if not host else "IPv6" if ":" in host else "IPv4"
