"""The relay's half of a TLS handshake at an endpoint, and whose key was met there.

The bytes go through memory (`ssl.MemoryBIO`): asyncio's own TLS is made for what follows a
handshake, and costs as much again as the handshake. Here nothing follows it.
"""

import asyncio
import ssl
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol.identity import guid_of

__all__ = ["Handshake", "guid_in"]


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # The key in the certificate is compared with the GUID; no authority has signed it.
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # One small key share: the first packet has some 250 bytes.
    context.set_ecdh_curve("X25519")
    return context


_CONTEXT = _context()
"""Of all handshakes. Each is a whole one: in one that resumes a session no key is shown."""


class Handshake(asyncio.Protocol):
    """One connection that ends with its handshake; `met` tells whose key was shown.

    `met` has the GUID, None where the key is of another kind, or an OSError: what came was no TLS,
    or its end. Whoever has opened the connection aborts it after that.
    """

    def __init__(self) -> None:
        self.met: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = _CONTEXT.wrap_bio(self._incoming, self._outgoing)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._go_on()

    def data_received(self, data: bytes) -> None:
        if not self.met.done():
            self._incoming.write(data)
            self._go_on()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.met.done():
            self._fail(ConnectionResetError("ended before its handshake"))

    def _fail(self, error: OSError) -> None:
        self.met.set_exception(error)
        self.met.exception()  # Nobody may be left to ask: the time is over.

    def _go_on(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._fail(error)
        else:
            self.met.set_result(guid_in(self._tls.getpeercert(True)))
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())


def guid_in(certificate: bytes | None) -> str | None:
    """Return the GUID of the key in a certificate; None where there is none of our kind."""
    if certificate is None:
        return None
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except ValueError:
        return None
    if not isinstance(key, Ed25519PublicKey):
        return None
    return guid_of(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
