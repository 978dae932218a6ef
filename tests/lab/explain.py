"""A caller that opens one session, prints why its path is what it is, and ends."""

import asyncio
import sys

from peers import Identity, Peer
from peers.config.peer import PeerConfig

_TIMEOUT = 20.0


async def main(config: str, guid: str, mode: str) -> None:
    """Print `session.explain()` of a new session with `chat` of a peer."""
    async with (
        asyncio.timeout(_TIMEOUT),
        Peer(Identity.generate(), config=PeerConfig.load(config)) as peer,
    ):
        session = await peer.connect(guid, "chat", mode=mode)
        async with session:
            print(session.explain())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
