"""Socket addresses as text: `host:port`, IPv6 in brackets, mapped IPv4 as IPv4."""

__all__ = ["describe", "host_of"]


def describe(address: object) -> str:
    """Return a socket address in words, as `host:port`."""
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = str(address[0]).removeprefix("::ffff:"), address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(address)


def host_of(address: str) -> str:
    """Return the host of what `describe` has written."""
    return address.rpartition(":")[0].strip("[]")
