"""Who is here and where, who is told of it, and which of their endpoints are proven."""

from relay.presence.elsewhere import read_named
from relay.presence.gone import GonePeer
from relay.presence.known import Keeping, KnownPeers
from relay.presence.presence import Presence
from relay.presence.proofs import ProofRules, Proofs
from relay.presence.registry import Attachment, RegisteredPeer, Registry
from relay.presence.scopes import may_probe, may_probe_port
from relay.presence.watches import MAX_WATCHERS, MAX_WATCHES, Watcher, Watches

__all__ = [
    "MAX_WATCHERS",
    "MAX_WATCHES",
    "Attachment",
    "GonePeer",
    "Keeping",
    "KnownPeers",
    "Presence",
    "ProofRules",
    "Proofs",
    "RegisteredPeer",
    "Registry",
    "Watcher",
    "Watches",
    "may_probe",
    "may_probe_port",
    "read_named",
]
