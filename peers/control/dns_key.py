"""The key for this peer's own name in its relay's DNS zone: asked for, and kept in a file."""

import os
from dataclasses import dataclass

from peers.control.connection import ControlConnection
from protocol.dns_records import parse_zone, peer_name
from protocol.errors import error_for
from protocol.extras import needed
from protocol.identity import CONTEXT_DNS_KEY, Identity, public_key_of
from protocol.sealing import Receiver

__all__ = ["DdnsKey", "fetch_key"]


@dataclass(frozen=True, slots=True)
class DdnsKey:
    """A TSIG key (hmac-sha256), and where updates that it signs are taken."""

    name: str
    """The key's name, which is the peer's own in the zone."""
    secret: bytes
    """32 bytes: whoever has them may change the peer's records."""
    zone: str
    """The relay's zone."""
    server: str
    """`HOST:PORT` of the relay's name server."""

    def write(self, file: str | os.PathLike[str]) -> None:
        """Write the key as BIND does, for its owner's eyes alone; an older file is replaced.

        Raises:
            DdnsConfigError: the file cannot be written; nothing is changed then.
        """
        with needed("dns", "a key file for the DNS"):
            from peers.dns import write_key

        write_key(file, self.name, self.secret)


async def fetch_key(identity: Identity, connection: ControlConnection, timeout: float) -> DdnsKey:
    """Ask the relay for this peer's key.

    Raises:
        Refused: the relay serves no zone.
        RequestTimeout: no answer; an older relay does not know the question.
        RoamRelayError: the connection has ended, or what came is malformed.
    """
    receiver = Receiver()
    relay_key = public_key_of(connection.relay_guid)
    signature = identity.sign(CONTEXT_DNS_KEY, relay_key, receiver.public)
    response = await connection.dns_key(receiver.public, signature, timeout)
    if response.code is not None:
        raise error_for(response.code, response.reason)
    secret = receiver.open(response.sealed, CONTEXT_DNS_KEY + relay_key + identity.public_key)
    zone = parse_zone(response.zone)
    host = connection.address.host
    host = f"[{host}]" if ":" in host else host
    return DdnsKey(peer_name(identity.guid, zone), secret, zone, f"{host}:{response.port}")
