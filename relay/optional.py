"""What of a relay is there where it is configured, and comes with libraries that may be missing:
its zone, its part in a cluster, and what is kept in either. Each is None where there is none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING

from msgspec import structs

from protocol.extras import needed
from protocol.identity import Identity
from relay.admission import Admission, Book, SharedBook
from relay.config import RelayConfig, Siblings
from relay.keys import Keys
from relay.mailbox import LocalStore, Mailbox, Spawn
from relay.metrics import Metrics
from relay.presence import Registry

if TYPE_CHECKING:
    from relay.cluster import Cluster
    from relay.dns import DnsServer

__all__ = ["ZoneParts", "book_of", "cluster_of", "mailbox_of", "zone_of"]


@dataclass(frozen=True, slots=True)
class ZoneParts:
    """What the zone needs of its relay."""

    keys: Keys
    registry: Registry
    admission: Admission
    metrics: Metrics
    clock: Callable[[], float]
    cluster: "Cluster | None" = None


def zone_of(config: RelayConfig, share: int, parts: ZoneParts) -> "DnsServer | None":
    """Return the relay's own zone; `share` is how many connections it may have of the process.

    Raises:
        MissingExtra: its library is not installed.
    """
    if config.dns is None:
        return None
    with needed("dns", "the relay's own zone"):
        from relay.dns import DnsServer, SharedZone, ZonePeers

    def admits(guid: str, host: str) -> bool:
        return parts.admission.judge(guid, host) is None

    peers, cluster = ZonePeers(parts.registry, admits), parts.cluster
    if cluster is not None:
        store = cluster.zone_updates(time)
        shared = SharedZone(cluster.naming, store, lambda: cluster.has_learned)
        peers = ZonePeers(parts.registry, admits, shared)
    dns = structs.replace(
        config.dns,
        host=config.dns.host or config.host,
        store=config.in_state(config.dns.store) if config.dns.store else None,
        max_connections=min(config.dns.max_connections, share),
    )
    return DnsServer(dns, parts.keys, peers, parts.metrics, parts.clock)


def cluster_of(
    config: RelayConfig,
    identity: Identity,
    metrics: Metrics,
    clock: Callable[[], float],
    *,
    shares_port: bool,
) -> "Cluster | None":
    """Return the relay's part in its cluster.

    Raises:
        MissingExtra: its library is not installed.
    """
    if config.cluster is None:
        return None
    with needed("cluster", "a cluster of relays"):
        from relay.cluster import Cluster

    return Cluster(config, identity, metrics, clock, shares_port=shares_port)


def book_of(
    file: str | None,
    cluster: "Cluster | None",
    siblings: Siblings | None,
    clock: Callable[[], float],
) -> Book:
    """Return who is admitted. The nodes of a cluster share it by NATS, the processes of one machine
    by their file."""
    if cluster is None or siblings is not None:
        return Book(file, clock)
    return SharedBook(file, clock, cluster.bucket())


def mailbox_of(
    config: RelayConfig,
    cluster: "Cluster | None",
    metrics: Metrics,
    clock: Callable[[], float],
    spawn: Spawn,
) -> Mailbox | None:
    """Return the relay's mailbox, that of its whole cluster where it is in one; None where it keeps
    no letters. `clock` gives Unix time."""
    if not config.keeps_letters:
        return None
    store = (
        LocalStore(config.mailbox, config.in_state(config.mailbox.store), clock, spawn)
        if cluster is None
        else cluster.letters(clock, spawn)
    )
    mailbox = Mailbox(config.mailbox, store, metrics, clock, spawn)
    metrics.gauges["mailbox"] = mailbox.counts
    return mailbox
