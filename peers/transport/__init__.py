"""Byte streams: to the relay, to a plane, to another peer."""

from peers.transport.listening import DirectServer
from peers.transport.relay_url import RelayAddress
from peers.transport.stream import Stream
from peers.transport.tcp import RawStream
from peers.transport.upgrade import open_upgraded

__all__ = [
    "DirectServer",
    "RawStream",
    "RelayAddress",
    "Stream",
    "open_upgraded",
]
