"""What the relay is to each of its control connections: who it is, what it allows, who is here."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from protocol.dns_records import peer_name
from protocol.identity import Identity
from protocol.messages import Limits
from relay.config import RelayConfig
from relay.dns import DnsServer
from relay.limits import Rates
from relay.metrics import Metrics

if TYPE_CHECKING:
    from relay.control.connection import ControlConnection

__all__ = ["Reception"]


class Reception:
    """The reception of one relay."""

    def __init__(
        self,
        config: RelayConfig,
        identity: Identity,
        dns: DnsServer | None,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self.config = config
        self.identity = identity
        self.dns = dns
        self.metrics = metrics
        self.clock = clock
        self.requests = Rates(config.requests_per_second, config.requests_burst)
        """Of each peer, by its GUID."""
        self.connections: set[ControlConnection] = set()
        """All that are not over."""
        self.limits = Limits(
            pending_requests=config.pending_requests,
            heartbeat=config.heartbeat,
            lease=config.lease,
        )
        """As each peer is told."""

    def domain_name(self, guid: str) -> str:
        """Return the name of a peer in the relay's own zone; empty where it has none."""
        return peer_name(guid, self.dns.zone.name) if self.dns is not None else ""
