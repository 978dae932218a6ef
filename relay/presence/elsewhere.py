"""What other nodes are told of a peer here, and what is left here of one of theirs. PURE."""

from collections.abc import Mapping

import msgspec

from protocol.endpoint import SignedEntry
from protocol.messages import Disclosure, LocationRecord
from relay.backplane import MAX_NAMED, PeerHere, WentElsewhere, listing
from relay.presence.gone import GonePeer

__all__ = ["as_told", "left_elsewhere", "named", "read_named"]

_LISTED = Disclosure.LISTED

_Shown = dict[str, tuple[SignedEntry, ...]]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Shown).decode


def named(shown: Mapping[str, tuple[SignedEntry, ...]]) -> bytes:
    """Return what the zone shows of a peer, as other nodes are told; empty where that is nothing.
    `shown` are the entries that anybody may know, by service; of more than there is room for, those
    of the first services."""
    told = _encode(shown) if shown else b""
    while len(told) > MAX_NAMED:
        shown = dict(list(shown.items())[:-1])
        told = _encode(shown) if shown else b""
    return told


def read_named(told: bytes) -> Mapping[str, tuple[SignedEntry, ...]]:
    """Return what a node has told so; nothing, where another version says it otherwise."""
    try:
        return _decode(told) if told else {}
    except msgspec.MsgspecError:
        return {}


def as_told(
    guid: str, instance: bytes, record: LocationRecord, host: str, *, shown: bool, named: bytes
) -> PeerHere:
    """Return a peer that is registered here, as others are told. `shown` says that it discloses a
    service to everybody: then it does not matter to whom else. `named` is what the zone shows."""
    listed = (
        one for service in record.services if service.disclose == _LISTED for one in service.listed
    )
    told = b"" if shown else listing(listed)
    return PeerHere(guid, record.seq, instance, host, bool(record.services), shown, told, named)


def left_elsewhere(gone: WentElsewhere, now: float) -> GonePeer:
    """Return what is left of a peer that has gone from another node."""
    heard = now - gone.ago
    return GonePeer(gone.guid, gone.instance, gone.seq, now, heard, gone.closed, gone.shown)
