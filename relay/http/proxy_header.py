"""The header of the PROXY protocol, versions 1 and 2: bytes in, and whose connection it is.

What is in a header's extensions (TLVs) is passed over; that they fit into the header is checked.
No I/O: who is believed, and how the bytes are read, is elsewhere.
"""

import ipaddress
import re
import struct
from dataclasses import dataclass

from protocol.errors import ProtocolViolation

__all__ = ["MAX_HEADER", "BadProxyHeader", "ProxyHeader", "looks_like_header", "read_header"]

MAX_HEADER = 4_096
"""Bytes of a header with all its extensions: HAProxy's longest, with a certificate's names, are
some hundred."""

_V1 = b"PROXY "
_V1_LONGEST = 107
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED = struct.Struct("!12sBBH")
_V1_LINE = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|(?P<family>TCP4|TCP6) (?P<source>[0-9a-fA-F.:]+) "
    rb"[0-9a-fA-F.:]+ (?P<port>[0-9]{1,5}) [0-9]{1,5})\r\n"
)
_LOCAL, _PROXY = 0, 1
_UNSPECIFIED, _IPV4, _IPV6, _UNIX = 0, 1, 2, 3
_STREAM = 1
_ADDRESSES = {_UNSPECIFIED: 0, _IPV4: 12, _IPV6: 36, _UNIX: 216}
"""Bytes that both addresses take, by family."""


class BadProxyHeader(ProtocolViolation):
    """It begins as a header does, and is none."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What a header says."""

    length: int
    """Bytes that it takes; what the client itself says begins behind them."""
    client: tuple[str, int] | None
    """Where the client is; None where the proxy does not say: it speaks for itself (LOCAL, a health
    check), or for a client without an address (UNKNOWN, a UNIX socket)."""


def looks_like_header(data: bytes) -> bool | None:
    """Whether a connection begins with a header; None where more bytes must say."""
    for signature in (_V1, _V2):
        if data.startswith(signature):
            return True
        if signature.startswith(data):
            return None
    return False


def read_header(data: bytes) -> ProxyHeader | None:
    """Return the header that a connection begins with; None where more bytes are needed.

    Raises:
        BadProxyHeader: it is malformed.
    """
    return _read_v2(data) if data.startswith(_V2) else _read_v1(data)


def _read_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\n", 0, _V1_LONGEST) + 1
    if not end:
        if len(data) >= _V1_LONGEST:
            raise BadProxyHeader("the line of version 1 does not end")
        return None
    line = _V1_LINE.fullmatch(data, 0, end)
    if line is None:
        raise BadProxyHeader("the line of version 1 is malformed")
    if line["family"] is None:
        return ProxyHeader(end, None)
    port = int(line["port"])
    try:
        family = ipaddress.IPv4Address if line["family"] == b"TCP4" else ipaddress.IPv6Address
        address = family(line["source"].decode())
    except ValueError as error:
        raise BadProxyHeader(f"version 1: {error}") from None
    if port > 65_535:
        raise BadProxyHeader(f"version 1: {port} is no port")
    return ProxyHeader(end, _client(address, port))


def _read_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_FIXED.size:
        return None
    _, command, kind, size = _V2_FIXED.unpack_from(data)
    length = _V2_FIXED.size + size
    family, transport = kind >> 4, kind & 15
    if command >> 4 != 2 or command & 15 not in (_LOCAL, _PROXY):
        raise BadProxyHeader(f"version 2: {command:#04x} is no version and command")
    if length > MAX_HEADER:
        raise BadProxyHeader(f"version 2: {length} bytes are too many")
    if len(data) < length:
        return None
    if command & 15 == _LOCAL:
        return ProxyHeader(length, None)
    if family not in _ADDRESSES or transport > 2:
        raise BadProxyHeader(f"version 2: {kind:#04x} is no family and transport")
    if size < _ADDRESSES[family]:
        raise BadProxyHeader("version 2: the addresses are cut off")
    body = data[_V2_FIXED.size : length]
    _check_extensions(body[_ADDRESSES[family] :])
    if transport != _STREAM or family not in (_IPV4, _IPV6):
        return ProxyHeader(length, None)
    if family == _IPV4:
        return ProxyHeader(
            length,
            _client(ipaddress.IPv4Address(body[:4]), int.from_bytes(body[8:10], "big")),
        )
    return ProxyHeader(
        length,
        _client(ipaddress.IPv6Address(body[:16]), int.from_bytes(body[32:34], "big")),
    )


def _check_extensions(data: bytes) -> None:
    while data:
        if len(data) < 3 or len(data) < (end := 3 + int.from_bytes(data[1:3], "big")):
            raise BadProxyHeader("version 2: an extension is cut off")
        data = data[end:]


def _client(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> tuple[str, int] | None:
    """Return an address as everywhere else; None where it is the one that says nothing."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return None if address.is_unspecified else (str(address), port)
