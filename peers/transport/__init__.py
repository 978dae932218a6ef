"""Byte streams: to the relay, to a plane, to another peer."""

from peers.transport.listening import DirectServer
from peers.transport.relay_url import RelayAddress, RelayTrips
from peers.transport.sockets import Address, dial, open_tcp
from peers.transport.stream import Opened, Stream
from peers.transport.tcp import RawStream
from peers.transport.upgrade import open_upgraded

__all__ = [
    "Address",
    "DirectServer",
    "Opened",
    "RawStream",
    "RelayAddress",
    "RelayTrips",
    "Stream",
    "dial",
    "open_tcp",
    "open_upgraded",
]
