"""Transaction signatures (RFC 8945) on a clock that can be corrected.

dnspython signs and checks by the system's clock alone. A host whose clock is wrong, and there are
many without a battery, must be able to learn the server's time and sign by it.
"""

import hmac
import struct
from dataclasses import dataclass
from typing import Any, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TSIG
import dns.tsig

from protocol.dns_weight import Reader, weigh
from protocol.errors import NameServerUnavailable, ProtocolViolation, UpdateRefused

__all__ = ["ClockIsWrong", "Signed", "open_answer", "sign"]

_FUDGE = 300
_MAX_STEPS = 32_768
"""What passing over an answer may take (protocol/dns_weight.py): 5 ms. It may be as long as what we
have sent."""
_HASHES = {
    dns.tsig.HMAC_SHA256: "sha256",
    dns.tsig.HMAC_SHA384: "sha384",
    dns.tsig.HMAC_SHA512: "sha512",
}
_HINTS = {
    dns.rcode.BADKEY: "the server does not know this key: is it for this zone and server?",
    dns.rcode.BADSIG: "the secret differs from the server's: get the key anew",
    dns.rcode.BADTRUNC: "the server cuts signatures shorter",
}


class ClockIsWrong(NameServerUnavailable):
    """The server's clock differs from ours by too much; `server_time` is its own, in seconds."""

    def __init__(self, server_time: int) -> None:
        super().__init__("this host's clock differs from the name server's by over 5 minutes")
        self.server_time = server_time


@dataclass(frozen=True, slots=True)
class Signed:
    """A message with its signature, as it travels."""

    number: int
    opcode: dns.opcode.Opcode
    """Both are the message's; the answer has the same."""
    wire: bytes
    mac: bytes


def sign(message: dns.message.Message, key: dns.tsig.Key, now: float) -> Signed:
    """Sign a message as of `now`, in seconds since 1970.

    Raises:
        UpdateRefused: it does not fit in one message.
    """
    try:
        wire = message.to_wire(max_size=65_535 - 512)
    except dns.exception.TooBig:
        raise UpdateRefused("too many services and addresses for one DNS message") from None
    blank = cast(Any, dns.rdtypes.ANY.TSIG.TSIG)(
        dns.rdataclass.ANY,
        dns.rdatatype.TSIG,
        key.algorithm,
        _seconds(now),
        _FUDGE,
        b"",
        message.id,
        dns.rcode.NOERROR,
        b"",
    )
    rdata, _ = cast(Any, dns.tsig.sign)(wire, key, blank, _seconds(now))
    data: bytes = rdata.to_wire()
    record: bytes = (key.name.to_wire() or b"") + struct.pack(
        "!HHIH", dns.rdatatype.TSIG, dns.rdataclass.ANY, 0, len(data)
    )
    (additional,) = struct.unpack("!H", wire[10:12])
    wire = wire[:10] + struct.pack("!H", additional + 1) + wire[12:] + record + data
    return Signed(message.id, message.opcode(), wire, rdata.mac)


def open_answer(wire: bytes, signed: Signed, key: dns.tsig.Key, now: float) -> dns.rcode.Rcode:
    """Return the code of the answer to a signed message; `now` is the time by which that was
    signed.

    Raises:
        ClockIsWrong: the server says so, and has signed it.
        UpdateRefused: the server does not take the key or the signature.
        NameServerUnavailable: malformed, not the answer, or not signed by the server.
    """
    try:
        number, flags = struct.unpack_from("!2H8x", wire)
        if (
            number != signed.number
            or not flags & dns.flags.QR
            or dns.opcode.from_flags(flags) != signed.opcode
        ):
            raise NameServerUnavailable("the name server answered something else")
        code = dns.rcode.Rcode(flags & 0x0F)
        owner, rdata, start = _signature(wire)
        if rdata is None:
            raise NameServerUnavailable(
                f"the name server's answer ({dns.rcode.to_text(code)}) is not signed: it may not "
                "take the key, its secret, or this host's clock"
            )
        if rdata.error in _HINTS:
            # Neither can be signed: the server has no key to do it with.
            fault = dns.rcode.Rcode(rdata.error)
            raise UpdateRefused(f"{dns.rcode.to_text(fault, tsig=True)}: {_HINTS[fault]}")
        if rdata.error == dns.rcode.BADTIME:
            _check_bad_time(wire, start, rdata, signed, key)
            raise ClockIsWrong(int.from_bytes(rdata.other[:6], "big"))
        cast(Any, dns.tsig.validate)(wire, key, owner, rdata, _seconds(now), signed.mac, start)
    except ProtocolViolation as error:
        raise NameServerUnavailable(
            f"the name server's answer cannot be used: {error.reason}"
        ) from None
    except (dns.exception.DNSException, struct.error, ValueError) as error:
        raise NameServerUnavailable(
            f"the name server's answer cannot be used: {error or type(error).__name__}"
        ) from None
    return code


def _signature(wire: bytes) -> tuple[dns.name.Name, Any, int]:
    """Return the name, the data and the place of the TSIG record; no data where the last record is
    none. What is before it is passed over: a server may send back all that we have sent."""
    start = weigh(wire, _MAX_STEPS, Reader(_MAX_STEPS, frozenset())).signature
    if start is None:
        return dns.name.root, None, 0
    owner, length = dns.name.from_wire(wire, start)
    category, ttl, size = struct.unpack_from("!2xHIH", wire, start + length)
    if (category, ttl) != (dns.rdataclass.ANY, 0):
        return dns.name.root, None, 0
    data = dns.rdata.from_wire(
        dns.rdataclass.ANY, dns.rdatatype.TSIG, wire, start + length + 10, size
    )
    return owner, data, start


def _seconds(now: float) -> int:
    """A server that has the key may have told us any time: the field has 48 bits."""
    return min(max(int(now), 0), 2**48 - 1)


def _check_bad_time(wire: bytes, start: int, rdata: Any, signed: Signed, key: dns.tsig.Key) -> None:
    """Check the signature of an answer with BADTIME, which dnspython does not do: whoever could
    forge it would get a message that is signed for a time to come (RFC 8945 §5.2.3)."""
    (additional,) = struct.unpack("!H", wire[10:12])
    time = struct.pack("!HIH", rdata.time_signed >> 32, rdata.time_signed & 0xFFFFFFFF, rdata.fudge)
    parts = (
        struct.pack("!H", len(signed.mac)) + signed.mac,
        struct.pack("!H", rdata.original_id) + wire[2:10] + struct.pack("!H", additional - 1),
        wire[12:start],
        key.name.to_digestable() + struct.pack("!HI", dns.rdataclass.ANY, 0),
        key.algorithm.to_digestable() + time,
        struct.pack("!HH", rdata.error, len(rdata.other)) + rdata.other,
    )
    ours = hmac.digest(key.secret, b"".join(parts), _HASHES[key.algorithm])
    if len(rdata.other) != 6 or not hmac.compare_digest(ours, rdata.mac):
        raise NameServerUnavailable("an answer about our clock that the name server has not signed")
