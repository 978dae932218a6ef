"""The embedded zone: peers under their own names, kept by their connections and by updates."""

from relay.dns.keys import DnsKeys
from relay.dns.server import DnsServer
from relay.dns.store import DnsStore
from relay.dns.zone import SharedZone, ZonePeers

__all__ = ["DnsKeys", "DnsServer", "DnsStore", "SharedZone", "ZonePeers"]
