"""What the relay or the DNS says of where a peer is, checked: entries whose signature fails are
left out."""

from collections.abc import Iterable
from dataclasses import dataclass

from protocol.endpoint import Endpoint, Entry, Phase, Provenance, SignedEntry, open_entry
from protocol.errors import RoamRelayError
from protocol.messages import PeerState, ServiceResponse

__all__ = ["Located", "found_by_name", "located"]


@dataclass(frozen=True, slots=True)
class Found:
    """Where a service is, as the DNS has it."""

    signed: tuple[SignedEntry, ...]
    """Unchecked. Where there are any, nothing else counts."""
    hints: tuple[Endpoint, ...]
    """What other tools have registered: the endpoints of SRV records without signed entries."""
    lifetime: float
    """Seconds for which this may be used."""
    stale: bool = False
    """No server has answered: this is older than its lifetime."""

    @property
    def known(self) -> tuple[SignedEntry | Endpoint, ...]:
        """What can be dialed, the first choice first."""
        return self.signed or self.hints


@dataclass(frozen=True, slots=True)
class Located:
    """Where a service of a peer is, as far as it may be known here."""

    guid: str
    """The peer's."""
    service: str
    """The name of the service."""
    state: PeerState | None
    """How the peer stands, as the relay says; None where the DNS has answered."""
    last_seen: float | None
    """Seconds since the relay heard of the peer; None where it did not say."""
    entries: tuple[Entry, ...]
    """Where it can be dialed, the first choice first."""
    dropped: tuple[str, ...]
    """Why entries were left out."""
    source: str = "relay"
    """Who has said so: `relay`, `dns`, `dns, too old`, or `dns, not signed`."""


def located(guid: str, service: str, response: ServiceResponse) -> Located:
    """Check the entries of a response: each must be signed by `guid`, and be for the service."""
    entries, dropped = _opened(guid, service, response.entries)
    return Located(guid, service, response.state, response.last_seen, entries, dropped)


def found_by_name(guid: str, service: str, found: Found) -> Located:
    """Check what the DNS says. Endpoints that nobody has signed are told as such."""
    if found.signed:
        entries, dropped = _opened(guid, service, found.signed)
        source = "dns, too old" if found.stale else "dns"
        return Located(guid, service, None, None, entries, dropped, source)
    hints = tuple(
        Entry(0, service, one.host, one.port, Phase.NEW, 0, Provenance.CONFIGURED)
        for one in found.hints
    )
    return Located(guid, service, None, None, hints, (), "dns, not signed")


def _opened(
    guid: str, service: str, signed: Iterable[SignedEntry]
) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    entries = []
    dropped = []
    for one in signed:
        try:
            entry = open_entry(guid, one)
        except RoamRelayError as error:
            dropped.append(error.reason)
            continue
        if entry.service == service:
            entries.append(entry)
        else:
            dropped.append(f"{entry.endpoint} is for {entry.service}, not {service}")
    return tuple(entries), tuple(dropped)
