"""What can be configured or handed over by a program, and how it is read and checked."""

from peers.config.arguments import (
    DialWord,
    ModeWord,
    SelectWord,
    ServiceNameError,
    checked_address,
    checked_count,
    checked_dial,
    checked_disclosure,
    checked_flag,
    checked_function,
    checked_guid,
    checked_guids,
    checked_kind,
    checked_metadata,
    checked_mode,
    checked_policy,
    checked_port,
    checked_seconds,
    checked_service,
)
from peers.config.contact import ContactLink, ContactLinkError
from peers.config.dns import DdnsConfig, DdnsConfigError
from peers.config.host_port import HostPort
from peers.config.key_file import Identity
from peers.config.kinds import CarrierKind, Dial, PathKind, StandbyWord
from peers.config.logger import log
from peers.config.peer import ConfigError, PeerConfig, policy_for
from peers.config.policy import NO_POLICY, TERMS, VERBS, PathFacts, Policy, PolicyError, Rule
from peers.config.settings import Settings, settled

__all__ = [
    "CarrierKind",
    "ConfigError",
    "ContactLink",
    "ContactLinkError",
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
    "DialWord",
    "policy_for",
    "ModeWord",
    "SelectWord",
    "Settings",
    "StandbyWord",
    "ServiceNameError",
    "TERMS",
    "VERBS",
    "checked_address",
    "checked_count",
    "checked_dial",
    "checked_disclosure",
    "checked_flag",
    "checked_function",
    "checked_guid",
    "checked_guids",
    "checked_kind",
    "checked_metadata",
    "checked_mode",
    "checked_policy",
    "checked_port",
    "checked_seconds",
    "checked_service",
    "settled",
]
