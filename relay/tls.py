"""The certificate that the relay shows: read at the start, when the relay is told to, and when its
files have changed; and how long it is still good.
"""

import datetime
import os
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
_DAY = 86_400
_WARNED_AT = (0, 1, 3, 14)
"""Days before the end at which it is told; 0: it has ended."""
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secret and authenticated, as all of TLS 1.3 is."""

_State = tuple[tuple[int, ...], ...]


class Certificate:
    """A chain and its key, in PEM files.

    Raises:
        ConfigError: they cannot be used; says which of them, and why.
    """

    def __init__(self, chain: str, key: str) -> None:
        self._files = (chain, key)
        self._read = self._seen = _state(self._files)
        """Of the files: as they were read, and as they were looked at last."""
        self._shown, self.ends = _loaded(chain, key)
        """`ends` is Unix time: when the first certificate of the chain does."""
        self._told = len(_WARNED_AT)
        self.context = self._shown
        """What listens; what it shows is chosen at each handshake."""
        self.context.sni_callback = self._show

    def load(self, chain: str, key: str) -> None:
        """Show what these files hold now, from the next handshake on.

        Raises:
            ConfigError: they cannot be used. What was shown is shown.
        """
        files = (chain, key)
        read = _state(files)
        self._shown, self.ends = _loaded(chain, key)
        self._files, self._read, self._seen = files, read, read
        self._told = len(_WARNED_AT)

    def look(self, now: float) -> None:
        """Read files that have changed, once they stay as they are: who renews them writes one
        after the other. Tell of an end that is near. Call it every few seconds; `now` is Unix
        time."""
        before, self._seen = self._seen, _state(self._files)
        if self._seen != self._read and self._seen == before:
            self._read = self._seen
            try:
                self.load(*self._files)
            except ConfigError as error:
                log.warning("the changed certificate is not shown", reason=str(error))
            else:
                log.info("the certificate's files have changed: shown anew", ends=_date(self.ends))
        self._tell(now)

    def _tell(self, now: float) -> None:
        left = self.ends - now
        due = next((n for n, days in enumerate(_WARNED_AT) if left <= days * _DAY), None)
        if due is not None and due < self._told:
            self._told = due
            what = "ends soon" if left > 0 else "has ended: peers refuse it"
            log.warning(
                f"the certificate {what}",
                ends=_date(self.ends),
                days=round(max(0.0, left) / _DAY, 1),
                next_step="renew its files: the relay reads them by itself",
            )

    def _show(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._shown


def _state(files: tuple[str, str]) -> _State:
    """Return what changes when a file is written or replaced; also where it leads elsewhere."""
    found: list[tuple[int, ...]] = []
    for file in files:
        try:
            there = os.stat(file)
        except OSError:
            found.append((0,))
        else:
            found.append((there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns))
    return tuple(found)


def _date(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()


def _loaded(chain: str, key: str) -> tuple[ssl.SSLContext, float]:
    """Return what shows a certificate, and when that ends."""
    certificates, _ = _read("tls_certificate", chain)
    secret, mode = _read("tls_key", key)
    if mode & 0o002:
        raise ConfigError(
            f"tls_key: everybody may write {key} (mode {mode:04o}): run 'chmod 600 {key}'"
        )
    if mode & 0o004:
        log.warning("everybody may read the TLS key: chmod 600 it", file=key, mode=f"{mode:04o}")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # Without it a client that offers HTTP/2 too may believe that it was chosen.
    context.set_alpn_protocols(["http/1.1"])

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
    first = x509.load_pem_x509_certificates(certificates)[0]
    return context, first.not_valid_after_utc.timestamp()


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
