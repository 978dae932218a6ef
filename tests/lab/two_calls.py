"""A caller that opens a session, closes it, and opens another one when it is told to.

`python -m tests.lab.two_calls CONFIG GUID` prints where each session went and why; a line on
standard input asks for the second.
"""

import asyncio
import sys

from peers import Identity, Peer, PeerConfig


async def main() -> None:
    config, guid = PeerConfig.load(sys.argv[1]), sys.argv[2]
    async with Peer(Identity.generate(), config=config) as peer:
        for _ in range(2):
            session = await peer.connect(guid, "chat")
            await session.send(b"hello")
            assert await session.receive() == b"hello"
            print("connected", session.path, session.explain().events, flush=True)
            await session.close()
            await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(main())
