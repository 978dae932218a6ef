"""Endpoints: where a service of a peer can be dialed, each signed by the peer on its own.

An entry is kept and passed on as the bytes that were signed, so that the relay can leave one out
and nobody can put one in. Ordering is by phase and recency; measuring is the peers' work.
"""

import ipaddress
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import msgspec

from protocol.errors import ProtocolViolation, StaleSequence
from protocol.identity import CONTEXT_ENDPOINT, Identity, public_key_of, verify

__all__ = [
    "Endpoint",
    "Entry",
    "Phase",
    "Provenance",
    "SignedEntry",
    "check_newer",
    "open_entry",
    "order",
    "read_entry",
    "sign_entry",
]


_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_UNICAST = re.compile(rf"(22[0-3]|2[01][0-9]|1[0-9][0-9]|[1-9][0-9]?)(\.{_OCTET}){{3}}", re.ASCII)
"""An IPv4 address in its canonical form that can be dialed: of 1.0.0.0 to 223.255.255.255."""


class Phase(StrEnum):
    """What an endpoint may be used for (design §6)."""

    NEW = "new"
    """Just appeared; may be dialed."""
    PREFERRED = "preferred"
    """The peer's own first choice."""
    LEAVING = "leaving"
    """For old sessions only: the draft's IP1 after the move. Nobody dials it for a new session."""

    @property
    def rank(self) -> int:
        """The place in the order in which endpoints are dialed: the lower, the sooner."""
        return _PHASE_RANK[self]


_PHASE_RANK = {Phase.PREFERRED: 0, Phase.NEW: 1, Phase.LEAVING: 2}


class Provenance(StrEnum):
    """How the peer came to know the endpoint."""

    INTERFACE = "interface"
    """It is an address of an interface of its host."""
    OBSERVED = "observed"
    """The relay has seen its packets come from there."""
    CONFIGURED = "configured"
    """Its configuration says so."""


class Endpoint(msgspec.Struct, frozen=True, order=True):
    """An IP address literal in its canonical form, and a TCP port (1–65535)."""

    host: str
    """The address."""
    port: int
    """The TCP port."""

    @classmethod
    def parse(cls, host: str, port: int) -> "Endpoint":
        """Return a usable endpoint. IPv4 addresses mapped into IPv6 become IPv4; the zone of a
        link-local address means nothing on another host and is left out.

        Raises:
            ProtocolViolation: not an address literal, a multicast or unspecified one, or no port.
        """
        if _UNICAST.fullmatch(host) and 0 < port < 65536:
            return cls(host, port)  # As below, without the 20 µs that ipaddress takes.
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            raise ProtocolViolation(f"not an IP address: {host[:64]!r}") from None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        if address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255":
            raise ProtocolViolation(f"nothing can be dialed at {address}")
        if not 0 < port < 65536:
            raise ProtocolViolation(f"not a TCP port: {port}")
        return cls(str(address), port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One line of a location record: an array of seven on the wire."""

    seq: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    """The record's number when this was signed; the higher one wins."""
    service: Annotated[str, msgspec.Meta(min_length=1, max_length=63)]
    """The name of the service that is there."""
    host: Annotated[str, msgspec.Meta(max_length=45)]
    """The address."""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    """The TCP port."""
    phase: Phase
    """What it may be used for."""
    lifetime: Annotated[int, msgspec.Meta(ge=0, le=604800)]
    """Seconds for which the entry may be used after it was received."""
    provenance: Provenance
    """How the peer came to know it."""

    @property
    def endpoint(self) -> Endpoint:
        """The address and port to dial."""
        return Endpoint(self.host, self.port)


class SignedEntry(msgspec.Struct, frozen=True):
    """An entry as it travels: the signed bytes, and the peer's signature over them."""

    body: Annotated[bytes, msgspec.Meta(max_length=256)]
    """MessagePack of `Entry`."""
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    """Ed25519 over the endpoint context, the peer's public key and `body`."""


_encode = msgspec.msgpack.Encoder().encode


def sign_entry(identity: Identity, entry: Entry) -> SignedEntry:
    """Sign one entry of the identity's own location record."""
    body = _encode(entry)
    return SignedEntry(body, identity.sign(CONTEXT_ENDPOINT, identity.public_key, body))


_decode = msgspec.msgpack.Decoder(Entry).decode


def open_entry(guid: str, signed: SignedEntry) -> Entry:
    """Check the signature of an entry and return what it says.

    Raises:
        ProtocolViolation: not signed by `guid`, malformed, or an address that cannot be dialed.
    """
    verify(guid, signed.signature, CONTEXT_ENDPOINT, public_key_of(guid), signed.body)
    entry = read_entry(signed)
    if Endpoint.parse(entry.host, entry.port) != entry.endpoint:
        raise ProtocolViolation(f"address not in canonical form: {entry.host!r}")
    return entry


def read_entry(signed: SignedEntry) -> Entry:
    """Return what an entry says, without asking who signed it or whether it can be dialed.

    Raises:
        ProtocolViolation: malformed.
    """
    try:
        return _decode(signed.body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ProtocolViolation(f"malformed endpoint entry: {error}") from None


def order(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries that a new session may dial, best first.

    Preferred before new, then the latest `seq`, then the order given. `leaving` ones are left out.
    """
    usable = [entry for entry in entries if entry.phase is not Phase.LEAVING]
    return sorted(usable, key=lambda entry: (entry.phase.rank, -entry.seq))


def check_newer(seq: int, known: int | None) -> None:
    """Raise `StaleSequence` unless `seq` is above the known one."""
    if known is not None and seq <= known:
        raise StaleSequence(f"location record {seq} is not newer than {known}", known)
