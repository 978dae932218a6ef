"""Updates of the embedded zone: RFC 2136 §3, for names of the key's own peer alone.

Pure: a message in, the peer's new record sets out, or a code that says why not. All of it holds or
nothing does.
"""

from collections.abc import Iterable

import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset

from relay.config import DnsConfig
from relay.dns.signed import TYPES, UpdateReader
from relay.dns.zone import Records, RecordSets, Zone

__all__ = ["MAX_SET", "UpdateFailed", "updated"]

MAX_SET = 32
"""Records of one set: making an answer of so many takes 1 ms. A service of a peer has 16 endpoints
at most."""

_CLEARED = 64
"""Records that an update of ours has beside those that it adds: it clears every address."""
_SHORTEST_TTL, _LONGEST_TTL = 1, 3600
_ANY, _NONE = dns.rdataclass.ANY, dns.rdataclass.NONE


class UpdateFailed(Exception):
    """The update is not made; `code` is the answer."""

    def __init__(self, code: dns.rcode.Rcode) -> None:
        super().__init__(dns.rcode.to_text(code))
        self.code = code


def updated(zone: Zone, config: DnsConfig, guid: str, message: UpdateReader) -> Records:
    """Return the record sets of the peer `guid` as they are after its update.

    Raises:
        UpdateFailed: nothing is changed.
    """
    _check_zone(zone, message)
    # Replacing all records of a peer takes about twice as many, and those of its addresses.
    if len(message.update) + len(message.prerequisite) > 2 * config.max_records + _CLEARED:
        raise UpdateFailed(dns.rcode.REFUSED)
    _check_prerequisites(zone, message.prerequisite)
    _scan(zone, guid, message.update)
    sets = _applied(zone.sets_of(guid), message.update)
    _check_size(config, sets)
    if sets and not zone.holds(guid) and zone.stored_peers >= config.max_peers:
        raise UpdateFailed(dns.rcode.REFUSED)
    return sets


def _check_zone(zone: Zone, message: UpdateReader) -> None:
    """RFC 2136 §3.1."""
    if len(message.zone) != 1 or message.zone[0].rdtype != dns.rdatatype.SOA:
        raise UpdateFailed(dns.rcode.FORMERR)
    if message.zone[0].name != zone.origin or message.zone[0].rdclass != dns.rdataclass.IN:
        raise UpdateFailed(dns.rcode.NOTAUTH)


def _check_prerequisites(zone: Zone, prerequisites: Iterable[dns.rrset.RRset]) -> None:
    """RFC 2136 §3.2."""
    wanted: dict[tuple[dns.name.Name, dns.rdatatype.RdataType], set[dns.rdata.Rdata]] = {}
    for rrset in prerequisites:
        if rrset.ttl != 0:
            raise UpdateFailed(dns.rcode.FORMERR)
        if not rrset.name.is_subdomain(zone.origin):
            raise UpdateFailed(dns.rcode.NOTZONE)
        node = _node(zone, rrset.name)
        if rrset.deleting is None:
            if _is_meta(rrset.rdtype):
                raise UpdateFailed(dns.rcode.FORMERR)
            if rrset.rdtype not in TYPES:
                raise UpdateFailed(dns.rcode.NXRRSET)
            wanted.setdefault((rrset.name, rrset.rdtype), set()).update(rrset)
        elif rrset.deleting == _ANY:
            if rrset.rdtype == dns.rdatatype.ANY and not node:
                raise UpdateFailed(dns.rcode.NXDOMAIN)
            if rrset.rdtype != dns.rdatatype.ANY and rrset.rdtype not in node:
                raise UpdateFailed(dns.rcode.NXRRSET)
        elif rrset.rdtype == dns.rdatatype.ANY:
            if node:
                raise UpdateFailed(dns.rcode.YXDOMAIN)
        elif rrset.rdtype in node:
            raise UpdateFailed(dns.rcode.YXRRSET)
    for (name, kind), data in wanted.items():
        if set(_node(zone, name).get(kind, ())) != data:
            raise UpdateFailed(dns.rcode.NXRRSET)


def _node(zone: Zone, name: dns.name.Name) -> RecordSets:
    node = dict(zone.find(name) or {})
    if name == zone.origin:
        node[dns.rdatatype.SOA] = zone.soa
    return node


def _scan(zone: Zone, guid: str, updates: Iterable[dns.rrset.RRset]) -> None:
    """RFC 2136 §3.4.1, and what the key may do: §3.3."""
    for rrset in updates:
        if not rrset.name.is_subdomain(zone.origin):
            raise UpdateFailed(dns.rcode.NOTZONE)
        if rrset.deleting is None or rrset.deleting == _NONE:
            if _is_meta(rrset.rdtype):
                raise UpdateFailed(dns.rcode.FORMERR)
        elif _is_meta(rrset.rdtype) and rrset.rdtype != dns.rdatatype.ANY:
            raise UpdateFailed(dns.rcode.FORMERR)
        if rrset.deleting is not None and rrset.ttl != 0:
            raise UpdateFailed(dns.rcode.FORMERR)
    for rrset in updates:
        if zone.peer_of(rrset.name) != guid:
            raise UpdateFailed(dns.rcode.REFUSED)
        if rrset.rdtype not in TYPES and rrset.rdtype != dns.rdatatype.ANY:
            raise UpdateFailed(dns.rcode.REFUSED)


_Data = dict[dns.rdata.Rdata, None]
_Made = dict[dns.rdatatype.RdataType, tuple[int, _Data]]
_Labels = tuple[bytes, ...]


def _labels(name: dns.name.Name) -> _Labels:
    """Return what equal names have in common: dnspython's own hash takes ten times as long."""
    return tuple(map(bytes.lower, name.labels))


def _applied(sets: Records, updates: Iterable[dns.rrset.RRset]) -> Records:
    """RFC 2136 §3.4.2. The data of each set are looked up by value: a long update costs no more for
    each of its records than a short one."""
    made: dict[_Labels, tuple[dns.name.Name, _Made]] = {
        _labels(name): (
            name,
            {kind: (int(one.ttl), dict.fromkeys(one)) for kind, one in node.items()},
        )
        for name, node in sets.items()
    }
    for rrset in updates:
        _, node = made.setdefault(_labels(rrset.name), (rrset.name, {}))
        known: _Data = node[rrset.rdtype][1] if rrset.rdtype in node else {}
        if rrset.deleting is None:
            known.update(dict.fromkeys(rrset))
            ttl = min(max(int(rrset.ttl), _SHORTEST_TTL), _LONGEST_TTL)
            node[rrset.rdtype] = ttl, known
        elif rrset.deleting == _NONE:
            for rdata in rrset:
                known.pop(rdata, None)
        elif rrset.rdtype == dns.rdatatype.ANY:
            node.clear()
        else:
            node.pop(rrset.rdtype, None)
    left = {
        name: {
            kind: dns.rdataset.from_rdata_list(ttl, list(data))
            for kind, (ttl, data) in node.items()
            if data
        }
        for name, node in made.values()
    }
    return {name: node for name, node in left.items() if node}


def _check_size(config: DnsConfig, sets: Records) -> None:
    if any(len(rdataset) > MAX_SET for node in sets.values() for rdataset in node.values()):
        raise UpdateFailed(dns.rcode.REFUSED)
    texts = [
        rdata.to_text()
        for node in sets.values()
        for rdataset in node.values()
        for rdata in rdataset
    ]
    if len(texts) > config.max_records or sum(map(len, texts)) > config.max_bytes:
        raise UpdateFailed(dns.rcode.REFUSED)


def _is_meta(kind: dns.rdatatype.RdataType) -> bool:
    return dns.rdatatype.is_metatype(kind)
