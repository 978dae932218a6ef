"""What a name server has answered, read within bounds.

Pure. Only the records that were asked for are read, and of those no more than anybody needs: a
message of 64 KiB can hold thousands of records with names of 255 bytes, and whoever reads and
compares them all does nothing else for half a minute. Source: RFC 1035 §4; RFC 2181 §10.
"""

import struct
from dataclasses import dataclass
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.wire

from protocol.dns_weight import Reader, weigh
from protocol.errors import ProtocolViolation

__all__ = ["MAX_RECORDS", "Answer", "Malformed", "Truncated", "Unusable", "read_answer"]

MAX_RECORDS = 128
"""Records of an answer that are looked at."""
_MAX_STEPS = 2_500
"""What reading an answer may take (protocol/dns_weight.py): 4 ms. 128 records of a peer take nearly
as much, and none has so many."""
_MAX_ALIASES = 8
_WITHOUT_QUESTION = (dns.rcode.FORMERR, dns.rcode.SERVFAIL, dns.rcode.NOTIMP, dns.rcode.REFUSED)
"""With these codes a server need not say what it was asked."""


class Unusable(Exception):
    """This is an answer to the question, and no help: another server may know more."""


class Malformed(Unusable):
    """Nobody can read it: it may be a forged one, and the true one may come yet."""


class Truncated(Exception):
    """The answer does not fit into a datagram."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a name server says of one record set."""

    exists: bool
    """Whether there is such a name."""
    data: tuple[Any, ...] = ()
    """The data of the type that was asked for, as dnspython reads it."""
    ttl: int | None = None
    """Seconds for which this may be kept; None: it says nothing."""
    alias: str = ""
    """What the name that was asked for is an alias of; empty: it is none."""


def read_answer(wire: bytes, query: dns.message.QueryMessage) -> Answer | None:
    """Read the answer to a question; None where it is none.

    Raises:
        Truncated, Malformed, Unusable: as they say.
    """
    try:
        return _read(wire, query)
    except ProtocolViolation as error:
        raise Malformed(f"an answer that cannot be read: {error.reason}") from None
    except (dns.exception.DNSException, struct.error, ValueError) as error:
        raise Malformed(f"a malformed answer: {error or type(error).__name__}") from None


def _read(wire: bytes, query: dns.message.QueryMessage) -> Answer | None:
    number, flags, questions, answers, authorities, _ = struct.unpack_from("!6H", wire)
    code = dns.rcode.Rcode(flags & 0x0F)
    if number != query.id or not flags & dns.flags.QR:
        return None
    parser = dns.wire.Parser(wire, 12)
    if questions == 1:
        asked = query.question[0]
        name = parser.get_name(decompress=True)
        kind, category = parser.get_struct("!HH")
        if name != asked.name or kind != asked.rdtype or category != asked.rdclass:
            return None
    elif questions or code not in _WITHOUT_QUESTION:
        return None
    if flags & dns.flags.TC:
        raise Truncated
    if code == dns.rcode.NXDOMAIN:
        return Answer(exists=False)
    if code != dns.rcode.NOERROR or dns.opcode.from_flags(flags) != dns.opcode.QUERY:
        raise Unusable(dns.rcode.to_text(code))
    wanted = frozenset({int(query.question[0].rdtype), int(dns.rdatatype.CNAME)})
    weigh(wire, _MAX_STEPS, Reader(MAX_RECORDS, wanted))
    if not answers and _refers(parser, authorities):
        raise Unusable("it refers to others")
    return _records(parser, answers, query)


def _records(parser: dns.wire.Parser, count: int, query: dns.message.QueryMessage) -> Answer:
    """Return the data at the name that was asked for, or at the one that it is an alias of."""
    wanted = query.question[0].rdtype
    aliases: dict[dns.name.Name, dns.name.Name] = {}
    found: list[tuple[dns.name.Name, Any]] = []
    ttls = []
    for _ in range(min(count, MAX_RECORDS)):
        owner = parser.get_name(decompress=True)
        kind, category, ttl, size = parser.get_struct("!HHIH")
        with parser.restrict_to(size):
            if category != dns.rdataclass.IN or kind not in (wanted, dns.rdatatype.CNAME):
                parser.get_bytes(size)
                continue
            data: Any = dns.rdata.from_wire_parser(
                dns.rdataclass.IN, dns.rdatatype.RdataType(kind), parser
            )
        ttls.append(ttl if ttl < 2**31 else 0)
        if kind == wanted:
            found.append((owner, data))
        else:
            aliases.setdefault(owner, data.target)
    asked = name = query.question[0].name
    for _ in range(_MAX_ALIASES):
        name = aliases.get(name, name)
    return Answer(
        True,
        tuple(data for owner, data in found if owner == name),
        min(ttls, default=None),
        aliases[asked].to_text() if asked in aliases else "",
    )


def _refers(parser: dns.wire.Parser, count: int) -> bool:
    for _ in range(min(count, MAX_RECORDS)):
        parser.get_name(decompress=True)
        kind, _, _, size = parser.get_struct("!HHIH")
        if kind == dns.rdatatype.NS:
            return True
        parser.get_bytes(size)
    return False
