"""`HOST:PORT` as it stands in a configuration."""

from dataclasses import dataclass

from protocol.errors import ProtocolViolation
from protocol.hosts import is_host

__all__ = ["HostPort"]


@dataclass(frozen=True, slots=True)
class HostPort:
    """A name server: an address or a name, and a port."""

    host: str
    port: int = 53

    @classmethod
    def parse(cls, text: str) -> "HostPort":
        """Read `HOST`, `HOST:PORT`, `[ADDRESS]:PORT`, or a bare IPv6 address.

        Raises:
            ProtocolViolation: it is none of these.
        """
        host, port = text, "53"
        if text.startswith("["):
            host, bracket, rest = text[1:].partition("]")
            port = rest[1:] if rest.startswith(":") else "53" if bracket and not rest else ""
        elif text.count(":") == 1:
            host, _, port = text.partition(":")
        if (
            not is_host(host)
            or not (port.isascii() and port.isdigit())
            or not 0 < int(port) < 65536
        ):
            raise ProtocolViolation(f"not a name server (HOST or HOST:PORT): {text[:80]!r}")
        return cls(host, int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 53 else f"{host}:{self.port}"
