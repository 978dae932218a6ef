"""What strangers may cause: what it costs, who is charged for it, how much each may have."""

from relay.limits.budgets import PlaneBudget, plane_budget, record_budget, record_weight
from relay.limits.causes import WIDE_SHARE, Cause, cause_of
from relay.limits.costs import (
    ANSWER,
    ARRIVAL,
    BYTE,
    EVENT,
    EXPOSITION,
    HANDSHAKE,
    MESSAGE,
    REQUEST,
    SIGNATURE,
    TLS_BYTE,
)
from relay.limits.rates import Counts, Place, Rates, Windows
from relay.limits.shares import Bounds, Shares
from relay.limits.toll import Charge, Toll
from relay.limits.work import Work, WorkRates

__all__ = [
    "ANSWER",
    "ARRIVAL",
    "BYTE",
    "EVENT",
    "EXPOSITION",
    "HANDSHAKE",
    "MESSAGE",
    "REQUEST",
    "SIGNATURE",
    "TLS_BYTE",
    "WIDE_SHARE",
    "Bounds",
    "Cause",
    "Charge",
    "Counts",
    "Place",
    "PlaneBudget",
    "Rates",
    "Shares",
    "Toll",
    "Windows",
    "Work",
    "WorkRates",
    "cause_of",
    "plane_budget",
    "record_budget",
    "record_weight",
]
