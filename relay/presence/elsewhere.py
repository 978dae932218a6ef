"""What other nodes are told of a peer here, and what is left here of one of theirs. PURE."""

from protocol.messages import Disclosure, LocationRecord
from relay.backplane import PeerHere, WentElsewhere, listing
from relay.presence.gone import GonePeer

__all__ = ["as_told", "left_elsewhere"]

_LISTED = Disclosure.LISTED


def as_told(
    guid: str, instance: bytes, record: LocationRecord, host: str, *, shown: bool
) -> PeerHere:
    """Return a peer that is registered here, as others are told. `shown` says that it discloses a
    service to everybody: then it does not matter to whom else."""
    listed = (
        one for service in record.services if service.disclose == _LISTED for one in service.listed
    )
    told = b"" if shown else listing(listed)
    return PeerHere(guid, record.seq, instance, host, bool(record.services), shown, told)


def left_elsewhere(gone: WentElsewhere, now: float) -> GonePeer:
    """Return what is left of a peer that has gone from another node."""
    heard = now - gone.ago
    return GonePeer(gone.guid, gone.instance, gone.seq, now, heard, gone.closed, gone.shown)
