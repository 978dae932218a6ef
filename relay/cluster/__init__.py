"""Many relays as one, over NATS: this one's part in it."""

from relay.cluster.bucket import Bucket
from relay.cluster.cluster import Cluster
from relay.cluster.letters import ClusterStore
from relay.cluster.link import LinkLost
from relay.cluster.trial import Look, Trial, look_at_jetstream, look_at_zones, try_out
from relay.cluster.zone import ZoneUpdates

__all__ = [
    "Bucket",
    "Cluster",
    "ClusterStore",
    "LinkLost",
    "Look",
    "Trial",
    "ZoneUpdates",
    "look_at_jetstream",
    "look_at_zones",
    "try_out",
]
