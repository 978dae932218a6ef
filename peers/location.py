"""What the relay says of where a peer is, checked: entries whose signature fails are left out."""

from dataclasses import dataclass

from protocol.endpoint import Entry, open_entry
from protocol.errors import RoamRelayError
from protocol.messages import PeerState, ServiceResponse

__all__ = ["Located", "located"]


@dataclass(frozen=True, slots=True)
class Located:
    """Where a service of a peer is, as far as it may be known here."""

    guid: str
    service: str
    state: PeerState | None
    last_seen: float | None
    """Seconds since the relay heard of the peer; None where it did not say."""
    entries: tuple[Entry, ...]
    dropped: tuple[str, ...]
    """Why entries were left out."""


def located(guid: str, service: str, response: ServiceResponse) -> Located:
    """Check the entries of a response: each must be signed by `guid`, and be for the service."""
    entries = []
    dropped = []
    for signed in response.entries:
        try:
            entry = open_entry(guid, signed)
        except RoamRelayError as error:
            dropped.append(error.reason)
            continue
        if entry.service == service:
            entries.append(entry)
        else:
            dropped.append(f"{entry.endpoint} is for {entry.service}, not {service}")
    return Located(
        guid, service, response.state, response.last_seen, tuple(entries), tuple(dropped)
    )
