"""Answers of the embedded zone: authoritative, never recursive, never large without cause.

Pure: a query in, a response out. Source: RFC 1034 §4.3.2, RFC 2308 for "there is none", RFC 8482
for ANY.
"""

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset

from relay.dns.zone import Zone

__all__ = ["PAYLOAD", "answer_query", "skeleton"]

PAYLOAD = 1232
"""Bytes that we send and take over UDP: what passes everywhere without fragments."""

_MAX_TARGETS = 8
"""Targets of SRV records whose addresses go with the answer; others can be asked for."""
_ADDRESSES = (dns.rdatatype.A, dns.rdatatype.AAAA)
_TRANSFERS = (dns.rdatatype.AXFR, dns.rdatatype.IXFR, dns.rdatatype.MAILA, dns.rdatatype.MAILB)
_MINIMAL_ANY = dns.rdataset.from_text("IN", "HINFO", 3600, '"RFC8482" ""')


def skeleton(query: dns.message.Message, code: dns.rcode.Rcode) -> dns.message.Message:
    """Return an empty response to a query, to be signed as the query was."""
    response = dns.message.make_response(query, our_payload=PAYLOAD, pad=0)
    response.set_rcode(code)
    return response


def answer_query(zone: Zone, query: dns.message.Message) -> dns.message.Message:
    """Answer a query. What is not ours is REFUSED: there is no recursion."""
    if len(query.question) != 1:
        return skeleton(query, dns.rcode.FORMERR)
    if query.edns > 0:
        return skeleton(query, dns.rcode.BADVERS)
    question = query.question[0]
    name, kind = question.name, question.rdtype
    if (
        question.rdclass != dns.rdataclass.IN
        or kind in _TRANSFERS
        or not name.is_subdomain(zone.origin)
    ):
        return skeleton(query, dns.rcode.REFUSED)
    node = zone.find(name)
    if node is None:
        # A node that has just come does not know who is at the others: somebody else is asked.
        if not zone.is_whole and zone.peer_of(name) is not None:
            return skeleton(query, dns.rcode.SERVFAIL)
        return _nothing(zone, skeleton(query, dns.rcode.NXDOMAIN))
    response = skeleton(query, dns.rcode.NOERROR)
    response.flags |= dns.flags.AA
    if kind == dns.rdatatype.ANY:
        found = _MINIMAL_ANY if node or name == zone.origin else None
    elif kind == dns.rdatatype.SOA and name == zone.origin:
        found = zone.soa
    else:
        found = node.get(kind)
    if found is None:
        return _nothing(zone, response)
    response.answer.append(_rrset(name, found))
    if kind == dns.rdatatype.SRV:
        for target in list(dict.fromkeys(rdata.target for rdata in found))[:_MAX_TARGETS]:
            for address in _ADDRESSES:
                more = (zone.find(target) or {}).get(address)
                if more is not None:
                    response.additional.append(_rrset(target, more))
    return response


def _nothing(zone: Zone, response: dns.message.Message) -> dns.message.Message:
    response.flags |= dns.flags.AA
    response.authority.append(_rrset(zone.origin, zone.soa))
    return response


def _rrset(name: dns.name.Name, rdataset: dns.rdataset.Rdataset) -> dns.rrset.RRset:
    return dns.rrset.from_rdata_list(name, int(rdataset.ttl), list(rdataset))
