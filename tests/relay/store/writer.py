"""A program that stores one number after the other, and says each when it is stored."""

import asyncio
import itertools
import operator
import sys

from relay.store import Database
from tests.relay.store.tables import TABLES


async def write(file: str) -> None:
    database = Database(file, TABLES, "test")
    await database.open()
    for number in itertools.count(1):
        insert = f"INSERT INTO rows VALUES ({number})"
        await database.run(operator.methodcaller("execute", insert))
        print(number, flush=True)


asyncio.run(write(sys.argv[1]))
