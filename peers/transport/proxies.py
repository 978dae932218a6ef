"""Proxies: the one that the environment names, what it is asked, and what passes through those that
nobody names.

Nothing here dials.
"""

import base64
import os
import sys
from collections import OrderedDict

import h11
from yarl import URL

from peers.config import CarrierKind, log
from protocol.errors import RelayUnavailable
from protocol.hosts import is_host

__all__ = ["ConnectRequest", "KnownCarriers", "proxy_for", "read_url"]

_KEPT = 3600.0
"""Seconds for which a network is remembered: its proxy may be taken away, and the raw carrier costs
a relay less."""


class KnownCarriers:
    """Which carrier passes to a relay, by the relay and by the own address from which it is dialed:
    another address is another network."""

    def __init__(self, limit: int = 64) -> None:
        self._limit = limit
        self._known: OrderedDict[tuple[str, str], tuple[CarrierKind, float]] = OrderedDict()

    def put(self, relay: str, source: str, kind: CarrierKind, now: float) -> None:
        """Note that this one passes, and the other one does not."""
        self._known[relay, source] = kind, now + _KEPT
        self._known.move_to_end((relay, source))
        if len(self._known) > self._limit:
            self._known.popitem(last=False)

    def in_order(self, relay: str, source: str, now: float) -> tuple[CarrierKind, CarrierKind]:
        """Return both carriers, in the order in which they are tried."""
        kind, until = self._known.get((relay, source), (CarrierKind.RAW, now))
        if kind is CarrierKind.WEBSOCKET and now < until:
            return CarrierKind.WEBSOCKET, CarrierKind.RAW
        return CarrierKind.RAW, CarrierKind.WEBSOCKET


def read_url(text: str) -> URL:
    """Return a URL; the empty one where it is none."""
    try:
        url = URL(text)
        # A host that it cannot decode (a wrong A-label) is refused here, and not before.
        return url if url.host is None or url.host else URL()
    except (ValueError, IndexError):  # The latter at brackets in a user part.
        return URL()


def proxy_for(url: URL) -> URL | None:
    """Return the proxy through which a URL is reached, by the variables of the environment
    (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`); None where it is reached directly, as where they name
    what is no HTTP proxy: they may be meant for other programs."""
    if sys.platform == "linux" and not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    # With a client for HTTP of its own: who has no such variable does not pay for that.
    from urllib.request import getproxies, proxy_bypass

    text = getproxies().get(url.scheme)
    if not text or proxy_bypass(url.host or ""):
        return None
    proxy = read_url(text if "://" in text else f"http://{text}")
    if proxy.scheme in ("http", "https") and is_host(proxy.host or "") and proxy.port:
        return proxy
    # It may hold a password, and is not shown.
    log.info("the environment names no proxy that can be used", variable=f"{url.scheme}_proxy")
    return None


class ConnectRequest:
    """One request to a proxy for a byte stream to a host (RFC 9110 §9.3.6), and its answer: bytes
    out, bytes in. Who it leads to does not speak first, so nothing follows the answer."""

    def __init__(self, proxy: URL, authority: str) -> None:
        self._http = h11.Connection(h11.CLIENT)
        headers = [("Host", authority)]
        if proxy.user is not None:
            secret = base64.b64encode(f"{proxy.user}:{proxy.password or ''}".encode()).decode()
            headers.append(("Proxy-Authorization", f"Basic {secret}"))
        self._request = h11.Request(method="CONNECT", target=authority, headers=headers)

    def to_send(self) -> bytes:
        """Return the request. Call once."""
        data = self._http.send(self._request) or b""
        return data + (self._http.send(h11.EndOfMessage()) or b"")

    def receive(self, data: bytes) -> bool:
        """Take bytes of the answer; return whether the stream is there. Empty data says that
        nothing more follows.

        Raises:
            RelayUnavailable: the proxy refuses, or is none.
        """
        try:
            self._http.receive_data(data)
            while True:
                match self._http.next_event():
                    case h11.Response(status_code=status) if 200 <= status < 300:
                        return True
                    case h11.Response(status_code=status):
                        raise RelayUnavailable(f"the proxy answered with HTTP status {status}")
                    case h11.InformationalResponse():
                        pass
                    case h11.ConnectionClosed():
                        raise RelayUnavailable("the proxy hung up")
                    case _:
                        return False
        except h11.RemoteProtocolError as error:
            raise RelayUnavailable(f"the proxy does not speak HTTP: {error}") from None
