"""Who is registered, where, and since when.

No I/O and no clock; nothing here awaits. What is to be closed in consequence of a change is
returned, and closing it is the caller's work. A connection that ends removes itself by identity:
it can never remove its successor.
"""

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from protocol.dialing import block_of, is_public, unwrapped
from protocol.endpoint import (
    Endpoint,
    Entry,
    Phase,
    SignedEntry,
    check_newer,
    order,
    read_entry,
)
from protocol.errors import Code
from protocol.messages import Disclosure, LocationRecord, Message, PeerState
from relay.backplane import ALONE, Backplane, Claim, WentElsewhere
from relay.limits import Cause
from relay.presence.elsewhere import as_told, left_elsewhere, named
from relay.presence.gone import GonePeer, GonePeers
from relay.presence.records import Services, VerifiedEntries, check_record
from relay.tally import Figures

__all__ = [
    "SETTLING",
    "Attachment",
    "RegisteredPeer",
    "Registry",
]

SETTLING = 60.0
"""Seconds after its start in which a relay does not say for sure that nobody has a GUID: its peers
come back, the last of them after a spread of a minute."""


class Attachment(Protocol):
    """A control connection, as far as the registry is concerned."""

    guid: str
    instance: bytes
    flow: int
    features: frozenset[str]
    observed_host: str
    """Where it comes from; empty where that is not known."""
    observed_port: int
    """0 where that is not known."""
    cause: Cause
    heard: float
    asks: dict[Any, None]
    asked: dict[Any, None]
    """Its requests that wait, and those that wait for it: the broker's to fill."""

    @property
    def had(self) -> Figures:
        """What its peer has had: to be added to."""

    def send(self, message: Message) -> None:
        """Queue a message."""

    def doubt(self, now: float) -> None:
        """What was sent over it stays unanswered: see that something comes soon, or drop it."""

    def end(self, code: Code, reason: str) -> None:
        """Tell the peer why, and close."""


_Passed = tuple[frozenset[str], str, tuple[SignedEntry, ...], bool, tuple[SignedEntry, ...]]
"""Where a peer was observed, a service, entries, whether a neighbour asked, what was passed on."""
_NOTHING_PASSED: _Passed = frozenset(), "", (), False, ()

# Python 3.11 looks an enum's member up in 0.3 µs: these are asked for with every message.
_ANYONE, _LISTED, _LEAVING = Disclosure.ANYONE, Disclosure.LISTED, Phase.LEAVING


@lru_cache(maxsize=1024)
def _is_public(host: str) -> bool:
    address = unwrapped(host)
    return address is not None and is_public(address)


def _is_private(host: str) -> bool:
    address = unwrapped(host)
    return address is not None and block_of(address) is not None


@dataclass(frozen=True, slots=True)
class Unknown:
    """What is said of a GUID that is not known."""

    reason: str
    retry_after: float | None = None
    """Seconds after which to ask again, where that may change by itself."""


_UNKNOWN = Unknown("nobody with this GUID has registered")
_NOT_YET = Unknown("not known yet: the relay has just started, and its peers are coming back", 5.0)


@dataclass(slots=True)
class RegisteredPeer:
    """One peer that is here: with at least one connection."""

    guid: str
    instance: bytes
    record: LocationRecord
    services: Services
    updated: float
    """When the record came in force."""
    flows: dict[int, Attachment] = field(init=False, default_factory=dict)
    """Live control connections by flow number; the newest is last."""
    observed_hosts: frozenset[str] = field(init=False, default=frozenset())
    """Where the live flows come from."""
    primary: Attachment | None = field(init=False, default=None)
    """The newest live flow."""
    proofs: dict[Endpoint, None] = field(init=False, default_factory=dict)
    """Endpoints at which the relay itself has met the peer's key (proofs.py)."""
    told: bytes = field(init=False, default=b"")
    """What other nodes were told that the zone shows of it."""
    _passed: _Passed = field(init=False, default=_NOTHING_PASSED)
    """What was filtered last: mostly it is the same again."""

    def flows_changed(self) -> None:
        """Call it after every change of `flows`."""
        hosts = (flow.observed_host for flow in self.flows.values())
        self.observed_hosts = frozenset(host for host in hosts if host)
        self.primary = next(reversed(self.flows.values()), None)

    def last_seen(self, now: float) -> float:
        """Return the seconds since anything was heard of the peer."""
        heard = None
        for flow in self.flows.values():  # Mostly one, and asked with every answer.
            if heard is None or flow.heard > heard:
                heard = flow.heard
        return 0.0 if heard is None or heard > now else now - heard

    def may_learn(self, service: str, guid: str | None) -> bool:
        """Whether a caller (None: anybody at all) may learn the service's endpoints."""
        record = self.services[service][0]
        if record.disclose == _ANYONE:
            return True
        return record.disclose == _LISTED and guid is not None and guid in record.listed

    @property
    def is_shown(self) -> bool:
        """Whether any service is disclosed to everybody: then anybody may watch the peer."""
        return any(self.may_learn(service, None) for service in self.services)

    def observed(self, host: str) -> bool:
        """Whether the peer's own packets come from an address."""
        return host in self.observed_hosts

    def proven(self, entry: Entry) -> bool:
        """Whether an endpoint is at an address that the peer's own packets come from, or where the
        relay has met its key: only these are disclosed, so that nobody can point callers at a
        victim (design §9)."""
        return self.observed(entry.host) or (bool(self.proofs) and entry.endpoint in self.proofs)

    def is_neighbour(self, host: str) -> bool:
        """Whether who is observed at `host` is behind the same public address as this peer, most
        likely a NAT's: only the relay can tell, and such a one may reach private addresses."""
        return host in self.observed_hosts and _is_public(host)

    def disclosable(self, service: str, asker: str = "") -> tuple[SignedEntry, ...]:
        """Return the proven entries of a service that a new session may dial, best first; for a
        neighbour, who is observed at `asker`, the private ones too."""
        record, entries = self.services[service]
        signed = dict(zip(entries, record.entries, strict=True))
        near = self.is_neighbour(asker)
        return tuple(
            signed[entry]
            for entry in order(entries)
            if self.proven(entry) or (near and _is_private(entry.host))
        )

    def public(self) -> dict[str, tuple[SignedEntry, ...]]:
        """Return what anybody may know: the proven entries of each service that is disclosed to
        everybody, of which there may be none."""
        return {
            service: self.disclosable(service)
            for service in self.services
            if self.may_learn(service, None)
        }

    def filter(
        self, service: str, entries: tuple[SignedEntry, ...], receiver: str = ""
    ) -> tuple[SignedEntry, ...]:
        """Return those of the peer's own entries in a request or an answer that are proven; for a
        neighbour, who is observed at `receiver`, the private ones too.

        Who receives them checks the signatures: here they cost too much and would prove nothing
        more, for they came on the peer's own connection.

        Raises:
            ProtocolViolation: an entry is malformed.
        """
        hosts = self.observed_hosts
        near = receiver in hosts and _is_public(receiver)  # is_neighbour, without its call.
        passed = self._passed
        # Known by all its bytes, to compare which costs a tenth of reading them (1.2 µs). What was
        # decided by proofs is not remembered: they come and go.
        if (
            passed[0] is hosts
            and passed[1] == service
            and passed[3] is near
            and passed[2] == entries
        ):
            return passed[4]
        kept = []
        by_proofs = False
        for signed in entries:
            entry = read_entry(signed)
            if entry.service == service and entry.phase is not _LEAVING:
                if entry.host in hosts or (near and _is_private(entry.host)):
                    kept.append(signed)
                else:
                    by_proofs = True
                    if self.proven(entry):
                        kept.append(signed)
        found = tuple(kept)
        if not by_proofs:
            self._passed = hosts, service, entries, near, found
        return found


def _all_of(check: Generator[float, None, Services]) -> Services:
    """Do all of a check at once."""
    while True:
        try:
            next(check)
        except StopIteration as done:
            found: Services = done.value
            return found


class Registry:
    """All peers of one relay. Of one that has gone a few bytes are left (gone.py)."""

    def __init__(
        self, *, grace: float, remember: float, max_offline: int, backplane: Backplane = ALONE
    ) -> None:
        self._backplane = backplane
        self._peers: dict[str, RegisteredPeer] = {}
        self._verified = VerifiedEntries()
        self._gone = GonePeers(grace=grace, remember=remember, max_remembered=max_offline)
        self.settled = -math.inf
        """When whoever was here before the relay's start has had the time to come back."""

    def __len__(self) -> int:
        return len(self._peers) + len(self._gone)

    def get(self, guid: str) -> RegisteredPeer | None:
        """Return a peer that is here."""
        return self._peers.get(guid)

    def present(self) -> list[RegisteredPeer]:
        """Return the peers that are here."""
        return list(self._peers.values())

    def gone(self, guid: str) -> GonePeer | None:
        """Return what is left of a peer that was here, and is not now."""
        return self._gone.get(guid)

    def started(self, now: float) -> None:
        """The relay serves from now on: whoever was here before may need a minute to come back."""
        self.settled = now + SETTLING

    def unknown(self, now: float) -> Unknown:
        """Return what to say of a GUID that is not known."""
        return _UNKNOWN if self.settled <= now else _NOT_YET

    def recall(self, guid: str, host: str, now: float, ago: float, *, shown: bool) -> None:
        """A peer was known before the relay's start, and last heard of so many seconds ago: it may
        be coming back, and is not offline before the grace has passed."""
        if guid not in self._peers and self._gone.get(guid) is None:
            gone = GonePeer(guid, b"", 0, now, now - ago, closed=False, shown=shown)
            self._gone.add(gone, host)

    def state(self, peer: RegisteredPeer | GonePeer, now: float) -> PeerState:
        """Return the state of a peer."""
        return self._gone.state(peer, now) if isinstance(peer, GonePeer) else PeerState.ONLINE

    def checking(self, guid: str, record: LocationRecord) -> Generator[float, None, Services]:
        """Check a peer's record, as `check_record` does; the entries of the one in force are known.

        Raises:
            ProtocolViolation: the record is malformed, or not newer than the one in force
                (`Code.STALE_SEQUENCE`): before anything is verified.
        """
        self._check_newer(guid, record.seq)
        known: dict[SignedEntry, Entry] = {}
        if (peer := self._peers.get(guid)) is not None:
            for service, entries in peer.services.values():
                known.update(zip(service.entries, entries, strict=True))
        return (yield from check_record(guid, record, known, self._verified))

    def register(
        self,
        flow: Attachment,
        record: LocationRecord,
        now: float,
        services: Services | None = None,
    ) -> list[Attachment]:
        """Put a proven flow and its record in force; return the flows that it supersedes.

        `services` are what `checking` has returned; the record is checked here without. The same
        instance and flow number takes over at once; another instance with the same key supersedes
        all of the old one's flows: the newest wins.

        Raises:
            ProtocolViolation: the record is malformed, or not newer than the one in force
                (`Code.STALE_SEQUENCE`). Nothing has changed then.
        """
        known = self._peers.get(flow.guid)
        self._check_newer(flow.guid, record.seq)
        if services is None:
            services = _all_of(self.checking(flow.guid, record))
        if known is None:
            known = RegisteredPeer(flow.guid, flow.instance, record, services, now)
            self._peers[flow.guid] = known
            superseded: list[Attachment] = []
        else:
            if known.instance != flow.instance:
                superseded = list(known.flows.values())
                known.flows.clear()
                known.instance = flow.instance
            else:
                old = known.flows.pop(flow.flow, None)
                superseded = [] if old is None else [old]
            known.record, known.services, known.updated = record, services, now
        self._gone.come_back(flow.guid)
        known.flows[flow.flow] = flow
        known.flows_changed()
        self._announce(known, flow)
        return superseded

    def update(
        self,
        flow: Attachment,
        record: LocationRecord,
        now: float,
        services: Services | None = None,
    ) -> None:
        """Replace the record of a live flow's peer. No session is disturbed (draft §4.2.1).

        Raises:
            ProtocolViolation: as `register`.
        """
        known = self._peers[flow.guid]
        check_newer(record.seq, known.record.seq)
        if services is None:
            services = _all_of(self.checking(flow.guid, record))
        known.record, known.services, known.updated = record, services, now
        self._announce(known, flow)

    def remove(self, flow: Attachment, now: float, *, closed: bool) -> bool:
        """Take a flow that ended out; False where it was not in force any more.

        `closed` says that the peer ended it on purpose: without another flow it is then offline.
        """
        known = self._peers.get(flow.guid)
        if known is None or known.flows.get(flow.flow) is not flow:
            return False
        del known.flows[flow.flow]
        known.flows_changed()
        if known.flows:
            self.proven(flow.guid)  # The address that this one came from is not, any more.
        else:
            del self._peers[flow.guid]
            seq, shown = known.record.seq, known.is_shown
            gone = GonePeer(known.guid, known.instance, seq, now, flow.heard, closed, shown)
            ago, host = gone.last_seen(now), flow.observed_host
            self._backplane.went(
                WentElsewhere(known.guid, seq, known.instance, ago, closed, shown, host)
            )
            if self._backplane.home(flow.guid) is None:
                self._gone.add(gone, host)
        return True

    def proven(self, guid: str) -> None:
        """Where a peer was met has changed: other nodes are told what the zone shows of it now."""
        peer = self._peers.get(guid)
        if (
            self._backplane.names
            and peer is not None
            and peer.primary is not None
            and named(peer.public()) != peer.told
        ):
            self._announce(peer, peer.primary)

    def home(self, guid: str) -> Claim | None:
        """Return at which other node of the cluster a peer is."""
        return self._backplane.home(guid)

    def came_elsewhere(self, guid: str) -> None:
        """A peer is at another node of the cluster: it is not gone."""
        self._gone.come_back(guid)

    def went_elsewhere(self, gone: WentElsewhere, now: float) -> None:
        """A peer has gone from another node, and is nowhere now."""
        if gone.guid not in self._peers:
            self._gone.add(left_elsewhere(gone, now), gone.host)

    def drop(self, guid: str) -> bool:
        """Forget a peer that has gone; return whether it was remembered."""
        was = self._gone.get(guid) is not None
        self._gone.come_back(guid)
        return was

    def forget(self, now: float) -> None:
        """Forget peers that have been gone for too long."""
        for _ in self.forgetting(now):
            pass

    def forgetting(self, now: float) -> Iterator[None]:
        """Forget them one by one: begin it every now and then."""
        return self._gone.forgetting(now)

    def _check_newer(self, guid: str, seq: int) -> None:
        """A record is newer than the one in force here, or at another node, or left of a peer."""
        peer, gone, home = self._peers.get(guid), self._gone.get(guid), self._backplane.home(guid)
        if peer is not None:
            check_newer(seq, peer.record.seq)
        elif gone is not None:
            check_newer(seq, gone.seq)
        if home is not None:
            check_newer(seq, home.seq)

    def _announce(self, peer: RegisteredPeer, flow: Attachment) -> None:
        if self._backplane is ALONE:
            return
        shown, host = peer.is_shown, flow.observed_host
        peer.told = named(peer.public()) if shown and self._backplane.names else b""
        self._backplane.came(
            as_told(peer.guid, peer.instance, peer.record, host, shown=shown, named=peer.told)
        )

    def counts(self, now: float) -> dict[str, int]:
        """Return how many peers are in each state."""
        suspect = self._gone.suspect(now)
        return {
            PeerState.ONLINE.value: len(self._peers),
            PeerState.SUSPECT.value: suspect,
            PeerState.OFFLINE.value: len(self._gone) - suspect,
        }
