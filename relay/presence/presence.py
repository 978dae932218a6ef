"""Coming, moving and going, with what follows: watchers are told, endpoints are proven."""

from collections.abc import Generator

from protocol.errors import Code, ProtocolViolation
from protocol.messages import EndpointQuery, LocationRecord
from relay.limits import Shares, record_weight
from relay.presence.known import KnownPeers
from relay.presence.proofs import Proofs
from relay.presence.records import Services
from relay.presence.registry import Attachment, Registry
from relay.presence.watches import Watches

__all__ = ["Presence"]


class Presence:
    """The registry of one relay, its watches, its proofs and who is known, kept in step."""

    def __init__(
        self,
        registry: Registry,
        watches: Watches,
        proofs: Proofs,
        records: Shares[str],
        known: KnownPeers | None = None,
    ) -> None:
        """`records` are those of all peers, by GUID, by what they take of the memory; `known` is
        None where nothing of it outlives the relay."""
        self.registry = registry
        self._proofs = proofs
        self._records = records
        self._known = known
        self.watches = watches

    async def forget(self, guid: str) -> bool:
        """Remove what is kept of a peer that is not here; return whether there was anything.

        Raises:
            StoreFailed: it may be kept still.
        """
        was = self.registry.drop(guid)
        return (self._known is not None and await self._known.forget(guid)) or was

    def checking(
        self, attachment: Attachment, record: LocationRecord
    ) -> Generator[float, None, Services]:
        """Check a peer's record piece by piece, as `Registry.checking` does.

        Raises:
            ProtocolViolation: as that; or there is no room for it (`Code.LIMIT_EXCEEDED`).
        """
        services = yield from self.registry.checking(attachment.guid, record)
        weight = record_weight(_size_of(record))
        if weight and not self._records.bears(attachment.cause, attachment.guid, weight):
            raise ProtocolViolation(
                "this record would take more of the memory than it may have",
                code=Code.LIMIT_EXCEEDED,
            )
        return services

    def register(
        self,
        attachment: Attachment,
        record: LocationRecord,
        now: float,
        services: Services | None = None,
    ) -> list[Attachment]:
        """Put a proven attachment and its record in force; return those that it supersedes.

        Raises:
            ProtocolViolation: as `Registry.register`.
        """
        superseded = self.registry.register(attachment, record, now, services)
        self._changed(attachment, record, now)
        return superseded

    def update(
        self,
        attachment: Attachment,
        record: LocationRecord,
        now: float,
        services: Services | None = None,
    ) -> None:
        """Replace the record of a peer that is here.

        Raises:
            ProtocolViolation: as `Registry.update`.
        """
        self.registry.update(attachment, record, now, services)
        self._changed(attachment, record, now)

    def leave(self, attachment: Attachment, now: float, *, closed: bool) -> None:
        """Take out what has ended; `closed` says that the peer itself has closed it."""
        try:
            if self.registry.remove(attachment, now, closed=closed):
                self._went(attachment, now)
        finally:
            self._proofs.lost(attachment)
            if self.registry.get(attachment.guid) is None:
                self._records.remove(attachment.guid)
            self.watches.connection_lost(attachment)
            self.watches.changed(attachment.guid, now)

    def ask(
        self, asker: Attachment, query: EndpointQuery, now: float
    ) -> Generator[float, None, None]:
        """Answer what is asked of another peer's endpoint, as `Proofs.ask` does."""
        return self._proofs.ask(asker, query, now)

    def _went(self, attachment: Attachment, now: float) -> None:
        gone = self.registry.gone(attachment.guid)
        if self._known is not None and gone is not None:
            self._known.went(
                gone.guid, attachment.observed_host, gone.last_seen(now), shown=gone.shown
            )

    def _changed(self, attachment: Attachment, record: LocationRecord, now: float) -> None:
        weight = record_weight(_size_of(record))
        if not weight:
            self._records.remove(attachment.guid)
        else:
            for other in self._records.weigh(attachment.cause, attachment.guid, weight):
                self._send_away(other)
        peer = self.registry.get(attachment.guid)
        if self._known is not None and peer is not None:
            self._known.came(peer)
        self.watches.changed(attachment.guid, now)
        self._proofs.consider(attachment.guid)

    def _send_away(self, guid: str) -> None:
        """Others need the memory, and who is behind this peer has most of it."""
        peer = self.registry.get(guid)
        for flow in list(peer.flows.values()) if peer is not None else ():
            flow.end(Code.LIMIT_EXCEEDED, "the records of this network take most of the memory")


def _size_of(record: LocationRecord) -> int:
    """Return the bytes of a record's entries and lists, about as many as it has on the wire."""
    return sum(
        sum(len(entry.body) + len(entry.signature) for entry in service.entries)
        + sum(map(len, service.listed))
        + len(service.service)
        for service in record.services
    )
