"""What a peer registers, checked: each entry is opened, and its signature verified once.

No I/O and no clock.
"""

from collections.abc import Generator, Mapping
from hashlib import blake2b

from protocol.endpoint import Entry, SignedEntry, open_entry, read_entry
from protocol.errors import ProtocolViolation
from protocol.messages import LocationRecord, ServiceRecord
from relay.limits import SIGNATURE

__all__ = ["Services", "VerifiedEntries", "check_record"]

Services = dict[str, tuple[ServiceRecord, tuple[Entry, ...]]]
"""The services of a record that was checked, each with its entries opened."""


class VerifiedEntries:
    """The entries whose signatures were verified, by all their bytes and whose they are: a peer
    that comes back brings those that it has signed before. In two halves: when the newer one is
    full, what was not used since the older one was is forgotten (at most `most`; 90 bytes each, and
    more in a set)."""

    def __init__(self, most: int = 65_536) -> None:
        self._half = max(1, most // 2)
        self._newer: dict[bytes, None] = {}
        self._older: dict[bytes, None] = {}

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def knows(self, guid: str, signed: SignedEntry) -> bool:
        """Whether an entry was verified as this peer's."""
        digest = _digest(guid, signed)
        if digest in self._newer:
            return True
        if digest not in self._older:
            return False
        del self._older[digest]
        self._keep(digest)
        return True

    def add(self, guid: str, signed: SignedEntry) -> None:
        """An entry was verified as this peer's."""
        self._keep(_digest(guid, signed))

    def _keep(self, digest: bytes) -> None:
        if len(self._newer) >= self._half:
            self._newer, self._older = {}, self._newer
        self._newer[digest] = None


def _digest(guid: str, signed: SignedEntry) -> bytes:
    # A GUID and a signature have one length each: what is behind them can be no part of them.
    # 15 bytes: who passes a forged entry off as another's has to find that one's digest again. Two
    # of his own that are alike give him nothing: whoever is told of them verifies them himself.
    return blake2b(guid.encode() + signed.signature + signed.body, digest_size=15).digest()


def check_record(
    guid: str,
    record: LocationRecord,
    known: Mapping[SignedEntry, Entry],
    verified: VerifiedEntries,
) -> Generator[float, None, Services]:
    """Open every entry of a record: each must be the peer's, for its service, and not from later.
    One that is `known` by all its bytes is read already; one that is among the `verified` is read
    alone.

    A generator, as it may be long: it yields what the next step costs, before it is done.

    Raises:
        ProtocolViolation: one is not.
    """
    opened = dict(known)
    services = {}
    for service in record.services:
        for signed in service.entries:
            if signed not in opened:
                if verified.knows(guid, signed):
                    opened[signed] = read_entry(signed)
                    continue
                yield SIGNATURE
                opened[signed] = open_entry(guid, signed)
                verified.add(guid, signed)
        entries = tuple(opened[signed] for signed in service.entries)
        for entry in entries:
            if entry.service != service.service or entry.seq > record.seq:
                raise ProtocolViolation(f"an entry of {service.service} is of another record")
        services[service.service] = (service, entries)
    return services
