"""The table of budgets: how much there is of what, and the share of each who causes it.

What is not configured is derived: from what is, and from the files that the process may open. The
table for the operator is in docs/security.md.
"""

from dataclasses import dataclass

from relay.limits.shares import Bounds

__all__ = ["PlaneBudget", "plane_budget", "record_budget", "record_weight"]

_MOST_PIPES = 128
"""Pipes of all planes: one for each direction that moves bytes, or whose target does not read."""
_RECORD_UNIT = 8 << 10
"""Bytes of memory by which records are counted. One that takes less, as nearly all do, is part of
what a connection may have."""
_IN_MEMORY = 3
"""Times as many bytes as on the wire."""
_RECORDS = 65_536
"""Units for all records: 512 MiB; twice as many as there may be connections where that is more."""
_WAITING_EACH = 64
"""Planes of one key that may wait for a leg: as many as one connection may have requests wait."""


@dataclass(frozen=True, slots=True)
class PlaneBudget:
    """How many planes there may be."""

    waiting: Bounds
    """That wait for a leg."""
    at_one: Bounds
    """Of them, those for which one callee is asked: it holds a connection for each."""
    joined: Bounds
    pipes: int
    """For all of them."""


def plane_budget(waiting: int, joined: int, descriptors: int) -> PlaneBudget:
    """Return the budget of planes: what is configured, and no more than half of the descriptors.

    A plane that waits holds one leg, one that is joined two, and a pipe has two ends.
    """
    pipes = max(4, min(_MOST_PIPES, descriptors // 32))
    waiting = max(1, min(waiting, descriptors // 8))
    left = descriptors // 2 - 2 * pipes - waiting
    joined = max(1, min(joined, left // 2))
    each = max(waiting // 16, min(_WAITING_EACH, waiting // 2), 1)
    return PlaneBudget(
        Bounds.of(waiting, key=each),
        Bounds(4 * _WAITING_EACH, 3 * _WAITING_EACH, 2 * _WAITING_EACH, _WAITING_EACH),
        Bounds.of(joined),
        pipes,
    )


def record_weight(size: int) -> int:
    """Return what a location record of so many bytes counts as, while its peer is here; 0 for a
    small one."""
    return _IN_MEMORY * size // _RECORD_UNIT


def record_budget(connections: int) -> Bounds:
    """Return how much all records may count as, where there may be so many connections."""
    units = max(_RECORDS, 2 * connections)
    return Bounds(units, units // 2, units // 4, units)
