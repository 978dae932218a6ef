"""A program with a conversation, to be killed: it says on its own table what it has sent and done.

`python -m tests.peers.conversations.talker RELAY KEY OTHER STORE COUNT [HOSTS]`. It prints a
line for everything that it does, and `over` when all that it had to send is delivered and all that
was to come is done. Started anew it goes on where it was. It is at the first of two hosts (with a
comma between them), and moves to the other one at SIGUSR1.
"""

import asyncio
import signal
import sqlite3
import sys

from msgspec import structs

from peers import Conversation, Identity, Peer, PeerConfig, StoreFull
from protocol.session import SessionSettings
from tests.support.addresses import Addresses, absent_addresses

QUICK = SessionSettings(ping_interval=0.5, silence_limit=2.0, resume_window=5.0)
"""So that who was killed is missed soon."""


def say(word: str) -> None:
    print(word, flush=True)


def count(store: str, what: str) -> int:
    with sqlite3.connect(store) as db:
        db.execute("CREATE TABLE IF NOT EXISTS told (what TEXT, payload BLOB)")
        found = db.execute("SELECT count(*) FROM told WHERE what = ?", (what,)).fetchone()[0]
    db.close()
    return int(found)


async def send(chat: Conversation, begin: int, most: int) -> None:
    for number in range(begin, most):
        payload = b"%d" % number
        while True:
            try:
                await chat.send(
                    payload,
                    also=lambda db, payload=payload: db.execute(
                        "INSERT INTO told VALUES ('sent', ?)", (payload,)
                    ),
                )
                break
            except StoreFull:
                await asyncio.sleep(0.05)
        say("sent")


async def read(chat: Conversation, begin: int, most: int) -> None:
    if begin == most:
        return
    async for message in chat:
        payload = message.payload
        while True:
            try:
                await message.done(
                    also=lambda db, payload=payload: db.execute(
                        "INSERT INTO told VALUES ('done', ?)", (payload,)
                    )
                )
                break
            except StoreFull:
                await asyncio.sleep(0.05)
        say("done")
        begin += 1
        if begin == most:
            return


def at_hosts(hosts: tuple[str, ...]) -> tuple[PeerConfig, Addresses | None]:
    """Return where a peer is that moves; one without hosts is where all tests are."""
    config = PeerConfig(session=QUICK, wait_for_relay=True)
    if not hosts:
        return config, None
    addresses = Addresses(hosts)

    def move() -> None:
        addresses.set(*(host for host in hosts if host not in addresses.hosts))

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, move)
    return structs.replace(config, sources=hosts, listen_hosts=("0.0.0.0",)), addresses


async def main(
    relay: str, key: str, other: str, store: str, most: int, hosts: tuple[str, ...]
) -> None:
    config, addresses = at_hosts(hosts)
    sent, done = count(store, "sent"), count(store, "done")
    async with (
        Peer(Identity.load(key), relay, config=config, addresses=addresses) as peer,
        peer.conversation(other, "chat", store=store) as chat,
    ):
        say("open")
        await asyncio.gather(send(chat, sent, most), read(chat, done, most))
        for left in await chat.outgoing():
            async for state in chat.follow(left.id):
                if state.state not in ("queued", "stored"):
                    break
        say("over")
        await asyncio.to_thread(sys.stdin.read)  # The other side may need this one still.


if __name__ == "__main__":
    relay, key, other, store, most, *more = sys.argv[1:]
    hosts = tuple(host for word in more for host in word.split(","))
    with absent_addresses():
        asyncio.run(main(relay, key, other, store, int(most), hosts))
