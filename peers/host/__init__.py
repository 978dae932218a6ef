"""This host's own addresses, as they change."""

from peers.host.address import Addresses, LocalAddress
from peers.host.interfaces import Interfaces
from peers.host.routing import routed_source
from peers.host.source import AddressSource, system_addresses

__all__ = [
    "AddressSource",
    "Addresses",
    "Interfaces",
    "LocalAddress",
    "routed_source",
    "system_addresses",
]
