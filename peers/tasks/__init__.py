"""Tasks with owners, and waiting for them."""

from peers.tasks.backoff import backoff
from peers.tasks.guard import calling
from peers.tasks.race import race
from peers.tasks.spawn import Spawn, Tasks
from peers.tasks.waiting import Waiters, unless

__all__ = [
    "Spawn",
    "Tasks",
    "Waiters",
    "backoff",
    "calling",
    "race",
    "unless",
]
