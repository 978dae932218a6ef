"""What this peer says of where it is: signed entries, and the number that only grows.

It is told the addresses; it looks for none. The same entries go to the relay (in the location
record), to a callee or caller (in requests and answers) and to the other side of a session.
"""

import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from protocol.endpoint import Endpoint, Entry, Phase, Provenance, SignedEntry, sign_entry
from protocol.errors import ProtocolViolation
from protocol.identity import Identity
from protocol.messages import MAX_ENTRIES, Disclosure, LocationRecord, ServiceRecord

__all__ = ["Offered", "OwnLocation"]


@dataclass(frozen=True, slots=True)
class Offered:
    """A service of this peer, as its record tells it."""

    service: str
    port: int | None
    """Where another program serves it; None where its sessions come to this peer."""
    disclosure: Disclosure
    listed: tuple[str, ...] = ()
    """The GUIDs of a disclosure to those that are listed."""


class OwnLocation:
    """The addresses of this peer, newest first, and what is signed of them.

    `port` is where direct paths are accepted, on every address. Signatures are made once for each
    service and change, not for each path.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        port: Callable[[], int],
        configured: Sequence[str],
        lifetime: int,
    ) -> None:
        self._identity = identity
        self._port = port
        self._configured = tuple(configured)
        self._lifetime = lifetime
        self.instance = os.urandom(16)
        """Tells this process from another one with the same key."""
        self._seq = 0
        self._signed: dict[tuple[str, str, int], SignedEntry] = {}
        self._places: dict[str, tuple[Provenance, Phase]] = {}
        self.set_hosts(())

    @property
    def places(self) -> dict[str, tuple[Provenance, Phase]]:
        """The addresses, newest first."""
        return dict(self._places)

    def set_hosts(
        self,
        hosts: Iterable[str],
        *,
        live: Collection[str] = (),
        leaving: Collection[str] = (),
        observed: Iterable[str] = (),
    ) -> bool:
        """Replace the addresses; return whether anything is different now.

        `live` are those that have just been used with success: they are `preferred`, the others
        `new`. Those that are `leaving` are for old sessions only. `observed` ones are not this
        host's own: the relay has seen them.
        """
        new = dict.fromkeys(hosts, Provenance.INTERFACE)
        new |= {host: Provenance.OBSERVED for host in observed if host not in new}
        new |= {host: Provenance.CONFIGURED for host in self._configured if host not in new}
        places = {
            host: (
                provenance,
                Phase.LEAVING
                if host in leaving
                else Phase.NEW
                if provenance is Provenance.INTERFACE and live and host not in live
                else Phase.PREFERRED,
            )
            for host, provenance in new.items()
        }
        if list(places.items()) == list(self._places.items()):
            return False
        self._places = places
        self._signed.clear()
        return True

    def advance(self, seq: int) -> None:
        """Give the next record a number above this one."""
        self._seq = max(self._seq, seq)

    def record(self, services: Iterable[Offered]) -> LocationRecord:
        """Return the record of now, under a higher number than any before.

        The clock gives the number where it can, so that a program that starts anew goes on above
        its last one.
        """
        self._seq = max(self._seq + 1, time.time_ns() // 1_000_000)
        self._signed.clear()
        return LocationRecord(
            self._seq,
            tuple(
                ServiceRecord(
                    one.service,
                    self.entries(one.service, port=one.port),
                    one.disclosure,
                    one.listed,
                )
                for one in services
            ),
        )

    def entries(
        self, service: str, first: str | None = None, port: int | None = None
    ) -> tuple[SignedEntry, ...]:
        """Return the entries for a service, best first; at another program's `port` where it is
        not this one's.

        `first` is an address that has just proven to work; it goes before the others.
        """
        places = self._places
        if first is not None and first not in places:
            places = {first: (Provenance.INTERFACE, Phase.PREFERRED)} | places
        elif first is not None:
            places = {first: places[first]} | places
        entries = []
        for host, (provenance, phase) in places.items():
            try:
                endpoint = Endpoint.parse(host, port or self._port())
            except ProtocolViolation:
                continue
            entries.append(self._sign(service, endpoint, provenance, phase))
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
