"""What this host's routes say: asked of the system, without a packet."""

import ipaddress
import socket
from dataclasses import replace

from peers.host.address import Addresses

__all__ = ["routed_source", "with_routes"]

_DISCARD = 9
"""Any port does: nothing is sent to it."""
_ANYWHERE = ("192.0.2.1", "2001:db8::1")
"""One of each family that is nobody's (RFC 5737, RFC 3849): where the default route leads."""


def routed_source(host: str) -> str | None:
    """Return the local address from which this host reaches another address now; None where no
    route leads there, or `host` is no address."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return None
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as one:
            one.connect((host, _DISCARD))
            return str(one.getsockname()[0])
    except OSError:
        return None


def with_routes(addresses: Addresses) -> Addresses:
    """Return the addresses with what the routes say of each. An address comes before its route, and
    till then nothing leaves from it: that the route is there is news like that of the address."""
    routed = {routed_source(host) for host in _ANYWHERE}
    return tuple(replace(one, routed=True) if one.host in routed else one for one in addresses)
