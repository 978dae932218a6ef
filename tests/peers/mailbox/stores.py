"""A store for the mailbox alone, and one that fails when the test says so."""

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from peers.mailbox import MIGRATION
from protocol.errors import RoamRelayError

_T = TypeVar("_T")


class Database:
    """In memory, and in the loop's own thread."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.executescript(MIGRATION)
        self.fails = False
        self.failures = 0

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        if self.fails:
            self.failures += 1
            raise RoamRelayError("the disk is full")
        self.connection.execute("BEGIN")
        try:
            result = work(self.connection)
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")
        return result

    def close(self) -> None:
        self.connection.close()
