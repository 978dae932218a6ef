"""Updates as they come: the signature before anything else, and then the records, some at a time.

Nobody who has no key makes us read more than a question and a signature. Pure: the time goes in.
Source: RFC 8945 §5.2 for signatures; RFC 2136 §2 for what a record of an update may look like.
"""

import struct
from dataclasses import dataclass
from typing import Any, cast

import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.wire

from protocol.dns_weight import Counts, Weight
from relay.dns.keys import DnsKeys

__all__ = [
    "FUDGE",
    "TYPES",
    "BadSignature",
    "Signature",
    "SignedMessage",
    "UpdateReader",
    "question_of",
    "verify",
]

TYPES = frozenset({dns.rdatatype.A, dns.rdatatype.AAAA, dns.rdatatype.SRV, dns.rdatatype.TXT})
"""What a peer may register: a zone that took more could be made to delegate or to alias."""
FUDGE = 300
"""Seconds by which a signed message's clock may differ from ours (RFC 8945 §10)."""
_LONGEST_TTL = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Signature:
    """The TSIG record of a message."""

    owner: dns.name.Name
    rdata: Any


@dataclass(frozen=True, slots=True)
class BadSignature:
    """A signature that does not hold, and what to answer."""

    question: dns.message.Message
    """The message without its records."""
    signature: Signature
    error: dns.rcode.Rcode
    key: dns.tsig.Key | None = None


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """A message under a signature that holds; its records have not been read."""

    wire: bytes
    weight: Weight
    key: dns.tsig.Key
    signature: Signature

    @property
    def mac(self) -> bytes:
        """What is no other message's."""
        mac: bytes = self.signature.rdata.mac
        return mac

    def sign(self, response: dns.message.Message) -> None:
        """Have the response to it signed by the same key."""
        response.use_tsig(
            self.key,
            self.signature.owner,
            FUDGE,
            algorithm=self.signature.rdata.algorithm,
        )
        response.request_mac = self.mac


def question_of(wire: bytes, weight: Weight) -> dns.message.Message:
    """Return a message without its records, but for what EDNS says.

    Nobody's records are read to find out what is asked: dnspython keeps a class for each pair of
    type and class that it has met, for ever, and for one that it does not know a blank one, which
    may then stand for the one of class IN.

    Raises:
        dns.exception.DNSException: malformed.
    """
    bare = wire[:4] + struct.pack("!4H", weight.counts.questions, 0, 0, 0)
    message = dns.message.from_wire(bare + wire[12 : weight.question_end])
    if weight.payload is not None:
        message.use_edns(weight.edns, payload=weight.payload)
    return message


def verify(
    wire: bytes, weight: Weight, start: int, keys: DnsKeys, now: float
) -> SignedMessage | BadSignature:
    """Check the signature of a message, which begins at `start`.

    Raises:
        dns.exception.DNSException, ValueError, struct.error: malformed.
    """
    owner, length = dns.name.from_wire(wire, start)
    place = start + length
    _, category, ttl, size = struct.unpack_from("!HHIH", wire, place)
    if category != dns.rdataclass.ANY or ttl:
        raise ValueError("a TSIG record of an unknown kind")
    rdata = dns.rdata.from_wire(category, dns.rdatatype.TSIG, wire, place + 10, size)
    signature = Signature(owner, rdata)
    found = keys.find(owner)
    if not found:
        return BadSignature(question_of(wire, weight), signature, dns.rcode.BADKEY)
    error, by = dns.rcode.BADSIG, found[0]
    for key in found:
        try:
            cast(Any, dns.tsig.validate)(wire, key, owner, rdata, now, b"", start)
        except dns.tsig.BadTime:
            error, by = dns.rcode.BADTIME, key  # The signature itself holds.
        except (dns.tsig.BadSignature, dns.tsig.BadAlgorithm, dns.tsig.PeerError):
            continue
        else:
            return SignedMessage(wire, weight, key, signature)
    return BadSignature(question_of(wire, weight), signature, error, by)


class UpdateReader:
    """Reads the records of an update, a few at each call of `more`, so that nobody waits for all of
    a long one."""

    def __init__(self, wire: bytes, counts: Counts) -> None:
        self._parser = dns.wire.Parser(wire, 12)
        self._left = [counts.answers, counts.authorities]
        self.zone: list[dns.rrset.RRset] = []
        self.prerequisite: list[dns.rrset.RRset] = []
        self.update: list[dns.rrset.RRset] = []

    def more(self, records: int) -> bool:
        """Read so many records more; return whether there are others.

        Raises:
            dns.exception.DNSException, ValueError, struct.error: malformed.
        """
        if not self.zone:
            self._read_zone()
        for _ in range(min(records, sum(self._left))):
            if self._left[0]:
                self._left[0] -= 1
                self.prerequisite.append(self._record(without_data=True))
            else:
                self._left[1] -= 1
                self.update.append(self._record(without_data=False))
        return any(self._left)

    # -- inside ---------------------------------------------------------------------------------

    def _read_zone(self) -> None:
        name = self._parser.get_name(decompress=True)
        kind, category = self._parser.get_struct("!HH")
        if dns.rdataclass.is_metaclass(category):
            raise ValueError("a zone of all classes or none")
        self.zone.append(dns.rrset.RRset(name, category, dns.rdatatype.RdataType.make(kind)))

    def _record(self, *, without_data: bool) -> dns.rrset.RRset:
        """Read one record; of class NONE it has data among the updates alone."""
        name = self._parser.get_name(decompress=True)
        number, category, ttl, size = self._parser.get_struct("!HHIH")
        kind = dns.rdatatype.RdataType.make(number)
        deleting = None
        if category in (dns.rdataclass.ANY, dns.rdataclass.NONE):
            deleting = dns.rdataclass.RdataClass.make(category)
            category = self.zone[0].rdclass
        elif category != self.zone[0].rdclass:
            raise ValueError("a record of another class")
        empty = deleting == dns.rdataclass.ANY or (deleting is not None and without_data)
        rrset = dns.rrset.RRset(
            name, dns.rdataclass.RdataClass.make(category), kind, deleting=deleting
        )
        if empty:
            if size:
                raise ValueError("data where there must be none")
            return rrset
        if kind not in TYPES:
            # No peer may have one: its data are not read, and what it is is enough to refuse it.
            self._parser.get_bytes(size)
            return rrset
        with self._parser.restrict_to(size):
            data = dns.rdata.from_wire_parser(rrset.rdclass, kind, self._parser)
        rrset.add(data, ttl if ttl <= _LONGEST_TTL else 0)
        return rrset
