"""Kills a program at every SQL statement, and looks whether what is left is whole.

Run as a program: `python -m tests.peers.conversations.killed FOLDER FIRST STEP`. Both sides of a
conversation, each with a file, are played in a child that exits at statement number n; then both
stores are opened again and what waits is delivered. Each side's own table says what its program has
sent and done, written in the same transactions: they must agree. Prints how many statements there
were, and of which the stores were not whole.
"""

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

from peers.conversations import tables
from protocol.conversation import Receipt
from tests.peers.conversations.test_link import Disk, Side, World

COUNT = 6
"""Messages each way."""


class File(Disk):
    """A database in a file, that counts statements and exits at one of them."""

    def __init__(self, file: Path, left: list[int] | None = None) -> None:
        is_new = not file.exists()
        self.connection = sqlite3.connect(file, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = OFF")  # Nothing but programs is killed.
        if is_new:
            self.connection.executescript(";".join(tables.MIGRATIONS))
            self.connection.execute("CREATE TABLE told (what TEXT, payload BLOB)")
        if left is not None:

            def count(statement: str) -> None:
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)

            self.connection.set_trace_callback(count)


def tell(what: str, payload: bytes) -> Callable[[sqlite3.Connection], object]:
    return lambda db: db.execute("INSERT INTO told VALUES (?, ?)", (what, payload))


async def use(side: Side, name: bytes) -> None:
    """What a program does in its life."""
    await side.start()
    for number in range(COUNT):
        payload = name + b"%d" % number
        expires = 0.0 if number == 1 else None
        sent = await side.keeper.add(payload, expires, tell("sent", payload))
        if number == 2:
            await side.keeper.cancel(sent)
    await side.keeper.expire()


async def read(side: Side, limit: int = 1_000) -> None:
    await side.start()
    for waiting in await side.keeper.inbox(0, limit):
        receipt = Receipt(waiting.id, None if waiting.position % 2 else "no")
        await side.keeper.done(waiting.position, receipt, tell("done", waiting.payload))


async def live(world: World) -> None:
    for side, name in zip(world.sides, (b"a", b"b"), strict=True):
        await use(side, name)
    await world.connect()
    for limit in (1, 2, 100):
        for _ in range(12):
            await asyncio.sleep(0)
        for side in world.sides:
            await read(side, limit)
        if limit == 2:
            await world.sides[0].kill()
            await world.connect()
    await world.close()


async def recover(world: World) -> str | None:
    """Deliver what is left; return what is wrong, None where nothing is."""
    for side in world.sides:
        side.read = lambda limit, side=side: read(side, limit)
    await world.settle()
    told = []
    for side in world.sides:
        db = side.disk.connection
        told.append(
            [
                [row[0] for row in db.execute("SELECT payload FROM told WHERE what = ?", (what,))]
                for what in ("sent", "done")
            ]
        )
        kept = db.execute(
            "SELECT state, count(*) FROM roam_outgoing WHERE state <> 'receipt' GROUP BY state"
        ).fetchall()
        if {state for state, _ in kept} & {"queued", "stored"}:
            return f"left: {kept}"
        if db.execute("SELECT count(*) FROM roam_breach").fetchone() != (0,):
            return "out of step"
    (sent, done), (sent_there, done_there) = told
    for out, came in ((sent, done_there), (sent_there, done)):
        # Two of them expire or are taken back, unless the program was killed before.
        if came != [one for one in out if one in came] or len(set(came)) != len(came):
            return f"sent {out}, done {came}"
        if {one for one in out if one[1:] not in (b"1", b"2")} - set(came):
            return f"sent {out}, done {came} only"
    await world.close()
    return None


def world_in(folder: Path, left: list[int] | None = None) -> World:
    world = World()
    for number, side in enumerate(world.sides):
        side.disk.connection.close()
        side.disk = File(folder / f"{number}.db", left)
    return world


async def run(folder: Path, number: int) -> None:
    await live(world_in(folder, [number]))


def main(folder: Path, first: int, step: int) -> None:
    wrong, number = [], first
    while True:
        place = folder / str(number)
        place.mkdir()
        # The tables are made before: their own transaction is SQLite's to keep whole.
        for side in world_in(place).sides:
            side.disk.connection.close()
        child = os.fork()
        if child == 0:
            asyncio.run(run(place, number))
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        fault = asyncio.run(recover(world_in(place)))
        if fault is not None:
            wrong.append(f"{number}: {fault}")
        if code == 0:
            break
        if code != 9:
            wrong.append(f"{number}: the child ended with {code}")
            break
        number += step
    print(json.dumps({"statements": number, "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
