"""This host's own addresses, as they change."""

from peers.host.interfaces import Network
from peers.host.source import AddressSource, system_addresses

__all__ = [
    "AddressSource",
    "Network",
    "system_addresses",
]
