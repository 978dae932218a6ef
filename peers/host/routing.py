"""What this host's routes say: asked of the system, without a packet."""

import ipaddress
import socket

__all__ = ["routed_source"]

_DISCARD = 9
"""Any port does: nothing is sent to it."""


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
