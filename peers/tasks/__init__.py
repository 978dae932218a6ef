"""Tasks with owners, and waiting for them."""

from peers.tasks.backoff import backoff
from peers.tasks.race import race
from peers.tasks.spawn import Spawn
from peers.tasks.waiting import Waiters, unless

__all__ = [
    "Spawn",
    "Waiters",
    "backoff",
    "race",
    "unless",
]
