"""Who may have signed a relay's certificate: the authorities in a file, or the system's.

What is read is read again when it has changed. Nothing here dials.
"""

import ssl
from pathlib import Path

from peers.config import log
from peers.disk import read
from protocol.errors import RelayUnavailable

__all__ = ["Trust", "in_words"]

_ISSUER_UNKNOWN = frozenset({2, 18, 19, 20, 21})
_NOT_NOW = frozenset({9, 10})
"""X509_V_ERR numbers of OpenSSL, which Python passes on: no authority that is known has signed it;
it is not valid yet, or not any more."""


class Trust:
    """The authorities of one peer. `file` is in PEM; None are the system's."""

    def __init__(self, file: str | None = None) -> None:
        self._file = file
        self._context: ssl.SSLContext | None = None
        self._read: tuple[object, ...] = ()
        """The state of the files that was read last, or that could not be read."""

    def context(self) -> ssl.SSLContext:
        """Return the context for the next connection. A file that cannot be read now, as while
        somebody replaces it, leaves what was read before.

        Raises:
            RelayUnavailable: it was never read.
        """
        now = tuple(_state_of(path) for path in self._paths())
        if self._context is not None and now == self._read:
            return self._context
        self._read = now
        try:
            if self._file is not None:
                read(self._file, 1)  # OpenSSL would wait for whoever writes into a pipe.
            self._context = ssl.create_default_context(cafile=self._file)
        except (OSError, ValueError) as error:
            told = f"cannot use {self._file}: {error}"
            if self._context is None:
                raise RelayUnavailable(told) from None
            log.warning("relay_ca: what was read before is used", reason=told)
        return self._context

    def _paths(self) -> tuple[str, ...]:
        if self._file is not None:
            return (self._file,)
        paths = ssl.get_default_verify_paths()
        return tuple(path for path in (paths.cafile, paths.capath) if path is not None)


def _state_of(path: str) -> object:
    """Return what is different once a file was written or replaced."""
    try:
        state = Path(path).stat()
    except (OSError, ValueError) as error:
        return str(error)
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def in_words(relay: object, error: ssl.SSLCertVerificationError) -> str:
    """Return why a relay's certificate was not accepted, and what can be done about it."""
    step = ""
    if error.verify_code in _ISSUER_UNKNOWN:
        step = "; 'relay_ca' in the configuration names a file of authorities to believe"
    elif error.verify_code in _NOT_NOW:
        step = "; or is the clock of this host wrong?"
    return f"the certificate of {relay} is not accepted: {error.verify_message}{step}"
