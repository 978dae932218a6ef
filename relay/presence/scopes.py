"""Into which networks, and at which ports, the relay probes what its peers name.

PURE: what the operator allows and where a peer is seen go in. Where nobody is, which services are
well known and what an address is holds for relays and peers alike (`protocol.dialing`).
"""

import ipaddress
from collections.abc import Sequence

from protocol.dialing import IpAddress, is_well_known, nobody_at, unwrapped

__all__ = ["may_probe", "may_probe_port"]

_HTTPS = 443


def may_probe(host: str, serves: str, networks: Sequence[str]) -> bool:
    """Whether the relay may dial an address: a global one; one in `networks`, which the operator
    allows; or one of the kind that the relay itself `serves` on, loopback or private.

    Where nobody is, and link-local, is never dialed. IPv6 that holds an IPv4 address counts as
    that.
    """
    address = unwrapped(host)
    if address is None or nobody_at(address) is not None or address.is_link_local:
        return False
    if any(address in ipaddress.ip_network(network) for network in networks):
        return True
    if address.is_global:
        return True
    try:
        own: IpAddress = ipaddress.ip_address(serves)
    except ValueError:
        return False
    if own.is_unspecified:
        return False
    if own.is_loopback or address.is_loopback:
        return own.is_loopback and address.is_loopback
    return own.is_private and address.is_private and own.version == address.version


def may_probe_port(port: int, is_observed: bool) -> bool:
    """Whether the relay may dial a port, at an address that the peer's own packets come from or
    not. A well-known service is nothing that others point the relay at; but that of HTTPS, where
    the first bytes of TLS are what everybody sends."""
    return is_observed or port == _HTTPS or not is_well_known(port)
