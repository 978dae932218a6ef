"""The TSIG keys of the embedded zone: one for each peer's own name, derived and never stored.

Whoever has the relay's identity can derive them all; a relay with a new identity has new ones, and
takes those of its former one for as long as it serves that.
"""

from collections.abc import Callable, Iterable

import dns.name
import dns.tsig
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.dns_records import peer_name
from protocol.errors import IdentityError
from protocol.identity import Identity, public_key_of

__all__ = ["DnsKeys"]

_CONTEXT = b"roam-relay/1 zone key\0"


class DnsKeys:
    """The keys for one zone."""

    def __init__(
        self,
        identity: Identity,
        zone: str,
        served: Callable[[], Iterable[Identity]] | None = None,
    ) -> None:
        """`served` returns the relay's identities whose keys are taken now; without it, that one's
        alone are. New keys are always of `identity`."""
        self._identity = identity
        self._zone = zone
        self._served = served or (lambda: (identity,))

    def secret(self, guid: str) -> bytes:
        """Return the 32 bytes of a peer's key.

        Raises:
            IdentityError: not a GUID.
        """
        return self._secret_of(self._identity, guid)

    def key(self, guid: str) -> dns.tsig.Key:
        """Return a peer's key; its name is the peer's own.

        Raises:
            IdentityError: not a GUID.
        """
        return self._key_of(self._identity, guid)

    def find(self, name: dns.name.Name) -> tuple[dns.tsig.Key, ...]:
        """Return the keys of this name: several for as long as the relay serves former keys of its
        own, none where there cannot be one."""
        guid, _, zone = name.to_text(omit_final_dot=True).lower().partition(".")
        if zone != self._zone:
            return ()
        try:
            return tuple(self._key_of(identity, guid) for identity in self._served())
        except IdentityError:
            return ()

    def _key_of(self, identity: Identity, guid: str) -> dns.tsig.Key:
        name = dns.name.from_text(peer_name(guid, self._zone))
        return dns.tsig.Key(name, self._secret_of(identity, guid), dns.tsig.HMAC_SHA256)

    def _secret_of(self, identity: Identity, guid: str) -> bytes:
        info = _CONTEXT + self._zone.encode() + b"\0" + public_key_of(guid)
        secret = identity.private_key.private_bytes_raw()
        return HKDF(SHA256(), 32, salt=None, info=info).derive(secret)
