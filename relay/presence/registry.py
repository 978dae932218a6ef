"""Who is registered, where, and since when.

No I/O and no clock; nothing here awaits. What is to be closed in consequence of a change is
returned, and closing it is the caller's work. A connection that ends removes itself by identity:
it can never remove its successor.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from protocol.endpoint import (
    Endpoint,
    Entry,
    Phase,
    SignedEntry,
    check_newer,
    open_entry,
    order,
    read_entry,
)
from protocol.errors import Code, ProtocolViolation
from protocol.messages import Disclosure, LocationRecord, Message, PeerState, ServiceRecord

__all__ = ["Attachment", "RegisteredPeer", "Registry", "check_record"]


# Python 3.11 looks an enum's member up in 0.3 µs: this one is asked for with every request.
_ONLINE = PeerState.ONLINE


class Attachment(Protocol):
    """A control connection, as far as the registry is concerned."""

    guid: str
    instance: bytes
    flow: int
    observed_host: str
    """Where it comes from; empty where that is not known."""
    heard: float

    def send(self, message: Message) -> None:
        """Queue a message."""

    def doubt(self, now: float) -> None:
        """What was sent over it stays unanswered: see that something comes soon, or drop it."""

    def end(self, code: Code, reason: str) -> None:
        """Tell the peer why, and close."""


@dataclass(slots=True)
class RegisteredPeer:
    """One registered peer."""

    guid: str
    instance: bytes
    record: LocationRecord
    services: dict[str, tuple[ServiceRecord, tuple[Entry, ...]]]
    updated: float
    """When the record came in force."""
    flows: dict[int, Attachment] = field(init=False, default_factory=dict)
    """Live control connections by flow number; the newest is last."""
    observed_hosts: frozenset[str] = field(init=False, default=frozenset())
    """Where the live flows come from."""
    lost: float | None = field(init=False, default=None)
    """When the last flow was lost; None while there is one."""
    proofs: dict[Endpoint, None] = field(init=False, default_factory=dict)
    """Endpoints at which the relay itself has met the peer's key (proofs.py)."""
    closed: bool = field(init=False, default=False)
    """Whether the peer itself closed the last one: then it is offline at once."""
    last_heard: float = field(init=False, default=0.0)

    def flows_changed(self) -> None:
        """Call it after every change of `flows`."""
        hosts = (flow.observed_host for flow in self.flows.values())
        self.observed_hosts = frozenset(host for host in hosts if host)

    @property
    def primary(self) -> Attachment | None:
        """The newest live flow."""
        return next(reversed(self.flows.values()), None)

    def state(self, now: float, grace: float) -> PeerState:
        """Return online, suspect or offline."""
        if self.lost is None:
            return _ONLINE
        if not self.closed and now - self.lost < grace:
            return PeerState.SUSPECT
        return PeerState.OFFLINE

    def last_seen(self, now: float) -> float:
        """Return the seconds since anything was heard of the peer."""
        heard = self.last_heard
        for flow in self.flows.values():
            heard = max(heard, flow.heard)
        return max(0.0, now - heard)

    def may_learn(self, service: str, guid: str | None) -> bool:
        """Whether a caller (None: anybody at all) may learn the service's endpoints."""
        record = self.services[service][0]
        match record.disclose:
            case Disclosure.ANYONE:
                return True
            case Disclosure.LISTED:
                return guid is not None and guid in record.listed
            case Disclosure.NOBODY:
                return False

    def observed(self, host: str) -> bool:
        """Whether the peer's own packets come from an address."""
        return host in self.observed_hosts

    def proven(self, entry: Entry) -> bool:
        """Whether an endpoint is at an address that the peer's own packets come from, or where the
        relay has met its key: only these are disclosed, so that nobody can point callers at a
        victim (design §9)."""
        return self.observed(entry.host) or (bool(self.proofs) and entry.endpoint in self.proofs)

    def disclosable(self, service: str) -> tuple[SignedEntry, ...]:
        """Return the proven entries of a service that a new session may dial, best first."""
        record, entries = self.services[service]
        signed = dict(zip(entries, record.entries, strict=True))
        return tuple(signed[entry] for entry in order(entries) if self.proven(entry))

    def filter(self, service: str, entries: tuple[SignedEntry, ...]) -> tuple[SignedEntry, ...]:
        """Return those of the peer's own entries in a request or an answer that are proven.

        Who receives them checks the signatures: here they cost too much and would prove nothing
        more, for they came on the peer's own connection.

        Raises:
            ProtocolViolation: an entry is malformed.
        """
        kept = []
        hosts = self.observed_hosts
        for signed in entries:
            entry = read_entry(signed)
            if (
                entry.service == service
                and entry.phase is not Phase.LEAVING
                and (entry.host in hosts or self.proven(entry))
            ):
                kept.append(signed)
        return tuple(kept)


def check_record(
    guid: str, record: LocationRecord
) -> dict[str, tuple[ServiceRecord, tuple[Entry, ...]]]:
    """Open every entry of a record: each must be the peer's, for its service, and not from later.

    Raises:
        ProtocolViolation: one is not.
    """
    services = {}
    for service in record.services:
        entries = tuple(open_entry(guid, signed) for signed in service.entries)
        for entry in entries:
            if entry.service != service.service or entry.seq > record.seq:
                raise ProtocolViolation(f"an entry of {service.service} is of another record")
        services[service.service] = (service, entries)
    return services


class Registry:
    """All peers of one relay."""

    def __init__(self, *, grace: float, remember: float, max_offline: int) -> None:
        self._grace = grace
        self._remember = remember
        self._max_offline = max_offline
        self._peers: dict[str, RegisteredPeer] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def get(self, guid: str) -> RegisteredPeer | None:
        """Return what is known of a peer."""
        return self._peers.get(guid)

    def state(self, peer: RegisteredPeer, now: float) -> PeerState:
        """Return the state of a peer."""
        return peer.state(now, self._grace)

    def register(self, flow: Attachment, record: LocationRecord, now: float) -> list[Attachment]:
        """Put a proven flow and its record in force; return the flows that it supersedes.

        The same instance and flow number takes over at once; another instance with the same key
        supersedes all of the old one's flows: the newest wins.

        Raises:
            ProtocolViolation: the record is malformed, or not newer than the one in force
                (`Code.STALE_SEQUENCE`). Nothing has changed then.
        """
        services = check_record(flow.guid, record)
        known = self._peers.get(flow.guid)
        if known is None:
            known = RegisteredPeer(flow.guid, flow.instance, record, services, now)
            self._peers[flow.guid] = known
            superseded: list[Attachment] = []
        else:
            check_newer(record.seq, known.record.seq)
            if known.instance != flow.instance:
                superseded = list(known.flows.values())
                known.flows.clear()
                known.instance = flow.instance
            else:
                old = known.flows.pop(flow.flow, None)
                superseded = [] if old is None else [old]
            known.record, known.services, known.updated = record, services, now
        known.flows[flow.flow] = flow
        known.flows_changed()
        known.lost = None
        known.closed = False
        return superseded

    def update(self, flow: Attachment, record: LocationRecord, now: float) -> None:
        """Replace the record of a live flow's peer. No session is disturbed (draft §4.2.1).

        Raises:
            ProtocolViolation: as `register`.
        """
        known = self._peers[flow.guid]
        check_newer(record.seq, known.record.seq)
        services = check_record(flow.guid, record)
        known.record, known.services, known.updated = record, services, now

    def remove(self, flow: Attachment, now: float, *, closed: bool) -> RegisteredPeer | None:
        """Take a flow that ended out; return its peer where it was still in force.

        `closed` says that the peer ended it on purpose: without another flow it is then offline.
        """
        known = self._peers.get(flow.guid)
        if known is None or known.flows.get(flow.flow) is not flow:
            return None
        del known.flows[flow.flow]
        known.flows_changed()
        if not known.flows:
            known.lost = now
            known.closed = closed
            known.proofs.clear()
            known.last_heard = flow.heard
        return known

    def forget(self, now: float) -> None:
        """Forget offline peers that are too old or too many: call it every now and then."""
        offline = [
            peer
            for peer in self._peers.values()
            if peer.lost is not None and peer.state(now, self._grace) is PeerState.OFFLINE
        ]
        offline.sort(key=lambda peer: peer.lost or 0.0)
        excess = len(offline) - self._max_offline
        for index, peer in enumerate(offline):
            lost = peer.lost or 0.0
            if index < excess or now - lost > self._remember:
                del self._peers[peer.guid]

    def counts(self, now: float) -> dict[str, int]:
        """Return how many peers are in each state."""
        counts = Counter(peer.state(now, self._grace).value for peer in self._peers.values())
        return {state.value: counts[state.value] for state in PeerState}
