"""Many relays as one, over NATS: this one's part in it."""

from relay.cluster.cluster import Cluster
from relay.cluster.letters import ClusterStore
from relay.cluster.link import LinkLost
from relay.cluster.trial import Trial, try_out
from relay.cluster.zone import ZoneUpdates

__all__ = [
    "Cluster",
    "ClusterStore",
    "LinkLost",
    "Trial",
    "ZoneUpdates",
    "missing_store",
    "try_out",
]
