"""Byte streams: to the relay, to a plane, to another peer."""

from peers.transport.listening import DirectServer
from peers.transport.proxies import proxy_for
from peers.transport.relay_url import RelayAddress, RelayTrips
from peers.transport.sockets import (
    Address,
    dial,
    dial_any,
    dial_from,
    dial_relay,
    open_tcp,
    resolve,
)
from peers.transport.stream import Opened, Stream
from peers.transport.tcp import FORGOTTEN, SILENT, RawStream, probe_idle
from peers.transport.trust import Trust
from peers.transport.upgrade import open_upgraded

__all__ = [
    "FORGOTTEN",
    "SILENT",
    "Address",
    "DirectServer",
    "Opened",
    "RawStream",
    "RelayAddress",
    "RelayTrips",
    "Stream",
    "Trust",
    "dial",
    "dial_any",
    "dial_from",
    "dial_relay",
    "open_tcp",
    "open_upgraded",
    "probe_idle",
    "proxy_for",
    "resolve",
]
