"""Messages that arrive although neither program runs for long: the smallest useful program.

    python examples/letters.py http://127.0.0.1:8440 alice read
    python examples/letters.py http://127.0.0.1:8440 bob write GUID 'Are you there?'

Each has its key in NAME.key and its messages in NAME.db. `read` prints its GUID, and then what
comes, from whomever; `write` ends when the message is in the other one's store, or, where that one
is away and has read before, in the mailbox of the relay. Kill either as often as you like, and
start it again: nothing is lost.
"""

import asyncio
import sys

from peers import Conversation, Identity, MessageState, Peer


async def show(chat: Conversation) -> None:
    async for message in chat:
        print(f"{message.sender[:8]}: {message.payload.decode(errors='replace')}", flush=True)


async def read(peer: Peer, store: str) -> None:
    print(peer.guid, flush=True)
    async with asyncio.TaskGroup() as tasks:
        async for chat in peer.conversations("letters", store=store):
            tasks.create_task(show(chat))


async def write(peer: Peer, store: str, guid: str, *texts: str) -> None:
    async with peer.conversation(guid, "letters", store=store) as chat:
        for text in texts:
            await chat.send(text.encode())
        for left in await chat.outgoing():  # Also what an earlier run has left.
            async for now in chat.follow(left.id):
                if now.state is not MessageState.QUEUED:
                    print(f"{now.state.value}: {left.id}", flush=True)
                    break


async def main(relay: str, name: str, what: str, *rest: str) -> None:
    async with Peer(Identity.load_or_create(f"{name}.key"), relay) as peer:
        if what == "read":
            await read(peer, f"{name}.db")
        else:
            await write(peer, f"{name}.db", *rest)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
