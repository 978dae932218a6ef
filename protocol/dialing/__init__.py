"""What holds for all who dial by another's word: where nobody is, and how much is too much."""

from protocol.dialing.budgets import Attempt, Budgets, Outcome, Rate, Share, outcome_of
from protocol.dialing.scopes import (
    IpAddress,
    IpInterface,
    block_of,
    is_public,
    is_well_known,
    network_of,
    nobody_at,
    unwrapped,
)

__all__ = [
    "Attempt",
    "Budgets",
    "IpAddress",
    "IpInterface",
    "Outcome",
    "Rate",
    "Share",
    "block_of",
    "is_public",
    "is_well_known",
    "network_of",
    "nobody_at",
    "outcome_of",
    "unwrapped",
]
