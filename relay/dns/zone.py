"""What the embedded zone holds: peers with a control connection, and what updates have stored.

Of one peer the location record with the higher number counts, wherever it comes from. In a cluster
a peer may be at another node: what the zone shows of it, that node has told. No I/O; what a query
or an update means is decided in answer.py and update.py.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import dns.exception
import dns.name
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import msgspec

from protocol.dns_records import RecordSets as TextRecords
from protocol.dns_records import (
    location_record_sets,
    parse_zone,
    peer_name,
    read_zone_record,
)
from protocol.endpoint import Endpoint, SignedEntry
from relay.backplane import Naming
from relay.config import DnsConfig
from relay.dns.store import Stored, ZoneStore, read_records, write_records
from relay.presence import Registry, read_named

__all__ = ["RecordSets", "Records", "SharedZone", "Zone", "ZonePeers"]

_APEX_TTL = 3600
_NEGATIVE_TTL = 5
"""Seconds for which "there is none" may be kept: a peer that has just come must be found."""
_TTL = 30

RecordSets = dict[dns.rdatatype.RdataType, dns.rdataset.Rdataset]
"""All at one name."""
Records = dict[dns.name.Name, RecordSets]
"""Names in full, in lower case."""


class _MadeFrom(NamedTuple):
    """What the records of a registered peer depend on."""

    seq: int
    instance: bytes
    told: bytes | None
    """What its node tells the others; None: there are none."""
    hosts: frozenset[str] = frozenset()
    proofs: tuple[Endpoint, ...] = ()


@dataclass(slots=True)
class _Held:
    """What updates have registered for a peer."""

    change: int
    """Which one has put it here."""
    body: bytes
    read: tuple[int, Records] | None = None
    """The number of the record, and its sets; None: nobody has asked yet."""


def _everybody(guid: str, host: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class ZonePeers:
    """Who is here, and who may be."""

    registry: Registry
    admits: Callable[[str, str], bool] = _everybody
    """Whether a peer, by its GUID, may come from a host."""
    shared: "SharedZone | None" = None
    """What several nodes have together; None: there is no other one."""


@dataclass(frozen=True, slots=True)
class SharedZone:
    """What nodes have together that serve one zone."""

    naming: Naming
    store: ZoneStore
    has_learned: Callable[[], bool]
    """Whether it is known who is at the other nodes, or was once."""


class Zone:
    """One zone. `stored` is what the store has found."""

    def __init__(self, config: DnsConfig, peers: ZonePeers) -> None:
        self.name = parse_zone(config.zone)
        self.origin = dns.name.from_text(self.name)
        self.admits = peers.admits
        self._registry = peers.registry
        self._stored: dict[str, _Held] = {}
        self._changes = 0
        self._shown: dict[str, tuple[_MadeFrom, Records]] = {}
        shared = self._shared = peers.shared
        self._naming = Naming(self.name, time.time) if shared is None else shared.naming
        self._config = config
        self._nameserver = parse_zone(config.nameserver or f"ns.{self.name}")
        self._static: Records = {}
        self.show_relay(0)

    # -- what there is --------------------------------------------------------------------------

    def peer_of(self, name: dns.name.Name) -> str | None:
        """Return the GUID that a name belongs to; None where it is no peer's."""
        if not name.is_subdomain(self.origin) or len(name) == len(self.origin):
            return None
        label: bytes = name[-len(self.origin) - 1]
        return label.decode("ascii", "replace").lower()

    def version_of(self, guid: str) -> tuple[object, ...]:
        """Return what is another one as soon as anything of a peer is."""
        held = self._stored.get(guid)
        return 0 if held is None else held.change, self._made_from(guid)

    @property
    def is_whole(self) -> bool:
        """Whether it is known what there is, or was once: else nobody can say that a name is not
        there."""
        shared = self._shared
        return shared is None or (shared.has_learned() and shared.store.has_learned)

    def sets_of(self, guid: str) -> Records:
        """Return all records of a peer, by name; empty where there are none."""
        stored_seq, stored = self._read(guid)
        made_from = self._made_from(guid)
        if made_from is None or made_from.seq <= stored_seq:
            return stored
        return self._registered(guid, made_from) or stored

    def find(self, name: dns.name.Name) -> RecordSets | None:
        """Return the record sets at a name: none at a name that only has others below it; None
        where there is no such name."""
        guid = self.peer_of(name)
        sets = self._static
        if guid is not None and name not in sets:
            sets = self.sets_of(guid)
        found = sets.get(name)
        if found is not None:
            return found
        return {} if any(one.is_subdomain(name) for one in sets) else None

    @property
    def soa(self) -> dns.rdataset.Rdataset:
        """The SOA record of now."""
        return dns.rdataset.from_text(
            "IN",
            "SOA",
            _NEGATIVE_TTL,
            f"{self._nameserver}. hostmaster.{self.name}. {self._naming.serial} 3600 600 86400 "
            f"{_NEGATIVE_TTL}",
        )

    # -- what changes ---------------------------------------------------------------------------

    def show_relay(self, port: int) -> None:
        """Name the relay itself at this port: what `dns:<zone>` finds."""
        self._static = self._apex(self._config, port)

    def replace(self, guid: str, body: bytes, serial: int = 0) -> None:
        """Replace what updates have registered for a peer: as it is stored; empty: nothing.
        `serial` is the zone's number with that, where another node may have given it."""
        self._changes += 1
        if body:
            self._stored[guid] = _Held(self._changes, body)
        else:
            self._stored.pop(guid, None)
        if serial:
            self._naming.heard(self.name, serial)
        else:
            self._naming.changed()

    @property
    def stored_peers(self) -> int:
        """How many peers updates have registered."""
        return len(self._stored)

    def holds(self, guid: str) -> bool:
        """Whether updates have registered a peer."""
        return guid in self._stored

    def to_stored(self, sets: Records) -> bytes:
        """Return record sets as they are stored."""
        return write_records(
            {
                (name.relativize(self.origin).to_text(), dns.rdatatype.to_text(kind)): (
                    int(rdataset.ttl),
                    tuple(rdata.to_text() for rdata in rdataset),
                )
                for name, node in sets.items()
                for kind, rdataset in node.items()
            }
        )

    # -- inside ---------------------------------------------------------------------------------

    def _read(self, guid: str) -> tuple[int, Records]:
        """Return the number of the record that updates have registered, and its sets: read when
        they are asked for."""
        held = self._stored.get(guid)
        if held is None:
            return -1, {}
        if held.read is None:
            try:
                sets = self._from_stored(read_records(held.body))
            except (msgspec.MsgspecError, dns.exception.DNSException, ValueError):
                sets = {}  # Of another version.
            held.read = self._number(guid, sets), sets
        return held.read

    def _from_stored(self, records: Stored) -> Records:
        sets: Records = {}
        for (name, kind), (ttl, data) in records.items():
            owner = dns.name.from_text(name, self.origin)
            rdataset = dns.rdataset.from_text_list("IN", kind, ttl, data)
            sets.setdefault(owner, {})[rdataset.rdtype] = rdataset
        return sets

    def _number(self, guid: str, sets: Records) -> int:
        own = sets.get(dns.name.from_text(peer_name(guid, self.name)), {})
        for rdata in own.get(dns.rdatatype.TXT, ()):
            record = read_zone_record(rdata.strings)
            if record is not None:
                return record.seq
        return 0

    def _registered(self, guid: str, made_from: "_MadeFrom") -> Records:
        """Return the records of a peer that is here, or at another node: what anybody may know,
        made once."""
        known = self._shown.get(guid)
        if known is not None and known[0] == made_from:
            return known[1]
        peer = self._registry.get(guid)
        services: Mapping[str, tuple[SignedEntry, ...]] = {}
        if made_from.told is not None:
            services = read_named(made_from.told)
        elif peer is not None:
            services = peer.public()
        sets: Records = {}
        if services:
            records = location_record_sets(
                guid, self.name, made_from.seq, services, made_from.instance
            )
            sets = _from_text(records)
        self._shown[guid] = made_from, sets
        self._shown_changed()
        return sets

    def _made_from(self, guid: str) -> "_MadeFrom | None":
        """Return what a peer's records depend on; None where it is nowhere."""
        claim = self._registry.home(guid)
        if claim is not None:
            return _MadeFrom(claim.seq, claim.instance, claim.named)
        peer = self._registry.get(guid)
        if peer is None:
            return None
        if self._shared is not None:
            return _MadeFrom(peer.record.seq, peer.instance, peer.told)
        hosts, proofs = peer.observed_hosts, tuple(peer.proofs)
        return _MadeFrom(peer.record.seq, peer.instance, None, hosts, proofs)

    def forget(self) -> None:
        """Drop what was made for peers that have gone: call it every now and then."""
        for guid in list(self._shown):
            if self._made_from(guid) is None:
                del self._shown[guid]
                self._shown_changed()

    def _shown_changed(self) -> None:
        """It is seen here that something has changed; among several nodes, the one where it has
        happened says so at once."""
        if self._shared is None:
            self._naming.changed()

    def _apex(self, config: DnsConfig, relay_port: int) -> Records:
        records: TextRecords = {(self.name, "NS"): (f"{self._nameserver}.",)}
        if self._nameserver.endswith(f".{self.name}"):
            records |= _addresses(self._nameserver, config.own_addresses)
        if config.own_addresses and relay_port:
            relay = f"relay.{self.name}"
            records |= _addresses(relay, config.own_addresses)
            records[f"_roam-relay._tcp.{self.name}", "SRV"] = (f"0 0 {relay_port} {relay}.",)
        sets = _from_text(records, _APEX_TTL)
        sets.setdefault(self.origin, {})
        return sets


def _addresses(name: str, hosts: Iterable[str]) -> TextRecords:
    hosts = tuple(hosts)
    sets = {
        (name, "AAAA"): tuple(host for host in hosts if ":" in host),
        (name, "A"): tuple(host for host in hosts if ":" not in host),
    }
    return {key: data for key, data in sets.items() if data}


def _from_text(records: TextRecords, ttl: int = _TTL) -> Records:
    sets: Records = {}
    for (name, kind), data in records.items():
        rdataset = dns.rdataset.from_text_list("IN", kind, ttl, data)
        sets.setdefault(dns.name.from_text(name), {})[rdataset.rdtype] = rdataset
    return sets
