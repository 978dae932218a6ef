"""The URL of a relay, taken apart: host, port, the TLS that it asks for, and how far it is."""

import ssl
from collections import OrderedDict
from collections.abc import Sequence

from yarl import URL

from protocol.errors import RelayUnavailable

__all__ = ["RelayAddress", "RelayTrips"]


class RelayTrips:
    """Round trips to relays as last measured, by the address that was dialed and the own address.
    They say how soon a SYN is taken for lost, so that an old one does no harm."""

    def __init__(self, limit: int = 64) -> None:
        self._limit = limit
        self._known: OrderedDict[tuple[str, str | None], float] = OrderedDict()

    def put(self, host: str, source: str | None, seconds: float) -> None:
        """Keep a measurement."""
        self._known[host, source] = seconds
        self._known.move_to_end((host, source))
        if len(self._known) > self._limit:
            self._known.popitem(last=False)

    def get(self, host: str, source: str | None) -> float | None:
        """Return the last measurement; from an address that is new, the longest of any other."""
        if (host, source) in self._known:
            return self._known[host, source]
        return max((trip for key, trip in self._known.items() if key[0] == host), default=None)


class RelayAddress:
    """Where a relay is: `http://host:port` or `https://host:port`.

    Raises:
        RelayUnavailable: the text is no such URL.
    """

    def __init__(
        self,
        url: str,
        *,
        ssl_context: ssl.SSLContext | None = None,
        certificate_name: str | None = None,
        addresses: Sequence[str] = (),
        trips: RelayTrips | None = None,
    ) -> None:
        try:
            parsed = URL(url)
        except ValueError:
            parsed = URL()
        if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query_string:
            raise RelayUnavailable(
                f"not a relay's URL: {url!r} (http://HOST:PORT or https://HOST:PORT is needed)"
            )
        self.url = parsed
        self.host: str = parsed.host
        self.port: int = parsed.port or 8440
        self.ssl: ssl.SSLContext | None = None
        if parsed.scheme == "https":
            self.ssl = ssl_context or ssl.create_default_context()
        self.certificate_name = certificate_name if self.ssl else None
        """The name that the certificate must be for, where it is not the host."""
        self.addresses = tuple(addresses)
        """Its addresses where they are known already; empty: those of the host."""
        self.trips = trips if trips is not None else RelayTrips()
        """What was measured on the way there; shared by the addresses of one peer."""

    def __str__(self) -> str:
        return str(self.url.origin())
