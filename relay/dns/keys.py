"""The TSIG keys of the embedded zone: one for each peer's own name, derived and never stored.

Whoever has the relay's identity can derive them all; a relay with a new identity has new ones.
"""

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

    def __init__(self, identity: Identity, zone: str) -> None:
        self._secret = identity.private_key.private_bytes_raw()
        self._zone = zone

    def secret(self, guid: str) -> bytes:
        """Return the 32 bytes of a peer's key.

        Raises:
            IdentityError: not a GUID.
        """
        info = _CONTEXT + self._zone.encode() + b"\0" + public_key_of(guid)
        return HKDF(SHA256(), 32, salt=None, info=info).derive(self._secret)

    def key(self, guid: str) -> dns.tsig.Key:
        """Return a peer's key; its name is the peer's own.

        Raises:
            IdentityError: not a GUID.
        """
        name = dns.name.from_text(peer_name(guid, self._zone))
        return dns.tsig.Key(name, self.secret(guid), dns.tsig.HMAC_SHA256)

    def find(self, name: dns.name.Name) -> dns.tsig.Key | None:
        """Return the key of this name; None where there cannot be one."""
        guid, _, zone = name.to_text(omit_final_dot=True).lower().partition(".")
        if zone != self._zone:
            return None
        try:
            return self.key(guid)
        except IdentityError:
            return None
