"""Which candidate is better. Pure: no I/O, no clock."""

from peers.choice.candidate import (
    MARGIN_SECONDS,
    MARGIN_SHARE,
    Candidate,
    Select,
    clearly_better,
    in_order,
    newest,
    open_candidates,
)
from peers.choice.race import MAX_TRIED, Discard, End, Race, Start
from peers.choice.round_trips import RoundTrips

__all__ = [
    "MARGIN_SECONDS",
    "MARGIN_SHARE",
    "MAX_TRIED",
    "Candidate",
    "Discard",
    "End",
    "Race",
    "RoundTrips",
    "Select",
    "Start",
    "clearly_better",
    "in_order",
    "newest",
    "open_candidates",
]
