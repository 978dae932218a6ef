"""The certificate that the relay shows: read at the start, and again when the relay is told to."""

import ssl

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from relay import disk
from relay.config import ConfigError
from relay.log import log

__all__ = ["Certificate"]

_LIMIT = 1 << 20
"""Bytes of a chain; one has some thousand."""


class Certificate:
    """A chain and its key, in PEM files.

    Raises:
        ConfigError: they cannot be used; says which of them, and why.
    """

    def __init__(self, chain: str, key: str) -> None:
        self._shown = self.context = _loaded(chain, key)
        """`context` is what listens; what it shows is chosen at each handshake."""
        self.context.sni_callback = self._show

    def load(self, chain: str, key: str) -> None:
        """Show what these files hold now, from the next handshake on.

        Raises:
            ConfigError: they cannot be used. What was shown is shown.
        """
        self._shown = _loaded(chain, key)

    def _show(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._shown


def _loaded(chain: str, key: str) -> ssl.SSLContext:
    certificates, _ = _read("tls_certificate", chain)
    secret, mode = _read("tls_key", key)
    if mode & 0o002:
        raise ConfigError(
            f"tls_key: everybody may write {key} (mode {mode:04o}): run 'chmod 600 {key}'"
        )
    if mode & 0o004:
        log.warning("everybody may read the TLS key: chmod 600 it", file=key, mode=f"{mode:04o}")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)

    def locked() -> str:
        # Else OpenSSL asks for it on a terminal, and the relay waits.
        raise ConfigError(
            f"tls_key: {key} is locked with a password: take it off ('openssl pkey -in {key}' "
            "prints the key without)"
        )

    try:
        context.load_cert_chain(chain, key, locked)
    except OSError as error:
        raise ConfigError(_why(chain, certificates, key, secret) or f"{chain}: {error}") from None
    return context


def _read(what: str, file: str) -> tuple[bytes, int]:
    try:
        return disk.read(file, _LIMIT)
    except OSError as error:
        raise ConfigError(f"{what}: cannot read {file}: {error.strerror}") from None


def _why(chain: str, certificates: bytes, key: str, secret: bytes) -> str:
    """Return what is wrong with files that OpenSSL has refused; empty where nothing is found."""
    try:
        first = x509.load_pem_x509_certificates(certificates)[0].public_key()
    except (ValueError, UnsupportedAlgorithm):
        return f"tls_certificate: {chain} holds no whole certificate (PEM)"
    try:
        public = serialization.load_pem_private_key(secret, None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return f"tls_key: {key} holds no whole private key (PEM)"
    if first != public:
        return f"tls_key: {key} is not the key of the first certificate in {chain}"
    return ""
