"""The router of this host's network, which is asked to pass a port on to this peer."""

from peers.gateway.lease import Lease
from peers.gateway.mapper import PortMapper

__all__ = ["Lease", "PortMapper"]
