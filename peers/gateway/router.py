"""The router to which this host's default route leads, as Linux shows it; elsewhere unknown."""

import socket
import struct
from pathlib import Path

__all__ = ["default_router"]

_ROUTES = Path("/proc/net/route")
_UP_BY_GATEWAY = 0x3


def default_router(routes: Path = _ROUTES) -> str | None:
    """Return its IPv4 address; None where there is none, or the system does not tell."""
    try:
        lines = routes.read_text().splitlines()[1:]
    except OSError:
        return None
    found: list[tuple[int, str]] = []
    for line in lines:
        fields = line.split()
        if len(fields) < 8 or fields[1] != "00000000" or fields[7] != "00000000":
            continue
        if int(fields[3], 16) & _UP_BY_GATEWAY == _UP_BY_GATEWAY:
            address = socket.inet_ntoa(struct.pack("=I", int(fields[2], 16)))
            found.append((int(fields[6]), address))
    return min(found)[1] if found else None
