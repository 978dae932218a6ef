"""Our own end of a measured conversation, by the public library alone and with its defaults.

python -m tests.lab.moves.ours listen URL
python -m tests.lab.moves.ours connect URL GUID MODE
"""

import asyncio
import sys

from peers import Identity, Mode, Peer
from tests.lab.moves.conversation import Conversation, say


async def _talk(conversation: Conversation, session) -> None:
    async def receive() -> None:
        async for message in session:
            conversation.received(message)

    say("up")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(receive())
        tasks.create_task(conversation.send_by(session.send))


async def _main(role: str, url: str, *other: str) -> None:
    conversation = Conversation()
    identity = Identity.generate()
    async with Peer(identity, relay=url) as peer:
        if role == "listen":
            serving = asyncio.create_task(
                peer.serve("chat", lambda session: _talk(conversation, session))
            )
            await peer.published()
            say(f"ready {identity.guid}")
            await conversation.listen_to_orders()
            serving.cancel()
        else:
            guid, mode = other
            session = await peer.connect(guid, "chat", mode=Mode(mode))
            await conversation.run(lambda: _talk(conversation, session))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
