"""The URL of a relay, taken apart: host, port, the TLS that it asks for, and how far it is."""

import re
import ssl
from collections import OrderedDict
from collections.abc import Sequence

from yarl import URL

from peers.transport.proxies import KnownCarriers, read_url
from peers.transport.trust import Trust
from protocol.errors import RelayUnavailable
from protocol.hosts import is_host

__all__ = ["RelayAddress", "RelayTrips"]


class RelayTrips:
    """Round trips to relays as last measured, by the address that was dialed and the own address.
    They say how soon a SYN is taken for lost, so that an old one does no harm."""

    def __init__(self, limit: int = 64) -> None:
        self._limit = limit
        self.carriers = KnownCarriers(limit)
        """What has passed on the way there."""
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
    """Where a relay is: `http://host:port` or `https://host:port`; without a port it is the
    scheme's, 80 or 443, as in every URL.

    Raises:
        RelayUnavailable: the text is no such URL, or has more in it.
    """

    def __init__(
        self,
        url: str,
        *,
        trust: Trust | None = None,
        certificate_name: str | None = None,
        addresses: Sequence[str] = (),
        trips: RelayTrips | None = None,
    ) -> None:
        self.url = _read(url)
        self.host: str = self.url.host or ""
        self.port: int = self.url.port or 0
        self._trust = (trust or Trust()) if self.url.scheme == "https" else None
        self.certificate_name = certificate_name if self._trust else None
        """The name that the certificate must be for, where it is not the host."""
        self.addresses = tuple(addresses)
        """Its addresses where they are known already; empty: those of the host."""
        self.trips = trips if trips is not None else RelayTrips()
        """What was measured on the way there; shared by the addresses of one peer."""

    @property
    def authority(self) -> str:
        """Host and port as HTTP says them."""
        return self.url.host_port_subcomponent or ""

    @property
    def target(self) -> str:
        """The same with its port, whichever it is: what a proxy is asked for."""
        host = self.url.raw_host or ""
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def tls(self) -> ssl.SSLContext | None:
        """Return how TLS is spoken there on the next connection; None where it is not.

        Raises:
            RelayUnavailable: the file of authorities cannot be used.
        """
        return None if self._trust is None else self._trust.context()

    def beside(self, url: str) -> "RelayAddress":
        """Return another relay of the same key, which this one has named: trusted as this one is.

        Raises:
            RelayUnavailable: it is no URL of a relay; or it has no TLS, and this one has.
        """
        other = RelayAddress(url, trust=self._trust, trips=self.trips)
        if other.url.scheme != self.url.scheme:
            raise RelayUnavailable(f"{other} has not the TLS of {self}")
        return other

    def only_at(self, address: str) -> "RelayAddress":
        """Return the same, at one address that was found for it."""
        return RelayAddress(
            str(self),
            trust=self._trust,
            certificate_name=self.certificate_name,
            addresses=(address,),
            trips=self.trips,
        )

    def __str__(self) -> str:
        return str(self.url.origin())


def _has_number(text: str) -> bool:
    """Whether the port of a URL, if there is one, is a number as everybody reads it; others take a
    sign, blanks, and the digits of any script."""
    authority = re.split("[/?#]", text.partition("//")[2])[0]
    port = authority.rpartition("]")[2].partition(":")[2]
    return not port or (port.isascii() and port.isdigit())


def _read(text: str) -> URL:
    """Take a URL as it is written. What is refused is not shown where it may hold a secret."""
    text = text.strip()
    url = read_url(text)
    if "@" in text:
        problem = "it has a user part, which no relay asks for"
    elif any(one.isspace() or not one.isprintable() for one in text):
        problem = "a blank or a control character is in it"
    elif not _has_number(text):
        problem = "its port is no number"
    elif url.scheme not in ("http", "https") or not url.host:
        problem = repr(text) if not set(text) & set("?#") else "it has no http:// and a host"
    elif not is_host(url.host) or not url.port:
        problem = f"nobody can be reached at host {url.host[:80]!r}, port {url.port}"
    elif url.raw_path not in ("", "/"):
        problem = "it has a path, and a relay has its own"
    elif "?" in text or "#" in text:
        problem = "it has a query or a fragment"
    else:
        return url
    raise RelayUnavailable(
        f"not a relay's URL: {problem} (http://HOST:PORT or https://HOST:PORT is needed)"
    )
