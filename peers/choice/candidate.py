"""Candidates: the endpoints of a peer that a session may dial, each from one of this host's own
addresses, and what is known of them.

Nothing is dialed here. The order is that of docs/addresses.md.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from protocol.endpoint import Endpoint, Phase, Provenance, SignedEntry, open_entry, read_entry
from protocol.errors import ProtocolViolation

__all__ = [
    "Candidate",
    "Select",
    "clearly_better",
    "in_order",
    "newest",
    "open_candidates",
]

MARGIN_SHARE, MARGIN_SECONDS = 0.10, 0.005
"""One round trip is better than another when it is shorter by both: less is noise."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One endpoint, from one local address."""

    endpoint: Endpoint
    """Where the peer is dialed."""
    source: str | None = None
    """The local address to dial from; None leaves it to the routes."""
    phase: Phase = Phase.PREFERRED
    """What the peer says that the endpoint may be used for."""
    provenance: Provenance | None = Provenance.INTERFACE
    """None: nobody has signed it; it is a hint, and proves itself or not."""
    seq: int = 0
    """Of the location record: milliseconds since 1970 where the peer's clock is right."""
    round_trip: float | None = None
    """Seconds, as measured before; None where nothing recent is known."""
    by_meeting: bool = False
    """Whether both sides dial at once, at a moment that the relay has brokered."""

    def __str__(self) -> str:
        if self.by_meeting:
            return f"{self.endpoint} by a meeting"
        return f"{self.endpoint} from {self.source}" if self.source else str(self.endpoint)


Select = Callable[[Sequence[Candidate]], Sequence[Candidate]]
"""A program's own choice: returns the candidates to dial, the first choice first."""


def clearly_better(one: float, other: float) -> bool:
    """Whether a round trip is better than another by more than the margin."""
    return other - one > max(MARGIN_SECONDS, MARGIN_SHARE * other)


def open_candidates(
    guid: str, service: str, known: Iterable[SignedEntry | Endpoint], *, established: bool
) -> tuple[list[Candidate], list[str]]:
    """Check what is known; return the candidates by phase and recency, and what was dropped.

    Endpoints that are `leaving` are for established sessions only (the draft's IP1 after the move).
    """
    kept: dict[Endpoint, Candidate] = {}
    dropped = []
    for one in known:
        if isinstance(one, Endpoint):
            kept.setdefault(one, Candidate(one, None, Phase.NEW, None))
            continue
        try:
            entry = open_entry(guid, one)
        except ProtocolViolation as error:
            dropped.append(error.reason)
            continue
        if entry.service != service:
            dropped.append(f"{entry.endpoint} is for {entry.service}, not {service}")
        elif entry.phase is Phase.LEAVING and not established:
            dropped.append(f"{entry.endpoint} is leaving: for old sessions only")
        else:
            candidate = Candidate(entry.endpoint, None, entry.phase, entry.provenance, entry.seq)
            kept.setdefault(entry.endpoint, candidate)
    # Stable: within a phase and a record, the peer's own order holds.
    return sorted(kept.values(), key=lambda c: (c.phase.rank, -c.seq)), dropped


def newest(known: Iterable[SignedEntry | Endpoint]) -> int:
    """Return the highest number of a record among entries that may be unchecked; 0 for none."""
    numbers = [0]
    for one in known:
        if isinstance(one, SignedEntry):
            with contextlib.suppress(ProtocolViolation):
                numbers.append(read_entry(one).seq)
    return max(numbers)


def in_order(
    candidates: Sequence[Candidate], rank: Callable[[Candidate], tuple[int, ...]]
) -> list[Candidate]:
    """Put candidates in the order of `fastest`: what the policy prefers (`rank`), then the phase,
    then known round trips in steps of the margin, then as they were: the latest first."""

    def key(candidate: Candidate) -> tuple[tuple[int, ...], bool, float]:
        known = candidate.round_trip
        step = float("inf") if known is None else round(known / MARGIN_SECONDS)
        return rank(candidate), candidate.phase is Phase.LEAVING, step

    return sorted(candidates, key=key)
