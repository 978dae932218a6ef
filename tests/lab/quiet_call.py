"""A caller that says nothing until its network has taught it how long a path may be quiet, then
sends a line, and prints what `explain` says of it."""

import asyncio
import sys

from peers import Identity, Mode, Peer
from peers.config.peer import PeerConfig

_TIMEOUT = 60.0


async def main(config: str, guid: str) -> None:
    """Wait until a path has died of quiet, and another one has been quiet for long after that."""
    async with (
        asyncio.timeout(_TIMEOUT),
        Peer(Identity.generate(), config=PeerConfig.load(config)) as peer,
        await peer.connect(guid, "chat", mode=Mode.P2P) as session,
    ):
        async for change in session.events():
            if change.path is None:
                break
        async for change in session.events():
            if change.path is not None:
                break
        while (explained := session.explain()).keepalive.count("died after") == 0:
            await asyncio.sleep(0.1)
        await session.send(b"line 0")
        await session.acknowledged()
        print(explained.keepalive, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
