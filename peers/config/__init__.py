"""What can be configured, and how it is read."""

from peers.config.dns import DdnsConfig, DdnsConfigError
from peers.config.host_port import HostPort
from peers.config.key_file import Identity
from peers.config.kinds import CarrierKind, Dial, PathKind
from peers.config.logger import log
from peers.config.peer import ConfigError, PeerConfig
from peers.config.policy import NO_POLICY, PathFacts, Policy, PolicyError, Rule

__all__ = [
    "CarrierKind",
    "ConfigError",
    "DdnsConfig",
    "DdnsConfigError",
    "Dial",
    "HostPort",
    "Identity",
    "NO_POLICY",
    "PathFacts",
    "PathKind",
    "PeerConfig",
    "Policy",
    "PolicyError",
    "Rule",
    "log",
]
