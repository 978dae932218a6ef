"""Tasks with owners, and waiting for them."""

from peers.tasks.attempts import Attempts, failure_of
from peers.tasks.backoff import LONGEST_WITHOUT_PATH, backoff
from peers.tasks.events import EventQueue
from peers.tasks.guard import calling, check_loop, running_loop
from peers.tasks.race import race
from peers.tasks.spawn import Spawn, Tasks
from peers.tasks.waiting import Waiters, unless

__all__ = [
    "LONGEST_WITHOUT_PATH",
    "Attempts",
    "EventQueue",
    "Spawn",
    "Tasks",
    "Waiters",
    "backoff",
    "calling",
    "check_loop",
    "failure_of",
    "race",
    "running_loop",
    "unless",
]
