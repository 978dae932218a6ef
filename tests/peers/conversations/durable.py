"""A recipient and a sender with a real store, whose every word is a system call of its own: `python
-m tests.peers.conversations.durable STORE COUNT`. To be run under strace."""

import asyncio
import os
import sys

from peers.conversations import tables
from peers.conversations.database import Database
from peers.conversations.keeper import load_keeper
from peers.conversations.link import Link, Links
from protocol.conversation import (
    Acknowledged,
    Announced,
    Letter,
    Messages,
    pack_frame,
    pack_item,
    read_frame,
)
from tests.peers.conversations.test_link import Wire

LINE = b"l" * 16


def say(word: str) -> None:
    os.write(1, f"{word}\n".encode())


class Said(Wire):
    """The end of the program under test: what it says leaves by a write."""

    async def send(self, data: bytes) -> None:
        frame = read_frame(data)
        if isinstance(frame, Acknowledged):
            say(f"delivered {frame.received}")
        await super().send(data)


async def main(store: str, count: int) -> None:
    database = Database(store, tables.MIGRATIONS)
    await database.open("x" * 52)
    keeper = await load_keeper(database, "y" * 52, "chat")
    here, there = Said(), Wire()
    here.other, there.other = there, here
    carrying = asyncio.create_task(Link(here, keeper, Links(), opened_here=True).run())
    await there.send(pack_frame(Announced(LINE, 1)))
    answers = aiter(there)
    await anext(answers)
    for number in range(1, count + 1):
        item = pack_item(Letter(os.urandom(16), 1.0, b"hello"))
        await there.send(pack_frame(Messages(LINE, number, (item,))))
        await anext(answers)
    carrying.cancel()
    await asyncio.gather(carrying, return_exceptions=True)
    for number in range(1, count + 1):
        await keeper.add(b"hello", None, None)
        say(f"safe {number}")
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
