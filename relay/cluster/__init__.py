"""Many relays as one, over NATS: this one's part in it."""

from relay.cluster.cluster import Cluster

__all__ = ["Cluster"]
