"""Socket addresses as text: `host:port`, IPv6 in brackets, IPv4 mapped into IPv6 as IPv4; and what
may be a host at all."""

import ipaddress

__all__ = ["describe", "host_in", "host_of", "is_address", "is_host"]

_LONGEST = 254
"""Characters of a name with its last dot (RFC 1035 §2.3.4)."""
_LONGEST_ZONE = 15
"""Characters of an interface's name in Linux."""


def host_of(address: object) -> str:
    """Return the host of a socket address; empty where it has none, as of a transport that is
    gone."""
    host = str(address[0]) if isinstance(address, tuple) and address else ""
    return host.removeprefix("::ffff:") if "." in host else host


def describe(address: object) -> str:
    """Return a socket address in words, as `host:port`."""
    if isinstance(address, tuple) and len(address) >= 2:
        host = host_of(address)
        return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"
    return str(address)


def host_in(text: str) -> str:
    """Return the host of what `describe` has written."""
    return text.rpartition(":")[0].strip("[]")


def is_address(text: str) -> bool:
    """Return whether this is an address literal, with the zone that a link-local one may have."""
    address, percent, zone = text.partition("%")
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        return False
    if not percent:
        return True
    # The system is told it as a name, and takes no other letters in front of a resolver.
    named = (
        0 < len(zone) <= _LONGEST_ZONE
        and zone.isascii()
        and zone.isprintable()
        and not set(zone) & set(" %/:")
    )
    return version == 6 and named and _resolves(text)


def is_host(text: str) -> bool:
    """Return whether this may be an address, or a name that a resolver takes: everywhere a host
    comes in. Who dials another one is told UnicodeError, ValueError or TypeError by the system."""
    if is_address(text):
        return True
    if len(text) > _LONGEST or not text.isprintable() or set(text) & set(" :/%@?#[]\\"):
        return False
    return _resolves(text)


def _resolves(text: str) -> bool:
    """Whether Python can hand this to the system: it takes every host for a name of labels."""
    try:
        return bool(text.encode("idna"))
    except UnicodeError:
        return False
