"""What is said to a router, and what it answers: PCP's MAP (RFC 6887) and NAT-PMP (RFC 6886), for
TCP over IPv4. PURE: bytes in, bytes out.
"""

import ipaddress
import struct
from dataclasses import dataclass
from enum import Enum

__all__ = [
    "ADDRESS_REQUEST",
    "NONCE_BYTES",
    "PORT",
    "Answer",
    "Kind",
    "nat_pmp_request",
    "pcp_request",
    "read",
]

PORT = 5351
NONCE_BYTES = 12
ADDRESS_REQUEST = b"\0\0"
"""NAT-PMP: which address others see."""
_TCP = 6
_PCP_HEAD = struct.Struct("!BBxBII12x")
_PCP_MAP = struct.Struct("!12sB3xHH16s")
_PCP_ASKED = struct.Struct("!BBxxI16s")
_PMP_MAP = struct.Struct("!BBxxHHI")
_PMP_ADDRESS = struct.Struct("!BBHI4s")
_PMP_MAPPED = struct.Struct("!BBHIHHI")
_PMP_REFUSED = struct.Struct("!BBH")
_MAP, _ANSWER = 1, 128
_NO_ADDRESS = ipaddress.IPv6Address("::ffff:0.0.0.0").packed


class Kind(Enum):
    """What an answer is to."""

    PCP = "PCP"
    ADDRESS = "NAT-PMP, the address"
    MAPPED = "NAT-PMP, the port"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the router says."""

    kind: Kind
    result: int
    """0 where it was done; 1 where it does not know this version."""
    nonce: bytes = b""
    """That of the request, of PCP alone."""
    internal: int = 0
    """The port that others are led to."""
    port: int = 0
    """Where others come to."""
    host: str = ""
    """The address that others see; empty where it was not asked for, or is none."""
    lifetime: int = 0
    """Seconds for which it holds."""


def pcp_request(nonce: bytes, here: str, port: int, suggested: int, lifetime: int) -> bytes:
    """Return the request to pass a TCP port on to the host `here`, for so many seconds; 0 takes the
    mapping back."""
    client = ipaddress.IPv6Address(f"::ffff:{here}").packed
    head = _PCP_ASKED.pack(2, _MAP, lifetime, client)
    return head + _PCP_MAP.pack(nonce, _TCP, port, suggested, _NO_ADDRESS)


def nat_pmp_request(port: int, suggested: int, lifetime: int) -> bytes:
    """Return the same request in the older words, where the router sees from whom it comes."""
    return _PMP_MAP.pack(0, 2, port, suggested if lifetime else 0, lifetime)


def read(data: bytes) -> Answer | None:
    """Return what a router has answered; None where it is nothing that was asked for here."""
    if data[:1] == b"\2":
        return _read_pcp(data)
    if data[:1] != b"\0" or len(data) < _PMP_REFUSED.size:
        return None
    _, operation, result = _PMP_REFUSED.unpack_from(data)
    if operation == _ANSWER and (result or len(data) == _PMP_ADDRESS.size):
        address = "" if result else str(ipaddress.IPv4Address(_PMP_ADDRESS.unpack(data)[4]))
        return Answer(Kind.ADDRESS, result, host=address)
    if operation == _ANSWER + 2 and not result and len(data) == _PMP_MAPPED.size:
        *_, internal, port, lifetime = _PMP_MAPPED.unpack(data)
        return Answer(Kind.MAPPED, 0, internal=internal, port=port, lifetime=lifetime)
    if operation == _ANSWER + 2 and result:
        return Answer(Kind.MAPPED, result)
    # The answer to PCP of a router that knows NAT-PMP alone: a version that it does not support.
    return Answer(Kind.PCP, 1) if result == 1 else None


def _read_pcp(data: bytes) -> Answer | None:
    if len(data) < _PCP_HEAD.size:
        return None
    _, operation, result, lifetime, _ = _PCP_HEAD.unpack_from(data)
    if operation != _ANSWER + _MAP:
        return None
    if len(data) < _PCP_HEAD.size + _PCP_MAP.size:
        return Answer(Kind.PCP, result) if result else None
    nonce, protocol, internal, port, host = _PCP_MAP.unpack_from(data, _PCP_HEAD.size)
    if protocol != _TCP:
        return None
    mapped = ipaddress.IPv6Address(host).ipv4_mapped
    seen = str(mapped) if mapped is not None else ""
    return Answer(Kind.PCP, result, nonce, internal, port, seen, lifetime)
