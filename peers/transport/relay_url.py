"""The URL of a relay, taken apart: host, port, and the TLS that it asks for."""

import ssl

from yarl import URL

from protocol.errors import RelayUnavailable

__all__ = ["RelayAddress"]


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

    def __str__(self) -> str:
        return str(self.url.origin())
