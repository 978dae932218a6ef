"""A peer of the Python library for the package's tests: it says its GUID, echoes what is said to
its service `chat`, and calls whoever is named on a line of its input, in the mode that stands
behind the name, to echo there as well. Behind the relay's address, the locks that it takes."""

import asyncio
import sys

from peers import Identity, Peer, PeerConfig, RoamRelayError, Session
from protocol.lock import Lock


async def echo(session: Session) -> None:
    try:
        async for message in session:
            await session.send(message)
        await session.close()
    except RoamRelayError as error:
        print(f"lost: {error}", flush=True)


async def main() -> None:
    locks = tuple(Lock(word) for word in sys.argv[2:]) or tuple(Lock)
    config = PeerConfig(relay=sys.argv[1], locks=locks)
    async with Peer(Identity.generate(), config=config) as peer:
        serving = asyncio.ensure_future(peer.serve("chat", echo))
        await peer.published()
        print(peer.guid, flush=True)
        calls = []
        while words := (await asyncio.to_thread(sys.stdin.readline)).split():
            mode = words[1] if len(words) > 1 else "auto"
            session = await peer.connect(words[0], "chat", mode=mode, wait=True)
            calls.append(asyncio.ensure_future(echo(session)))
        for task in (serving, *calls):
            task.cancel()
        await asyncio.gather(serving, *calls, return_exceptions=True)


asyncio.run(main())
