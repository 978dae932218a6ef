"""What this peer says of where it is: signed entries, and the number that only grows.

It is told the addresses; it looks for none. The same entries go to the relay (in the location
record), to a callee or caller (in requests and answers) and to the other side of a session.
"""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from protocol.codec import encode_location
from protocol.endpoint import Endpoint, Entry, Phase, Provenance, SignedEntry, sign_entry
from protocol.errors import ProtocolViolation
from protocol.identity import Identity
from protocol.messages import (
    MAX_ENTRIES,
    MAX_MESSAGE_BYTES,
    Disclosure,
    LocationRecord,
    ServiceRecord,
)

__all__ = ["FARTHEST_AHEAD", "MAX_RECORD_BYTES", "Hosts", "Offered", "OwnLocation", "fits"]

MAX_RECORD_BYTES = MAX_MESSAGE_BYTES - 512
"""Bytes of a location record: the message that registers it has a signature and keys beside it."""
FARTHEST_AHEAD = 100 * 365 * 86_400_000
"""Milliseconds by which a number may be ahead of this host's clock: what follows a clock that ran
fast, or one that stands at 1970, is nearer."""
_FEWEST_ENTRIES = 4
"""Addresses of each service for which a record has room, however long its lists of GUIDs are."""
_LONGEST_BODY = 151
"""Bytes of the longest entry: a service of 63 letters at an IPv6 address in full."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A service of this peer, as its record tells it."""

    service: str
    port: int | None
    """Where another program serves it; None where its sessions come to this peer."""
    disclosure: Disclosure
    listed: tuple[str, ...] = ()
    """The GUIDs of a disclosure to those that are listed."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """This host's addresses, as far as they are told."""

    own: tuple[str, ...] = ()
    """Its own ones, newest first."""
    live: frozenset[str] = frozenset()
    """Those that have just been used with success: they are `preferred`, the others `new`."""
    leaving: frozenset[str] = frozenset()
    """Those that are for old sessions only."""
    observed: tuple[str, ...] = ()
    """Those that are not its own: the relay has seen them."""
    mapped: Endpoint | None = None
    """Where a router passes others on to this peer."""


def _clock() -> int:
    """Milliseconds since 1970, as this host knows them: where numbers come from."""
    return max(0, time.time_ns() // 1_000_000)


def fits(services: Iterable[Offered]) -> bool:
    """Whether a record of these services has room for some addresses of each, whichever they are:
    then it can be registered, wherever this host goes."""
    entry = SignedEntry(bytes(_LONGEST_BODY), bytes(64))
    record = LocationRecord(
        2**63 - 1,
        tuple(
            ServiceRecord(one.service, (entry,) * _FEWEST_ENTRIES, one.disclosure, one.listed)
            for one in services
        ),
    )
    return len(encode_location(record)) <= MAX_RECORD_BYTES


class OwnLocation:
    """The addresses of this peer, newest first, and what is signed of them.

    `port` is where direct paths are accepted, on every address; `configured` are addresses to tell
    beside this host's own, `lifetime` is in seconds. Signatures are made once for each
    service and change, not for each path.
    """

    def __init__(
        self, identity: Identity, port: int, *, configured: Sequence[str], lifetime: int
    ) -> None:
        self._identity = identity
        self._port = port
        self._configured = tuple(configured)
        self._lifetime = lifetime
        self.instance = os.urandom(16)
        """Tells this process from another one with the same key."""
        self._seq = 0
        self._signed: dict[tuple[str, str, int], SignedEntry] = {}
        self._hosts = Hosts()
        self._addresses: dict[str, tuple[Provenance, Phase]] = {}
        self._mapped: Endpoint | None = None
        self.update(self._hosts)

    @property
    def port(self) -> int:
        """Where direct paths are accepted."""
        return self._port

    @property
    def addresses(self) -> dict[str, tuple[Provenance, Phase]]:
        """The addresses, newest first."""
        return dict(self._addresses)

    def update(self, hosts: Hosts) -> bool:
        """Replace the addresses; return whether anything is different now."""
        self._hosts = hosts
        new = dict.fromkeys(hosts.own, Provenance.INTERFACE)
        new |= {host: Provenance.OBSERVED for host in hosts.observed if host not in new}
        new |= {host: Provenance.CONFIGURED for host in self._configured if host not in new}
        addresses = {
            host: (
                provenance,
                Phase.LEAVING
                if host in hosts.leaving
                else Phase.NEW
                if provenance is Provenance.INTERFACE and hosts.live and host not in hosts.live
                else Phase.PREFERRED,
            )
            for host, provenance in new.items()
        }
        is_same = list(addresses.items()) == list(self._addresses.items())
        if is_same and hosts.mapped == self._mapped:
            return False
        self._mapped = hosts.mapped
        self._addresses = addresses
        self._signed.clear()
        return True

    def used(self, host: str) -> None:
        """Note that an address of this host has just proven to work: it goes first."""
        hosts = self._hosts
        own = tuple(dict.fromkeys((host, *hosts.own)))
        self.update(replace(hosts, own=own, live=hosts.live | {host}))

    def advance(self, seq: int) -> bool:
        """Give the next record a number above this one, which somebody knows of this peer; return
        whether it is newer than it would have been.

        What no clock can have given is not followed. Numbers grow slower than the clock, so that
        what was followed once can be followed again after every start; and whoever lies moves a
        peer no further than that, however often.
        """
        newer = self._seq < seq <= _clock() + FARTHEST_AHEAD
        if newer:
            self._seq = seq
        return newer

    def record(self, services: Iterable[Offered], *, most_bytes: int = 0) -> LocationRecord:
        """Return the record of now, under a higher number than any before.

        The clock gives the number where it can, so that a program that starts anew goes on above
        its last one. Where there are too many addresses for `most_bytes`, the first ones are told;
        0 does not look.
        """
        self._seq = max(self._seq + 1, _clock())
        self._signed.clear()
        told = [(one, self.entries(one.service, port=one.port)) for one in services]
        most = MAX_ENTRIES
        while True:
            record = LocationRecord(
                self._seq,
                tuple(
                    ServiceRecord(one.service, entries[:most], one.disclosure, one.listed)
                    for one, entries in told
                ),
            )
            if not most_bytes or not most or len(encode_location(record)) <= most_bytes:
                return record
            most -= 1

    def entries(
        self, service: str, first: str | None = None, port: int | None = None
    ) -> tuple[SignedEntry, ...]:
        """Return the entries for a service, best first; at another program's `port` where it is
        not this one's.

        `first` is an address that has just proven to work; it goes before the others.
        """
        addresses = self._addresses
        if first is not None:
            known = addresses.get(first, (Provenance.INTERFACE, Phase.PREFERRED))
            addresses = {first: known} | addresses
        entries = []
        for host, (provenance, phase) in addresses.items():
            try:
                endpoint = Endpoint.parse(host, port or self._port)
            except ProtocolViolation:
                continue
            entries.append(self._sign(service, endpoint, provenance, phase))
        at = self._mapped
        if at is not None and port is None and (at.host not in addresses or at.port != self._port):
            mapped = self._sign(service, at, Provenance.CONFIGURED, Phase.PREFERRED)
            entries.insert(MAX_ENTRIES - 1, mapped)
        return tuple(entries[:MAX_ENTRIES])

    def _sign(
        self, service: str, endpoint: Endpoint, provenance: Provenance, phase: Phase
    ) -> SignedEntry:
        key = (service, endpoint.host, endpoint.port)
        signed = self._signed.get(key)
        if signed is None:
            signed = self._signed[key] = sign_entry(
                self._identity,
                Entry(
                    self._seq,
                    service,
                    endpoint.host,
                    endpoint.port,
                    phase,
                    self._lifetime,
                    provenance,
                ),
            )
        return signed
