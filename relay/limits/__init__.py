"""What strangers may cause: what it costs, who is charged for it, how much each may have."""

from relay.limits.budgets import PlaneBudget, plane_budget
from relay.limits.causes import Cause, cause_of, network_of
from relay.limits.costs import ANSWER, BYTE, EVENT, EXPOSITION, MESSAGE, REQUEST, SIGNATURE
from relay.limits.pace import Pace, PaceRates
from relay.limits.rates import Counts, Place, Rates, Windows
from relay.limits.shares import Bounds, Shares
from relay.limits.work import Work, WorkRates

__all__ = [
    "ANSWER",
    "BYTE",
    "EVENT",
    "EXPOSITION",
    "MESSAGE",
    "REQUEST",
    "SIGNATURE",
    "Bounds",
    "Cause",
    "Counts",
    "Pace",
    "PaceRates",
    "Place",
    "PlaneBudget",
    "Rates",
    "Shares",
    "Windows",
    "Work",
    "WorkRates",
    "cause_of",
    "network_of",
    "plane_budget",
]
