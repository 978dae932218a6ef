"""How others reach this host: what its network does to that, and what a doctor says of it. PURE."""

from peers.reach.diagnosis import Finding, Level, diagnose
from peers.reach.mapping import Mapping, Observation, mapping_of
from peers.reach.seen import (
    AddressSeen,
    Diagnosis,
    HealthSeen,
    NameSeen,
    RegistrationSeen,
    WaySeen,
    ZoneSeen,
)

__all__ = [
    "AddressSeen",
    "Diagnosis",
    "Finding",
    "HealthSeen",
    "Level",
    "Mapping",
    "NameSeen",
    "Observation",
    "RegistrationSeen",
    "WaySeen",
    "ZoneSeen",
    "diagnose",
    "mapping_of",
]
