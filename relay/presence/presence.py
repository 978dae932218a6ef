"""Coming, moving and going, with what follows: watchers are told, endpoints are proven."""

from collections.abc import Generator

from protocol.messages import LocationRecord
from relay.presence.known import KnownPeers
from relay.presence.proofs import Proofs
from relay.presence.registry import Attachment, Registry, Services
from relay.presence.watches import Watches

__all__ = ["Presence"]


class Presence:
    """The registry of one relay, its watches, its proofs and who is known, kept in step."""

    def __init__(
        self,
        registry: Registry,
        watches: Watches,
        proofs: Proofs,
        known: KnownPeers | None = None,
    ) -> None:
        """`known` is None where nothing of it outlives the relay."""
        self._registry = registry
        self._proofs = proofs
        self._known = known
        self.watches = watches

    def checking(self, guid: str, record: LocationRecord) -> Generator[float, None, Services]:
        """Check a peer's record piece by piece, as `Registry.checking` does.

        Raises:
            ProtocolViolation: as that.
        """
        return self._registry.checking(guid, record)

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
        superseded = self._registry.register(attachment, record, now, services)
        self._changed(attachment.guid, now)
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
        self._registry.update(attachment, record, now, services)
        self._changed(attachment.guid, now)

    def leave(self, attachment: Attachment, now: float, *, closed: bool) -> None:
        """Take out what has ended; `closed` says that the peer itself has closed it."""
        try:
            if self._registry.remove(attachment, now, closed=closed):
                self._went(attachment, now)
        finally:
            self.watches.connection_lost(attachment)
            self.watches.changed(attachment.guid, now)

    def _went(self, attachment: Attachment, now: float) -> None:
        gone = self._registry.gone(attachment.guid)
        if self._known is not None and gone is not None:
            self._known.went(
                gone.guid, attachment.observed_host, gone.last_seen(now), shown=gone.shown
            )

    def _changed(self, guid: str, now: float) -> None:
        peer = self._registry.get(guid)
        if self._known is not None and peer is not None:
            self._known.came(peer)
        self.watches.changed(guid, now)
        self._proofs.consider(guid)
