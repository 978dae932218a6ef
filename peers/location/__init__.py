"""Where a peer is: what this one says of itself, and what others said, checked."""

from peers.location.found import Found, Located, found_by_name, located
from peers.location.told import MAX_RECORD_BYTES, Hosts, Offered, OwnLocation, fits

__all__ = [
    "MAX_RECORD_BYTES",
    "Found",
    "Hosts",
    "Located",
    "Offered",
    "OwnLocation",
    "fits",
    "found_by_name",
    "located",
]
