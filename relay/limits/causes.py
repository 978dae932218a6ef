"""Who is charged for what: a proven key where there is one, and always the networks that it came
from, since keys cost nothing.

Everything that the relay counts, bounds or charges by where it comes from goes by these two
networks, and by no other: what one host has, and the wider one around it.
"""

import ipaddress
import re
from functools import lru_cache
from typing import NamedTuple

__all__ = ["WIDE_SHARE", "Cause", "cause_of"]

_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(\.{_OCTET}){{3}}", re.ASCII)
_NETWORKS = {4: (32, 24), 6: (64, 48)}
"""Prefixes, by IP version: what one host has, and what one site or provider's customer may have."""

WIDE_SHARE = 4
"""Where a bound is of each network, and not of all, a wide one has so many times as much."""


class Cause(NamedTuple):
    """Who has caused something, from the widest to the narrowest."""

    wide: str
    """A /24, or a /48."""
    network: str
    """A /32, or a /64."""
    key: str
    """A GUID that was proven; empty for what comes before the proof: it is all of its network."""


def cause_of(host: str, guid: str = "") -> Cause:
    """Return the cause of what comes from an address, under a proven key or none."""
    wide, network = _networks(host)
    return Cause(wide, network, guid)


@lru_cache(maxsize=16_384)
def _networks(host: str) -> tuple[str, str]:
    if _IPV4.fullmatch(host):
        # What ipaddress would say, at a tenth of its 40 µs: most hosts, and one for each newcomer.
        return f"{host.rpartition('.')[0]}.0/24", f"{host}/32"
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host, host
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    own, wide = _NETWORKS[address.version]
    return (
        str(ipaddress.ip_network((address, wide), strict=False)),
        str(ipaddress.ip_network((address, own), strict=False)),
    )
