"""TLS 1.3 between two peers over any byte stream, both proven by their own certificates.

pyOpenSSL rather than the standard library's ssl: only it lets a server ask for a self-signed client
certificate and judge its key by itself, so that both identities are proven within the handshake
(docs/libraries.md). Bytes in, bytes out; no sockets here.
"""

import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from OpenSSL import SSL

from protocol.errors import PathFailed
from protocol.identity import Identity, guid_of
from protocol.lock import Lock

__all__ = ["TlsChannel", "TlsContext"]

_READ = 65_536
_ENCRYPTED_READ = 131_072


def _accept_any(
    connection: SSL.Connection, certificate: object, error: int, depth: int, ok: int
) -> bool:
    # TLS 1.3 has proven possession of the key; whose key it must be is the caller's comparison.
    return depth == 0


class TlsContext:
    """What all channels of one identity share."""

    def __init__(self, identity: Identity) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_options(SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        # A connection that is quiet holds no records' buffers, of 34 KiB.
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.use_certificate(identity.certificate)
        context.use_privatekey(identity.private_key)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _accept_any)
        self._context = context

    def channel(self, *, server: bool) -> "TlsChannel":
        """Return a new channel, as TLS server or as TLS client."""
        connection = SSL.Connection(self._context, None)
        if server:
            connection.set_accept_state()
        else:
            connection.set_connect_state()
        return TlsChannel(connection, is_client=not server)


class TlsChannel:
    """One TLS connection in memory.

    Feed what arrived to `receive`, write `to_send()` to the stream after every call.
    """

    __slots__ = ("_connection", "began", "ended", "is_client", "remote_guid")

    lock = Lock.TLS

    def __init__(self, connection: SSL.Connection, *, is_client: bool) -> None:
        self._connection = connection
        self.is_client = is_client
        self.began = 0.0
        """When a client's first flight was made, by `time.perf_counter`; 0 before that. It may be
        before there is a stream."""
        self.remote_guid = ""
        """The key that the other side has proven; empty before that."""
        self.ended = False
        """Whether the other side has said that nothing more follows."""

    @property
    def established(self) -> bool:
        """Whether the other side has proven its key."""
        return bool(self.remote_guid)

    def start(self) -> None:
        """Begin the handshake: a client has its first flight `to_send` after this."""
        self.began = time.perf_counter()
        self._handshake()

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the stream and return the application's bytes among them.

        Raises:
            PathFailed: the bytes are no TLS, or the handshake failed.
        """
        connection = self._connection
        view = memoryview(data)
        pieces: list[bytes] = []
        try:
            while view:
                view = view[connection.bio_write(view) :]
            if not self.established and not self._handshake():
                return b""
            while True:
                pieces.append(connection.recv(_READ))
        except SSL.WantReadError:
            return b"".join(pieces)
        except SSL.ZeroReturnError:
            self.ended = True
            return b"".join(pieces)
        except SSL.Error as error:
            raise PathFailed(f"TLS failed: {_words(error)}") from None

    def send(self, data: bytes) -> None:
        """Encrypt the application's bytes."""
        view = memoryview(data)
        while view:
            view = view[self._connection.send(view) :]

    def export(self, label: bytes, size: int, context: bytes) -> bytes:
        """Return what both ends of an established channel can derive from it, and nobody else (RFC
        8446 §7.5)."""
        return self._connection.export_keying_material(label, size, context)

    def to_send(self) -> bytes:
        """Return the bytes that are to be written to the stream."""
        pieces = []
        try:
            while True:
                pieces.append(self._connection.bio_read(_ENCRYPTED_READ))
        except SSL.WantReadError:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def end(self) -> None:
        """Say that nothing more follows."""
        if self.established:
            try:
                self._connection.shutdown()
            except SSL.Error:
                return

    def _handshake(self) -> bool:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return False
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        key = certificate.public_key() if certificate else None
        if not isinstance(key, Ed25519PublicKey):
            raise PathFailed("the other side's certificate holds no Ed25519 key")
        self.remote_guid = guid_of(key.public_bytes_raw())
        return True


def _words(error: SSL.Error) -> str:
    details = error.args[0] if error.args else None
    if isinstance(details, list) and details:
        return str(details[-1][-1])
    return "the connection was cut" if isinstance(error, SSL.SysCallError) else str(error)
