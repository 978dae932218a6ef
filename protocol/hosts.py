"""Socket addresses as text: `host:port`, IPv6 in brackets, IPv4 mapped into IPv6 as IPv4."""

__all__ = ["describe", "host_in", "host_of"]


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
